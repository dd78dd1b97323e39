import type { Static } from '@sinclair/typebox'
import { words } from '../../common/schema.ts'
import { GROUP, type KindDefinition, type ObjectMetadata, objectSchema } from '../kind.ts'
import { block, defaults, flag, integer, optional, type Resolved, text } from '../schema-types.ts'
import { BACKUP_TYPES } from './backup.ts'
import { conditions } from './conditions.ts'
import { databaseName } from './parts.ts'

export const BACKUP_PHASES = ['Pending', 'Running', 'Verifying', 'Completed', 'Failed'] as const
export type BackupPhase = (typeof BACKUP_PHASES)[number]

const count = (description: string) => optional(integer({ description, minimum: 0, maximum: 2 ** 53 - 1 }))
const line = (description: string, maxLength = 256) => optional(text({ description, maxLength }))
const moment = (description: string) =>
  optional(text({ description: `${description} RFC 3339.`, maxLength: 40, format: 'date-time' }))

export const backupSpec = block(
  {
    description: 'One backup. It cannot change.',
    rules: [{ rule: 'self == oldSelf', message: 'the spec of a backup cannot change: make a new one' }],
  },
  {
    database: databaseName('The KvidxDatabase in the same namespace.'),
    type: defaults(
      words(BACKUP_TYPES, {
        description:
          'Full: everything. Incremental: changes since the last backup, or Full when the change log no longer reaches back. VolumeSnapshot: a CSI snapshot.',
      }),
      'Full',
    ),
    verify: optional(flag('Restore it into a scratch engine and compare count and digest. Default: true for Full.')),
    deletionPolicy: defaults(
      words(['Retain', 'Delete'], {
        description:
          'What becomes of the stored backup when this object is deleted. Delete is refused while a kept increment needs it.',
      }),
      'Retain',
    ),
  },
)

export const backupStatus = block(
  { description: 'What came of it.' },
  {
    observedGeneration: count('The generation that this tells of.'),
    conditions: optional(conditions),
    phase: optional(
      words(BACKUP_PHASES, {
        description: 'Completed: stored and read back; verifiedAt says whether it was also restored and compared.',
      }),
    ),
    lineage: line('Lineage of the database.', 64),
    position: line('Position of the backup, epoch.seq.', 64),
    records: count('Stored records in it.'),
    dataBytes: count('Sum of their data, bytes.'),
    storedBytes: count('Size in the store, bytes.'),
    size: line('storedBytes for people.', 32),
    digest: line('Content digest, 32 hex digits.', 32),
    slices: count('Its snapshot was cut (limits.snapshotGrowth), so it was read in so many key slices.'),
    location: line('Where it lies.', 1024),
    type: optional(words(BACKUP_TYPES, { description: 'What it became: an Incremental may have become Full.' })),
    consistency: optional(
      words(['Exact', 'Crash'], {
        description: 'VolumeSnapshot: taken while writes stood still, or as after a power loss.',
      }),
    ),
    parent: line('The backup that it builds on.'),
    startedAt: moment('When it began.'),
    completedAt: moment('When it was stored and read back.'),
    verifiedAt: moment('When it was restored and compared.'),
    verification: optional(
      words(['Pending', 'Verified', 'Failed', 'Skipped'], { description: 'Result of restoring and comparing.' }),
    ),
    job: line('The Job that made it.'),
    error: line('Why it failed.', 4096),
    code: line('Stable code of the error.', 64),
    engine: line('Engine of the database.', 64),
    version: line('Version of the software that made it.', 64),
  },
)

export type KvidxBackupSpec = Static<typeof backupSpec>
export type ResolvedBackupSpec = Resolved<typeof backupSpec>
export type KvidxBackupStatus = Static<typeof backupStatus>

export const KVIDX_BACKUP = {
  group: GROUP,
  version: 'v1alpha1',
  kind: 'KvidxBackup',
  plural: 'kvidxbackups',
  singular: 'kvidxbackup',
  shortNames: ['kvbak'],
  description: 'One backup of a KvidxDatabase, made by a schedule or by hand.',
  namespaced: true,
  spec: backupSpec,
  status: backupStatus,
  rules: [
    {
      rule: 'self.metadata.name.size() <= 63',
      message: 'the name must be at most 63 characters long: it is part of names in the store',
      fieldPath: '.metadata.name',
    },
  ],
  columns: [
    { name: 'Database', type: 'string', jsonPath: '.spec.database', description: 'KvidxDatabase' },
    { name: 'Type', type: 'string', jsonPath: '.spec.type', description: 'Kind of backup' },
    { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'State' },
    { name: 'Records', type: 'integer', jsonPath: '.status.records', description: 'Stored records' },
    { name: 'Size', type: 'string', jsonPath: '.status.size', description: 'Size in the store' },
    {
      name: 'Verified',
      type: 'date',
      jsonPath: '.status.verifiedAt',
      description: 'Since it was restored and compared',
    },
    { name: 'Position', type: 'string', jsonPath: '.status.position', description: 'Position', priority: 1 },
    { name: 'Parent', type: 'string', jsonPath: '.status.parent', description: 'What it builds on', priority: 1 },
    { name: 'Error', type: 'string', jsonPath: '.status.error', description: 'Why it failed', priority: 1 },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Since creation' },
  ],
} as const satisfies KindDefinition

/** For the checks of this process: whole objects. */
export const kvidxBackupSchema = objectSchema(KVIDX_BACKUP)

export interface KvidxBackup {
  readonly apiVersion: 'kvidx.io/v1alpha1'
  readonly kind: 'KvidxBackup'
  readonly metadata: ObjectMetadata
  readonly spec: KvidxBackupSpec
  readonly status?: KvidxBackupStatus
}
