import type { Static } from '@sinclair/typebox'
import { words } from '../../common/schema.ts'
import { block, defaults, flag, integer, optional, type Resolved, type Rule } from '../schema-types.ts'
import { backup } from './backup.ts'
import { bootstrap } from './bootstrap.ts'
import { changeLog } from './change-log.ts'
import { limits } from './limits.ts'
import { maintenance } from './maintenance.ts'
import { monitoring } from './monitoring.ts'
import { resources } from './parts.ts'
import { podTemplate } from './pod-template.ts'
import { recovery } from './recovery.ts'
import { security } from './security.ts'
import { image, storage } from './storage.ts'
import { ENGINES, TUNING_RULES, tuning } from './tuning.ts'
import { updatePolicy } from './update-policy.ts'

/** What needs backups needs a destination. */
const BACKUP_RULES: readonly Rule[] = [
  {
    rule: "self.recovery.onCorruption != 'RestoreLatest' || has(self.backup)",
    message: 'recovery.onCorruption RestoreLatest needs spec.backup',
    fieldPath: '.recovery.onCorruption',
  },
  {
    rule: "self.recovery.onCorruption != 'Salvage' || self.engine == 'SQLite'",
    message: 'recovery.onCorruption Salvage is for engine SQLite alone; use RestoreLatest',
    fieldPath: '.recovery.onCorruption',
  },
  {
    rule: 'has(self.backup) || !has(self.bootstrap) || !has(self.bootstrap.restore) || !has(self.bootstrap.restore.source) || has(self.bootstrap.restore.source.volume) || has(self.bootstrap.restore.source.s3)',
    message: 'bootstrap.restore.source needs volume or s3, or a destination in spec.backup',
    fieldPath: '.bootstrap.restore.source',
  },
]

/** `spec` of KvidxDatabase. */
export const databaseSpec = block(
  { description: 'What the database should be.', rules: [...TUNING_RULES, ...BACKUP_RULES] },
  {
    engine: defaults(
      words(ENGINES, {
        description:
          'Storage engine. SQLite: mixed work, one file. LMDB: many reads. RocksDB: many writes, large data. Cannot change: restore a backup into a new database with another engine.',
        'x-kubernetes-validations': [
          {
            rule: 'self == oldSelf',
            message: 'engine cannot change: restore a backup into a new database with another engine',
          },
        ],
      }),
      'SQLite',
    ),
    replicas: defaults(
      integer({
        description: 'Number of pods. Only 1 until replication exists.',
        minimum: 1,
        maximum: 9,
        rules: [{ rule: 'self == 1', message: 'replicas must be 1: replication does not exist yet' }],
      }),
      1,
    ),
    storage,
    tuning,
    backup: optional(backup),
    bootstrap: optional(bootstrap),
    recovery,
    changeLog,
    limits,
    maintenance,
    monitoring,
    security,
    podTemplate,
    resources: optional(
      resources(
        'Resources of the database container. Default: requests and a memory limit that follow from cache and map sizes.',
      ),
    ),
    image: optional(image),
    imagePullPolicy: defaults(
      words(['IfNotPresent', 'Always', 'Never'], { description: 'When the image is pulled.' }),
      'IfNotPresent',
    ),
    updatePolicy,
    suspend: defaults(
      flag(
        'Stop reconciling: the database and its backups go on as they are; deletion is still carried out. Default false.',
      ),
      false,
    ),
    hibernate: defaults(
      flag(
        'Take a last backup (if there is a destination), shut down cleanly and run no pods. Volumes stay. Default false.',
      ),
      false,
    ),
  },
)

/** As people write it: what has a default may be absent. */
export type KvidxDatabaseSpec = Static<typeof databaseSpec>

/** With every default filled in, also those that depend on the engine. */
export type ResolvedDatabaseSpec = Resolved<typeof databaseSpec>
