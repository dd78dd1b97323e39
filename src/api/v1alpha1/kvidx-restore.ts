import type { Static } from '@sinclair/typebox'
import { words } from '../../common/schema.ts'
import { GROUP, type KindDefinition, type ObjectMetadata, objectSchema } from '../kind.ts'
import { block, defaults, flag, integer, optional, type Resolved, text } from '../schema-types.ts'
import { conditions } from './conditions.ts'
import { databaseName, objectName, position, time } from './parts.ts'

export const RESTORE_PHASES = ['Pending', 'Staging', 'Verifying', 'Swapping', 'Completed', 'Failed'] as const
export type RestorePhase = (typeof RESTORE_PHASES)[number]

const count = (description: string) => optional(integer({ description, minimum: 0, maximum: 2 ** 53 - 1 }))
const line = (description: string, maxLength = 256) => optional(text({ description, maxLength }))
const moment = (description: string) =>
  optional(text({ description: `${description} RFC 3339.`, maxLength: 40, format: 'date-time' }))

const from = block(
  {
    description: 'What is restored: exactly one of backup, time, position and latest.',
    rules: [
      {
        rule: '(has(self.backup) ? 1 : 0) + (has(self.time) ? 1 : 0) + (has(self.position) ? 1 : 0) + (has(self.latest) ? 1 : 0) == 1',
        message: 'exactly one of backup, time, position and latest is allowed',
      },
    ],
  },
  {
    backup: optional(objectName('A KvidxBackup in the same namespace.')),
    time: optional(time('The state of this moment, on the ancestry of the current epoch.')),
    position: optional(position('The state of this position.')),
    latest: optional(
      words(['Backup', 'Change'], {
        description: 'Backup: the newest good backup. Change: the newest change in the store.',
      }),
    ),
  },
)

export const restoreSpec = block(
  {
    description: 'An in-place restore. It cannot change.',
    rules: [{ rule: 'self == oldSelf', message: 'the spec of a restore cannot change: make a new one' }],
  },
  {
    database: databaseName('The KvidxDatabase in the same namespace.'),
    from,
    atEpoch: integer({
      description:
        'The epoch that the database must be in, so that applying this object again does nothing. kvidx restore fills it in.',
      minimum: 1,
      maximum: 2 ** 53 - 1,
    }),
    dryRun: defaults(flag('Only say what would change: records added, removed and changed. Default false.'), false),
  },
)

export const restoreStatus = block(
  { description: 'What came of it.' },
  {
    observedGeneration: count('The generation that this tells of.'),
    conditions: optional(conditions),
    phase: optional(words(RESTORE_PHASES, { description: 'The database serves until Swapping.' })),
    source: line('The backup and changes that are restored.', 1024),
    target: line('Position that is restored, epoch.seq.', 64),
    epoch: count('The epoch that began with it.'),
    records: count('Records after it.'),
    digest: line('Content digest after it, 32 hex digits.', 32),
    added: count('Records that the database did not have.'),
    removed: count('Records that it has no more.'),
    changed: count('Records that are different.'),
    quarantine: line('Where the data before it is kept.', 512),
    startedAt: moment('When it began.'),
    completedAt: moment('When it ended.'),
    error: line('Why it failed.', 4096),
    code: line('Stable code of the error.', 64),
  },
)

export type KvidxRestoreSpec = Static<typeof restoreSpec>
export type ResolvedRestoreSpec = Resolved<typeof restoreSpec>
export type KvidxRestoreStatus = Static<typeof restoreStatus>

export const KVIDX_RESTORE = {
  group: GROUP,
  version: 'v1alpha1',
  kind: 'KvidxRestore',
  plural: 'kvidxrestores',
  singular: 'kvidxrestore',
  shortNames: ['kvres'],
  description:
    'An in-place restore of a KvidxDatabase. A new database from a backup is made by spec.bootstrap of KvidxDatabase.',
  namespaced: true,
  spec: restoreSpec,
  status: restoreStatus,
  rules: [
    {
      rule: 'self.metadata.name.size() <= 63',
      message: 'the name must be at most 63 characters long',
      fieldPath: '.metadata.name',
    },
  ],
  columns: [
    { name: 'Database', type: 'string', jsonPath: '.spec.database', description: 'KvidxDatabase' },
    { name: 'Phase', type: 'string', jsonPath: '.status.phase', description: 'State' },
    { name: 'Target', type: 'string', jsonPath: '.status.target', description: 'Position' },
    { name: 'Records', type: 'integer', jsonPath: '.status.records', description: 'Records after it' },
    { name: 'Dry Run', type: 'boolean', jsonPath: '.spec.dryRun', description: 'Changes nothing', priority: 1 },
    { name: 'Error', type: 'string', jsonPath: '.status.error', description: 'Why it failed', priority: 1 },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Since creation' },
  ],
} as const satisfies KindDefinition

/** For the checks of this process: whole objects. */
export const kvidxRestoreSchema = objectSchema(KVIDX_RESTORE)

export interface KvidxRestore {
  readonly apiVersion: 'kvidx.io/v1alpha1'
  readonly kind: 'KvidxRestore'
  readonly metadata: ObjectMetadata
  readonly spec: KvidxRestoreSpec
  readonly status?: KvidxRestoreStatus
}
