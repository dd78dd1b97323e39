/**
 * Objects that the API must take or refuse. The same cases go through the check of this process, the CEL rules as they stand in crds/, and a real API server, so
 * the three cannot drift apart.
 */
import type { KindDefinition } from '../../src/api/kind.ts'
import { KVIDX_BACKUP } from '../../src/api/v1alpha1/kvidx-backup.ts'
import { KVIDX_DATABASE } from '../../src/api/v1alpha1/kvidx-database.ts'
import { KVIDX_RESTORE } from '../../src/api/v1alpha1/kvidx-restore.ts'
import {
  type ApiCase,
  backup,
  database,
  FULL,
  IMPORT,
  IMPORT_FROM_VOLUME,
  type Json,
  object,
  RESTORE_FROM_BACKUP,
  RESTORE_FROM_STORE,
  RESTORE_FROM_VOLUME,
  restore,
  setAt,
} from './api-objects.ts'

const bad = (title: string, object: Json, field: string, message: string, old?: Json): ApiCase => ({
  title: `${title} is refused`,
  kind: kindOf(object),
  object,
  field,
  message,
  ...(old ? { old } : {}),
})
const good = (title: string, object: Json, old?: Json): ApiCase => ({
  title: `${title} is taken`,
  kind: kindOf(object),
  object,
  ...(old ? { old } : {}),
})

function kindOf({ kind }: Json): KindDefinition {
  return kind === 'KvidxBackup' ? KVIDX_BACKUP : kind === 'KvidxRestore' ? KVIDX_RESTORE : KVIDX_DATABASE
}

const withBackup = (more: Json): Json => database({ backup: { destination: { volume: { size: '1Gi' } }, ...more } })
const DAILY = { name: 'daily', schedule: '0 2 * * *' }
const HOURLY = { name: 'hourly', schedule: '15 * * * *', type: 'Incremental' }
const pod = (spec: Json): Json => database({ podTemplate: { spec } })

/** One failing and one passing case for each rule between fields. */
export const RULE_CASES: readonly ApiCase[] = [
  good('the smallest database', database()),
  good('a database with every block', object(KVIDX_DATABASE, FULL)),
  // names
  good('a name of 32 characters', database({}, 'a'.repeat(32))),
  bad('a name of 33 characters', database({}, 'a'.repeat(33)), 'metadata.name', 'at most 32'),
  bad('a name that begins with a digit', database({}, '1orders'), 'metadata.name', 'beginning with a letter'),
  bad('a name with a dot', database({}, 'a.b'), 'metadata.name', 'letters, digits and -'),
  ...['-ro', '-headless', '-prune', '-backups'].map(ending =>
    bad(`a name that ends with ${ending}`, database({}, `orders${ending}`), 'metadata.name', 'must not end with'),
  ),
  good('a name that has -ro inside', database({}, 'orders-rock')),
  // engine and tuning
  bad('another engine', database({ engine: 'LMDB' }), 'spec.engine', 'engine cannot change', database()),
  good('the same engine', database({ engine: 'SQLite' }), database()),
  bad('two replicas', database({ replicas: 2 }), 'spec.replicas', 'replicas must be 1'),
  ...(
    [
      ['cacheSize', '64Mi', 'LMDB', 'RocksDB'],
      ['journalMode', 'Delete', 'LMDB', 'SQLite'],
      ['busyTimeout', '1s', 'RocksDB', 'SQLite'],
      ['mmapSize', '1Gi', 'RocksDB', 'SQLite'],
      ['pageSize', '4Ki', 'LMDB', 'SQLite'],
      ['mapSize', '1Gi', 'SQLite', 'LMDB'],
      ['mapSizeLimit', '1Gi', 'RocksDB', 'LMDB'],
      ['compression', 'Zstd', 'SQLite', 'RocksDB'],
    ] as const
  ).flatMap(([field, value, without, engine]) => [
    bad(
      `${field} with ${without}`,
      database({ engine: without, tuning: { [field]: value } }),
      `spec.tuning.${field}`,
      `tuning.${field} is a setting of`,
    ),
    good(`${field} with ${engine}`, database({ engine, tuning: { [field]: value } })),
  ]),
  bad('a page of 5000 bytes', database({ tuning: { pageSize: 5000 } }), 'spec.tuning.pageSize', 'power of two'),
  good('a page of 8192 bytes as a number', database({ tuning: { pageSize: 8192 } })),
  bad(
    'another page size',
    database({ tuning: { pageSize: '8Ki' } }),
    'spec.tuning.pageSize',
    'fixed when',
    database({ tuning: { pageSize: '4Ki' } }),
  ),
  bad(
    'a page size for a database that was made without',
    database({ tuning: { pageSize: '8Ki' } }),
    'spec.tuning.pageSize',
    'fixed when',
    database(),
  ),
  good('another cache size', database({ tuning: { cacheSize: '1Gi' } }), database({ tuning: { cacheSize: 'auto' } })),
  bad(
    'a map limit below the map',
    database({ engine: 'LMDB', tuning: { mapSize: '2Gi', mapSizeLimit: '1Gi' } }),
    'spec.tuning.mapSizeLimit',
    'at least tuning.mapSize',
  ),
  good(
    'a map limit equal to the map',
    database({ engine: 'LMDB', tuning: { mapSize: '1024Mi', mapSizeLimit: '1Gi' } }),
  ),
  // storage
  bad(
    'a smaller volume',
    database({ storage: { size: '1023Mi' } }),
    'spec.storage.size',
    'cannot shrink',
    database({ storage: { size: '1Gi' } }),
  ),
  good('a larger volume', database({ storage: { size: '2Gi' } }), database({ storage: { size: '1025Mi' } })),
  good(
    'the same size written otherwise',
    database({ storage: { size: 1_073_741_824 } }),
    database({ storage: { size: '1Gi' } }),
  ),
  bad(
    'another storage class',
    database({ storage: { size: '1Gi', storageClassName: 'b' } }),
    'spec.storage.storageClassName',
    'cannot change',
    database({ storage: { size: '1Gi', storageClassName: 'a' } }),
  ),
  bad(
    'no storage class where there was one',
    database({ storage: { size: '1Gi' } }),
    'spec.storage.storageClassName',
    'cannot change',
    database({ storage: { size: '1Gi', storageClassName: 'a' } }),
  ),
  bad(
    'another access mode',
    database({ storage: { size: '1Gi', accessMode: 'ReadWriteOncePod' } }),
    'spec.storage.accessMode',
    'cannot change',
    database({ storage: { size: '1Gi' } }),
  ),
  bad(
    'autoGrow without a limit',
    database({ storage: { size: '1Gi', autoGrow: { enabled: true } } }),
    'spec.storage.autoGrow.maxSize',
    'maxSize is required',
  ),
  bad(
    'autoGrow with a limit below the size',
    database({ storage: { size: '2Gi', autoGrow: { maxSize: '1Gi' } } }),
    'spec.storage.autoGrow.maxSize',
    'at least storage.size',
  ),
  good('autoGrow with a limit', database({ storage: { size: '1Gi', autoGrow: { enabled: true, maxSize: '10Gi' } } })),
  bad('a database without a size', object(KVIDX_DATABASE, { storage: {} }), 'spec.storage.size', 'required'),
  // limits
  bad(
    'a batch smaller than a record',
    database({ limits: { recordBytes: '128Mi' } }),
    'spec.limits.atomicBytes',
    'at least limits.recordBytes',
  ),
  bad(
    'buffers smaller than a batch',
    database({ limits: { atomicBytes: '512Mi' } }),
    'spec.limits.bufferedBytes',
    'at least limits.atomicBytes',
  ),
  good(
    'larger records, batches and buffers',
    database({ limits: { recordBytes: '128Mi', atomicBytes: '128Mi', bufferedBytes: '1Gi' } }),
  ),
  // backup
  bad(
    'a backup without a destination',
    database({ backup: { destination: {} } }),
    'spec.backup.destination',
    'exactly one of volume and s3',
  ),
  bad(
    'a backup with two destinations',
    database({ backup: { destination: { volume: { size: '1Gi' }, s3: { bucket: 'abc' } } } }),
    'spec.backup.destination',
    'exactly one of volume and s3',
  ),
  bad(
    'an Incremental without a Full',
    withBackup({ schedules: [HOURLY] }),
    'spec.backup.schedules',
    'needs one of type Full',
  ),
  good('an Incremental beside a Full', withBackup({ schedules: [DAILY, HOURLY] })),
  good(
    'VolumeSnapshots alone',
    withBackup({ schedules: [{ name: 'disk', schedule: '@weekly', type: 'VolumeSnapshot' }] }),
  ),
  bad(
    'continuous without a Full',
    withBackup({ continuous: { enabled: true } }),
    'spec.backup.continuous.enabled',
    'needs a schedule of type Full',
  ),
  good('continuous with a Full', withBackup({ schedules: [DAILY], continuous: { enabled: true } })),
  bad(
    'a drill without a Full',
    withBackup({ drill: { schedule: '@weekly' } }),
    'spec.backup.drill',
    'needs a schedule of type Full',
  ),
  bad(
    'two schedules of one name',
    withBackup({ schedules: [DAILY, { ...DAILY, schedule: '@hourly' }] }),
    'spec.backup.schedules[1]',
    'twice',
  ),
  bad(
    'a schedule name of 13 characters',
    withBackup({ schedules: [{ ...DAILY, name: 'a'.repeat(13) }] }),
    'spec.backup.schedules[0].name',
    '12',
  ),
  ...['* * * *', '0 2 * * * *', '@every 5m', '@reboot', 'TZ=UTC 0 2 * * *', '0  2 * * *'].map(schedule =>
    bad(
      `the schedule '${schedule}'`,
      withBackup({ schedules: [{ ...DAILY, schedule }] }),
      'spec.backup.schedules[0].schedule',
      'schedule',
    ),
  ),
  ...['*/5 0-6,22 1 JAN-MAR MON', '@daily'].map(schedule =>
    good(`the schedule '${schedule}'`, withBackup({ schedules: [{ ...DAILY, schedule }] })),
  ),
  // bootstrap
  bad(
    'two bootstrap sources',
    database({ bootstrap: { adopt: 'abc', ...RESTORE_FROM_BACKUP } }),
    'spec.bootstrap',
    'at most one of restore, import and adopt',
  ),
  bad(
    'an import beside a restore',
    database({ bootstrap: { ...IMPORT, ...RESTORE_FROM_BACKUP } }),
    'spec.bootstrap',
    'at most one of restore, import and adopt',
  ),
  bad(
    'a restore from nothing',
    database({ bootstrap: { restore: {} } }),
    'spec.bootstrap.restore',
    'exactly one of backup and source',
  ),
  bad(
    'a restore from two sources',
    database({ bootstrap: { restore: { backup: 'a', source: { database: 'b', s3: { bucket: 'abc' } } } } }),
    'spec.bootstrap.restore',
    'exactly one of backup and source',
  ),
  bad(
    'a restore to a time and a position',
    database({ bootstrap: { restore: { backup: 'a', time: '2026-03-01T14:03:00Z', position: '1.2' } } }),
    'spec.bootstrap.restore',
    'at most one of time and position',
  ),
  bad(
    'a store in two places',
    database({
      bootstrap: { restore: { source: { database: 'b', s3: { bucket: 'abc' }, volume: { claimName: 'c' } } } },
    }),
    'spec.bootstrap.restore.source',
    'at most one of volume and s3',
  ),
  bad(
    'an import from nowhere',
    database({ bootstrap: { import: { format: 'Binary', path: 'a' } } }),
    'spec.bootstrap.import',
    'exactly one of volume and s3',
  ),
  bad(
    'an import path that leaves the volume',
    database({ bootstrap: { import: { format: 'Binary', path: 'a/../../b', volume: { claimName: 'c' } } } }),
    'spec.bootstrap.import.path',
    "must not have parts '.' or '..'",
  ),
  bad(
    'an absolute import path',
    database({ bootstrap: { import: { format: 'Binary', path: '/etc/passwd', volume: { claimName: 'c' } } } }),
    'spec.bootstrap.import.path',
    '',
  ),
  ...Object.entries({
    RESTORE_FROM_STORE,
    RESTORE_FROM_VOLUME,
    RESTORE_FROM_BACKUP,
    IMPORT,
    IMPORT_FROM_VOLUME,
    adopt: { adopt: 'abc' },
  }).map(([name, bootstrap]) => good(`bootstrap ${name}`, database({ bootstrap }))),
  bad(
    'a restore from the store of a database without backup',
    database({ bootstrap: { restore: { source: { database: 'old' } } } }),
    'spec.bootstrap.restore.source',
    'needs volume or s3',
  ),
  good(
    'a restore from the own destination',
    database({
      backup: { destination: { volume: { size: '1Gi' } } },
      bootstrap: { restore: { source: { database: 'old' } } },
    }),
  ),
  bad(
    'RestoreLatest without backup',
    database({ recovery: { onCorruption: 'RestoreLatest' } }),
    'spec.recovery.onCorruption',
    'needs spec.backup',
  ),
  bad(
    'Salvage of another engine than SQLite',
    database({ engine: 'LMDB', recovery: { onCorruption: 'Salvage' } }),
    'spec.recovery.onCorruption',
    'SQLite alone',
  ),
  // pods
  bad(
    'a container with our name',
    pod({ containers: [{ name: 'kvidx' }] }),
    'spec.podTemplate.spec.containers',
    'are the operator’s',
  ),
  bad(
    'an init container with our name',
    pod({ initContainers: [{ name: 'kvidx-init' }] }),
    'spec.podTemplate.spec.initContainers',
    'are the operator’s',
  ),
  bad(
    'a volume with our name',
    pod({ volumes: [{ name: 'data', emptyDir: {} }] }),
    'spec.podTemplate.spec.volumes',
    'are the operator’s',
  ),
  bad(
    'a label of ours',
    database({ podTemplate: { metadata: { labels: { 'kvidx.io/database': 'x' } } } }),
    'spec.podTemplate.metadata.labels',
    'are the operator’s',
  ),
  bad(
    'a label of the platform',
    database({ podTemplate: { metadata: { labels: { 'app.kubernetes.io/name': 'x' } } } }),
    'spec.podTemplate.metadata.labels',
    'are the operator’s',
  ),
  bad(
    'an annotation of ours',
    database({ podTemplate: { metadata: { annotations: { 'kvidx.io/checksum': 'x' } } } }),
    'spec.podTemplate.metadata.annotations',
    'are the operator’s',
  ),
  bad(
    'an update window that is not there',
    database({ updatePolicy: { type: 'Window' } }),
    'spec.updatePolicy.window',
    'window is required',
  ),
  good('an update window', database({ updatePolicy: { type: 'Window', window: { schedule: '@daily' } } })),
  // KvidxBackup
  good('a backup', backup()),
  good('the same backup again', backup(), backup()),
  bad('another deletion policy of a backup', backup({ deletionPolicy: 'Delete' }), 'spec', 'cannot change', backup()),
  bad('a backup of another database', backup({ database: 'other' }), 'spec', 'cannot change', backup()),
  bad('another type of a backup', backup({ type: 'Incremental' }), 'spec', 'cannot change', backup()),
  bad('a backup that is now verified', backup({ verify: true }), 'spec', 'cannot change', backup()),
  bad('a backup name of 64 characters', backup({}, 'a'.repeat(64)), 'metadata.name', 'at most 63'),
  // KvidxRestore
  good('a restore', restore()),
  good('a restore to a time', restore({ from: { time: '2026-03-01T14:03:00Z' } })),
  good('a restore to a position', restore({ from: { position: '3.18446744073709551615' } })),
  bad('a restore of nothing', restore({ from: {} }), 'spec.from', 'exactly one of'),
  bad('a restore of two things', restore({ from: { latest: 'Backup', backup: 'a' } }), 'spec.from', 'exactly one of'),
  bad('a restore without an epoch', setAt(restore(), ['spec', 'atEpoch'], undefined), 'spec.atEpoch', 'required'),
  good('the same restore again', restore(), restore()),
  bad('another target of a restore', restore({ from: { latest: 'Change' } }), 'spec', 'cannot change', restore()),
  bad('a restore name of 64 characters', restore({}, 'a'.repeat(64)), 'metadata.name', 'at most 63'),
]
