import { duration, quantity, words } from '../../common/schema.ts'
import { defaultBlock, defaults, optional, type Rule } from '../schema-types.ts'

export const ENGINES = ['SQLite', 'LMDB', 'RocksDB'] as const
export type Engine = (typeof ENGINES)[number]

const PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] as const

/** Settings that one engine alone has, and their defaults for it. The API server cannot default by engine, so `withDefaults` does. */
export const ENGINE_DEFAULTS = {
  SQLite: { cacheSize: 'auto', journalMode: 'WAL', busyTimeout: '30s', mmapSize: '0', pageSize: '4Ki' },
  // the limit is address space, not disk: growing the volume must not restart the pod
  LMDB: { mapSize: '1Gi', mapSizeLimit: '16Ti' },
  RocksDB: { cacheSize: 'auto', compression: 'LZ4' },
} as const

export const tuning = defaultBlock(
  {
    description: 'Settings of the engine. One that the engine does not have is refused. A change restarts the pod.',
    rules: [
      {
        rule: 'has(self.pageSize) == has(oldSelf.pageSize) && (!has(self.pageSize) || self.pageSize == oldSelf.pageSize)',
        message: 'tuning.pageSize is fixed when the database is created: restore a backup into a new database instead',
        fieldPath: '.pageSize',
      },
      {
        rule: '!has(self.mapSize) || !has(self.mapSizeLimit) || !isQuantity(string(self.mapSize)) || !isQuantity(string(self.mapSizeLimit)) || quantity(string(self.mapSizeLimit)).compareTo(quantity(string(self.mapSize))) >= 0',
        message: 'tuning.mapSizeLimit must be at least tuning.mapSize',
        fieldPath: '.mapSizeLimit',
      },
    ],
  },
  {
    syncMode: defaults(
      words(['Full', 'Normal', 'Off'], {
        description:
          'When a write is acknowledged. Full: after it is on the disk; power loss loses nothing. Normal: process death loses nothing, power loss may lose the last moments. Off: for bulk loads that can be repeated.',
      }),
      'Full',
    ),
    cacheSize: optional(
      quantity({
        description:
          'SQLite, RocksDB: memory for pages or blocks, 1Mi to 1Ti. auto: 10 to 20 % of the data set, from 32Mi. Default auto.',
        min: '1Mi',
        max: '1Ti',
        words: ['auto'],
      }),
    ),
    journalMode: optional(
      words(['WAL', 'Delete', 'Truncate', 'Persist'], {
        description: 'SQLite: how changes are journalled. Only WAL lets reads go on beside writes. Default WAL.',
      }),
    ),
    busyTimeout: optional(
      duration({
        description: 'SQLite: how long to wait for a lock of another process, 1ms to 10m. Default 30s.',
        min: '1ms',
        max: '10m',
      }),
    ),
    mmapSize: optional(
      quantity({
        description: 'SQLite: bytes of the file that are mapped into memory, 0 (off) to 1Ti. Default 0.',
        min: '0',
        max: '1Ti',
      }),
    ),
    pageSize: optional(
      quantity({
        description:
          'SQLite: size of a page, a power of two from 512 to 64Ki. Fixed when the database is created. Default 4Ki.',
        min: '512',
        max: '64Ki',
      }),
    ),
    mapSize: optional(
      quantity({
        description: 'LMDB: size of the memory map at the start, 1Mi to 64Ti. It grows by itself. Default 1Gi.',
        min: '1Mi',
        max: '64Ti',
      }),
    ),
    mapSizeLimit: optional(
      quantity({
        description: 'LMDB: how far the map may grow, 1Mi to 64Ti. Default 16Ti: the volume is the limit.',
        min: '1Mi',
        max: '64Ti',
      }),
    ),
    compression: optional(
      words(['None', 'Snappy', 'LZ4', 'Zstd'], { description: 'RocksDB: compression of its files. Default LZ4.' }),
    ),
  },
)

const only = (field: string, engines: readonly Engine[]): Rule => ({
  rule: `${engines.map(engine => `self.engine == '${engine}'`).join(' || ')} || !has(self.tuning.${field})`,
  message: `tuning.${field} is a setting of ${engines.join(' and ')} only`,
  fieldPath: `.tuning.${field}`,
  reason: 'FieldValueForbidden',
})

/** They need the engine, so they stand at the spec. */
export const TUNING_RULES: readonly Rule[] = [
  only('cacheSize', ['SQLite', 'RocksDB']),
  only('journalMode', ['SQLite']),
  only('busyTimeout', ['SQLite']),
  only('mmapSize', ['SQLite']),
  only('pageSize', ['SQLite']),
  only('mapSize', ['LMDB']),
  only('mapSizeLimit', ['LMDB']),
  only('compression', ['RocksDB']),
  {
    rule: `!has(self.tuning.pageSize) || !isQuantity(string(self.tuning.pageSize)) || quantity(string(self.tuning.pageSize)).asInteger() in [${PAGE_SIZES.join(', ')}]`,
    message: 'tuning.pageSize must be a power of two from 512 to 64Ki',
    fieldPath: '.tuning.pageSize',
  },
]
