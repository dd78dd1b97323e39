import { type Static, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import { LOG_LEVELS } from '../../common/log.ts'
import { words } from '../../common/schema.ts'
import { BACKUP_TYPES } from './backup.ts'
import { ENGINES } from './tuning.ts'

/**
 * The configuration document of the engine process: what the operator writes into the ConfigMap `<database>-config`, `kvidx run` into a file, and `kvidx sidecar
 * --config FILE` reads. Sizes are bytes and times milliseconds; a size that may be a percentage is `{ bytes }` or `{ percent }`, because only the engine
 * process knows its volume.
 */

function strict<P extends TProperties>(description: string, properties: P) {
  return Type.Object(properties, { description, additionalProperties: false })
}

const optional = <T extends TSchema>(schema: T) => Type.Optional(schema)
const size = (description: string) =>
  Type.Integer({ description: `${description}, bytes`, minimum: 0, maximum: 2 ** 53 - 1 })
const time = (description: string) =>
  Type.Integer({ description: `${description}, milliseconds`, minimum: 0, maximum: 2 ** 53 - 1 })
const count = (description: string) => Type.Integer({ description, minimum: 0, maximum: 2 ** 31 - 1 })
const name = (description: string) => Type.String({ description, minLength: 1, maxLength: 512 })
const flag = (description: string) => Type.Boolean({ description })
/** Exactly one of the two is there. */
const share = (description: string) =>
  strict(description, {
    bytes: optional(size('amount')),
    percent: optional(Type.Integer({ description: 'part of the whole in percent', minimum: 0, maximum: 100 })),
  })
const window = (description: string) =>
  strict(description, { schedule: name('cron'), timeZone: name('time zone'), duration: time('how long') })

const s3 = strict('S3 bucket; credentials and authorities are in the mounted directories', {
  bucket: name('bucket'),
  prefix: optional(name('put before every key')),
  endpoint: optional(name('address')),
  region: name('region'),
  pathStyle: optional(flag('endpoint/bucket/key')),
  credentialsDirectory: optional(name('directory with accessKeyId, secretAccessKey, sessionToken')),
  caFile: optional(name('authorities, PEM')),
})

const volume = strict('a mounted directory', { directory: name('absolute path') })

const tuning = strict('EngineTuning of sidecar/engine/engine.ts', {
  syncMode: words(['Full', 'Normal', 'Off'], { description: 'when a commit is durable' }),
  cacheSize: optional(size('cache')),
  journalMode: optional(words(['WAL', 'Delete', 'Truncate', 'Persist'], { description: 'SQLite' })),
  busyTimeout: optional(time('SQLite')),
  mmapSize: optional(size('SQLite')),
  pageSize: optional(size('SQLite')),
  mapSize: optional(size('LMDB')),
  mapSizeLimit: optional(size('LMDB')),
  compression: optional(words(['None', 'Snappy', 'LZ4', 'Zstd'], { description: 'RocksDB' })),
})

const bootstrap = strict('Where the first data comes from', {
  restore: optional(
    strict('a copy of a backup', {
      backup: optional(name('KvidxBackup, or name of a backup in the store')),
      source: optional(
        strict('store of another database', {
          namespace: name('namespace'),
          database: name('database'),
          lineage: optional(name('lineage')),
          volume: optional(volume),
          s3: optional(s3),
        }),
      ),
      time: optional(name('RFC 3339')),
      position: optional(name('epoch.seq')),
    }),
  ),
  import: optional(
    strict('a file of kvidxkit', {
      format: words(['Binary', 'JSON', 'CSV', 'SQLite'], { description: 'what the file is' }),
      path: name('path below the directory, or key below the prefix'),
      volume: optional(volume),
      s3: optional(s3),
      onDuplicate: words(['Fail', 'Skip', 'Replace'], { description: 'when the file has a key twice' }),
    }),
  ),
  adopt: optional(name('lineage of the volume that is taken over')),
  clone: optional(name('lineage of the volume of which this one is a copy')),
})

/** What the engine is opened with: a change needs a new process, so its checksum stands in the pod template. */
const fixed = strict('Needs a restart', {
  namespace: name('namespace of the database'),
  name: name('name of the database'),
  engine: words(ENGINES, { description: 'storage engine' }),
  tuning,
  /** true: tuning.cacheSize is absent and the process chooses it by the size of the data. */
  autoCache: flag('choose the cache by the size of the data'),
  limits: strict('bounds of the data API', {
    recordBytes: size('largest data of a record'),
    atomicBytes: size('largest commit'),
    atomicRecords: count('most records of a commit'),
    bufferedBytes: size('all bodies in memory'),
    connections: count('open connections'),
    streams: count('scans, exports and imports at one time'),
    followers: count('readers of the change feed'),
    idleTimeout: time('longest pause of a client'),
  }),
  security: strict('listeners', {
    tls: flag('the data port speaks TLS, with tls.crt and tls.key of the TLS directory'),
    socket: flag('Unix socket for containers of the same pod'),
  }),
})

/** What the process takes up from the mounted file while it runs. */
const live = strict('Taken up while the process runs', {
  /** From status; absent for a database that never had data. Not in the checksum: it comes after the first start. */
  expectedLineage: optional(name('lineage that the volume must hold')),
  bootstrap: optional(bootstrap),
  recovery: strict('what happens when the volume is not as it should be', {
    onCorruption: words(['Stop', 'RestoreLatest', 'Salvage'], { description: 'with a damaged database' }),
    fullCheck: words(['Background', 'Always'], { description: 'after an unclean end' }),
    adoptGrace: time('before expired records of an adopted database go'),
    allowEmpty: optional(name('lineage whose loss is accepted')),
    quarantine: time('how long files in quarantine are kept'),
  }),
  changeLog: strict('log of changes', { maxSize: share('with consumers'), idleSize: share('without consumers') }),
  space: strict('use of the volume', {
    snapshotGrowth: share('growth while one snapshot is held; percent of the free space'),
    reserve: share('free space below which writes are refused; percent of the volume'),
  }),
  maintenance: strict('tasks', {
    expiry: strict('expired records', { interval: time('how often'), batchSize: count('most records of a commit') }),
    checkpoint: strict('write-ahead log', {
      walSize: size('size that starts one'),
      interval: time('how often at least'),
    }),
    vacuum: strict('unused space', {
      interval: time('how often a slice'),
      fragmentation: Type.Number({
        description: 'part, 0 to 1, from which files are rewritten',
        minimum: 0,
        maximum: 1,
      }),
      window: optional(window('when files may be rewritten')),
    }),
    check: optional(strict('integrity', { schedule: name('cron'), timeZone: name('time zone') })),
  }),
  monitoring: strict('logs and thresholds', {
    logLevel: words(LOG_LEVELS, { description: 'least level' }),
    slowOperation: time('operations slower than this are logged'),
    walSize: size('DEGRADED from this size of the write-ahead log'),
    fragmentation: Type.Number({ description: 'DEGRADED from this part, 0 to 1', minimum: 0, maximum: 1 }),
  }),
  audit: words(['None', 'Admin', 'Write', 'All'], { description: 'calls that are logged' }),
  backup: optional(
    strict('backups', {
      destination: strict('one of the two', { volume: optional(volume), s3: optional(s3) }),
      timeZone: name('time zone of schedules and retention'),
      suspend: flag('start nothing by schedule'),
      schedules: Type.Array(
        strict('schedule', {
          name: name('name'),
          schedule: name('cron'),
          type: words(BACKUP_TYPES, { description: 'kind' }),
          verify: flag('restore and compare'),
          suspend: flag('do not start'),
          startingDeadline: time('a missed run is made up for within'),
          timeout: time('a run that takes longer has failed'),
        }),
        { maxItems: 8 },
      ),
      retention: strict('what is kept', {
        daily: count('days'),
        weekly: count('ISO weeks'),
        monthly: count('months'),
        last: count('newest'),
        window: time('of point-in-time restore'),
        volumeSnapshots: count('VolumeSnapshots'),
        managedBy: words(['Kvidx', 'Store'], { description: 'who deletes' }),
      }),
      continuous: strict('segments', {
        enabled: flag('ship changes'),
        interval: time('at least this often'),
        segmentSize: size('at once from'),
      }),
      compressionLevel: count('zstd'),
      bandwidthLimit: optional(size('a second')),
      scratchBytes: optional(size('space for verification')),
      drill: optional(strict('restore drill', { schedule: name('cron'), suspend: flag('do not start') })),
      encryption: optional(
        strict('AES-256-GCM', { keyId: name('key of new backups'), directory: name('directory with one file a key') }),
      ),
    }),
  ),
})

export const sidecarConfigSchema = Type.Object(
  {
    formatVersion: Type.Literal(1),
    static: fixed,
    dynamic: live,
  },
  { additionalProperties: false },
)

export type SidecarConfig = Static<typeof sidecarConfigSchema>
export type StaticConfig = SidecarConfig['static']
export type DynamicConfig = SidecarConfig['dynamic']
