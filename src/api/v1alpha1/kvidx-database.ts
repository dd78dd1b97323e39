import { GROUP, type KindDefinition, type ObjectMetadata, objectSchema } from '../kind.ts'
import { databaseSpec, type KvidxDatabaseSpec } from './database-spec.ts'
import { databaseStatus, type KvidxDatabaseStatus } from './database-status.ts'
import { DATABASE_NAME_PATTERN } from './parts.ts'

/** Names that would meet those of owned objects of another database. */
const RESERVED_ENDINGS = ['-ro', '-headless', '-prune', '-backups'] as const

export const KVIDX_DATABASE = {
  group: GROUP,
  version: 'v1alpha1',
  kind: 'KvidxDatabase',
  plural: 'kvidxdatabases',
  singular: 'kvidxdatabase',
  shortNames: ['kvdb'],
  description: 'A kvidx database: an ordered key-value store over SQLite, LMDB or RocksDB, with its backups.',
  namespaced: true,
  spec: databaseSpec,
  status: databaseStatus,
  rules: [
    {
      rule: `self.metadata.name.size() <= 32 && self.metadata.name.matches('${DATABASE_NAME_PATTERN}')`,
      message:
        'the name must be at most 32 lower-case letters, digits and -, beginning with a letter and not ending with -',
      fieldPath: '.metadata.name',
    },
    {
      rule: `!(${RESERVED_ENDINGS.map(ending => `self.metadata.name.endsWith('${ending}')`).join(' || ')})`,
      message: `the name must not end with ${RESERVED_ENDINGS.join(', ')}: objects of other databases have such names`,
      fieldPath: '.metadata.name',
    },
  ],
  columns: [
    { name: 'Engine', type: 'string', jsonPath: '.spec.engine', description: 'Storage engine' },
    {
      name: 'Ready',
      type: 'string',
      jsonPath: ".status.conditions[?(@.type=='Ready')].status",
      description: 'Serves reads and writes',
    },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: ".status.conditions[?(@.type=='Ready')].reason",
      description: 'Why it is so',
      priority: 1,
    },
    { name: 'Keys', type: 'integer', jsonPath: '.status.data.keys', description: 'Stored records' },
    { name: 'Size', type: 'string', jsonPath: '.status.data.size', description: 'Files of the engine' },
    { name: 'Volume', type: 'string', jsonPath: '.spec.storage.size', description: 'Size of the volume', priority: 1 },
    {
      name: 'Last Backup',
      type: 'date',
      jsonPath: '.status.backup.lastSuccessful.time',
      description: 'Age of the last backup',
    },
    {
      name: 'Verified',
      type: 'date',
      jsonPath: '.status.backup.lastVerified.time',
      description: 'Age of the last verified backup',
      priority: 1,
    },
    { name: 'Position', type: 'string', jsonPath: '.status.data.position', description: 'Last commit', priority: 1 },
    { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Since creation' },
  ],
  scale: {
    specReplicasPath: '.spec.replicas',
    statusReplicasPath: '.status.replicas',
    labelSelectorPath: '.status.selector',
  },
} as const satisfies KindDefinition

/** For the checks of this process: whole objects. */
export const kvidxDatabaseSchema = objectSchema(KVIDX_DATABASE)

/** The object as it comes from the API server or a file. */
export interface KvidxDatabase {
  readonly apiVersion: 'kvidx.io/v1alpha1'
  readonly kind: 'KvidxDatabase'
  readonly metadata: ObjectMetadata
  readonly spec: KvidxDatabaseSpec
  readonly status?: KvidxDatabaseStatus
}
