/**
 * Objects that the API must take or refuse. The same cases go through the check of this process, the CEL rules as they stand in crds/, and a real API server, so
 * the three cannot drift apart.
 */
import type { TSchema } from '@sinclair/typebox'
import type { KindDefinition } from '../../src/api/kind.ts'
import { KVIDX_BACKUP } from '../../src/api/v1alpha1/kvidx-backup.ts'
import { KVIDX_DATABASE } from '../../src/api/v1alpha1/kvidx-database.ts'
import { KVIDX_RESTORE } from '../../src/api/v1alpha1/kvidx-restore.ts'
import { formatDuration, parseDuration } from '../../src/common/duration.ts'
import { bytesAsBigint } from '../../src/common/quantity.ts'

export type Json = { [name: string]: unknown }

export interface ApiCase {
  readonly title: string
  readonly kind: KindDefinition
  readonly object: Json
  /** The object before the change. */
  readonly old?: Json
  /** Undefined: it must be taken. Else the field at fault. */
  readonly field?: string
  /** Part of the message. */
  readonly message?: string
}

type Path = readonly (string | number)[]

const object = (kind: KindDefinition, spec: Json, name = 'orders'): Json => ({
  apiVersion: `${kind.group}/${kind.version}`,
  kind: kind.kind,
  metadata: { name },
  spec,
})

/** A copy with one member set; missing objects on the way are made. `undefined` removes. */
export function setAt(root: Json, path: Path, value: unknown): Json {
  // not structuredClone: it would keep parts shared that appear in two places
  const copy = JSON.parse(JSON.stringify(root)) as Json
  let node: Json = copy
  for (const step of path.slice(0, -1)) {
    node[step as string] ??= {}
    node = node[step as string] as Json
  }
  const last = path.at(-1) as string
  if (value === undefined) delete node[last]
  else node[last] = value
  return copy
}

export const database = (spec: Json = {}, name = 'orders'): Json =>
  object(KVIDX_DATABASE, { storage: { size: '64Mi' }, ...spec }, name)

const S3 = {
  bucket: 'backups',
  prefix: 'prod/eu',
  endpoint: 'https://minio.storage:9000',
  region: 'eu-central-1',
  credentialsSecretRef: { name: 's3' },
  caSecretRef: { name: 'ca' },
}
const RESOURCES = { requests: { cpu: '250m', memory: '512Mi' }, limits: { memory: '1Gi' } }
const WINDOW = { schedule: '0 3 * * 0', duration: '2h', timeZone: 'Europe/Berlin' }

/** Every field is set somewhere, and ranges are wide enough to move each field alone from end to end. */
const FULL: Json = {
  engine: 'SQLite',
  storage: {
    size: '64Mi',
    storageClassName: 'fast',
    volumeSnapshotClassName: 'snapshots',
    autoGrow: { enabled: false },
  },
  tuning: {},
  backup: {
    destination: { s3: S3 },
    schedules: [{ name: 'daily', schedule: '0 2 * * *', type: 'Full', timeout: '1h', startingDeadline: '1h' }],
    drill: { schedule: '@weekly' },
    scratch: { size: '1Gi', storageClassName: 'slow' },
    job: {
      resources: RESOURCES,
      nodeSelector: { disk: 'ssd' },
      tolerations: [{ operator: 'Exists' }],
      priorityClassName: 'low',
    },
    bandwidthLimit: '10Mi',
  },
  recovery: { allowEmpty: 'abc' },
  limits: { recordBytes: '1Ki', atomicBytes: '512Mi', bufferedBytes: '64Gi' },
  maintenance: { vacuum: { window: WINDOW }, check: { schedule: '0 4 * * 0', timeZone: 'Etc/UTC' } },
  security: {
    auth: { secretRef: { name: 'tokens' } },
    tls: { secretRef: { name: 'tls' } },
    encryption: { secretRef: { name: 'keys' }, keyId: 'k1' },
    networkPolicy: { from: [{ podSelector: {} }] },
  },
  podTemplate: {
    metadata: { labels: { team: 'shop' }, annotations: { note: 'x' } },
    spec: {
      containers: [{ name: 'app', image: 'app:1', env: [{ name: 'A', value: 'b' }] }],
      initContainers: [{ name: 'init', image: 'app:1' }],
      volumes: [{ name: 'work', emptyDir: {} }],
      nodeSelector: { disk: 'ssd' },
      affinity: { nodeAffinity: {} },
      tolerations: [{ operator: 'Exists' }],
      topologySpreadConstraints: [{ maxSkew: 1 }],
      priorityClassName: 'high',
      runtimeClassName: 'gvisor',
      schedulerName: 'other',
      imagePullSecrets: [{ name: 'pull' }],
      terminationGracePeriodSeconds: 120,
      hostAliases: [{ ip: '10.0.0.1', hostnames: ['a'] }],
      dnsConfig: { options: [] },
    },
  },
  resources: RESOURCES,
  image: 'registry.example/kvidx/operator:1.2.3',
  updatePolicy: { type: 'Window', window: WINDOW },
}

const RESTORE_FROM_STORE = {
  restore: { source: { database: 'old', namespace: 'shop', lineage: 'abc', s3: S3 }, time: '2026-03-01T14:03:00Z' },
}
const RESTORE_FROM_VOLUME = {
  restore: { source: { database: 'old', volume: { claimName: 'backups' } }, position: '3.17' },
}
const RESTORE_FROM_BACKUP = { restore: { backup: 'orders-daily-20260101t0200z' } }
const IMPORT = { import: { format: 'Binary', path: 'dump/export.bin', s3: S3 } }
const IMPORT_FROM_VOLUME = { import: { format: 'SQLite', path: 'main.db', volume: { claimName: 'old' } } }

/** Tuning belongs to an engine each. */
const ENGINE_OF: Readonly<Record<string, string>> = { mapSize: 'LMDB', mapSizeLimit: 'LMDB', compression: 'RocksDB' }

const backup = (spec: Json = {}, name = 'by-hand'): Json => object(KVIDX_BACKUP, { database: 'orders', ...spec }, name)
const restore = (spec: Json = {}, name = 'undo'): Json =>
  object(KVIDX_RESTORE, { database: 'orders', from: { latest: 'Backup' }, atEpoch: 3, ...spec }, name)

/** A valid object that has the path's surroundings. */
function baseFor(kind: KindDefinition, path: Path): Json {
  if (kind.kind === 'KvidxBackup') return backup({ verify: true })
  if (kind.kind === 'KvidxRestore') {
    return path[1] === 'from' && path[2] !== undefined ? setAt(restore(), ['spec', 'from'], {}) : restore()
  }
  const base = object(KVIDX_DATABASE, FULL)
  const at = path.slice(1).join('.')
  if (path[1] === 'tuning') return setAt(base, ['spec', 'engine'], ENGINE_OF[String(path[2])] ?? 'SQLite')
  if (at.startsWith('backup.destination.volume'))
    return setAt(base, ['spec', 'backup', 'destination'], { volume: { size: '1Gi' } })
  if (at === 'limits.bufferedBytes') return setAt(base, ['spec', 'limits', 'atomicBytes'], '1Mi')
  if (path[1] !== 'bootstrap') return base
  if (at === 'bootstrap.restore.backup') return setAt(base, ['spec', 'bootstrap'], RESTORE_FROM_BACKUP)
  if (at === 'bootstrap.restore.position' || at.startsWith('bootstrap.restore.source.volume'))
    return setAt(base, ['spec', 'bootstrap'], RESTORE_FROM_VOLUME)
  if (at.startsWith('bootstrap.restore')) return setAt(base, ['spec', 'bootstrap'], RESTORE_FROM_STORE)
  if (at.startsWith('bootstrap.import.volume')) return setAt(base, ['spec', 'bootstrap'], IMPORT_FROM_VOLUME)
  if (at.startsWith('bootstrap.import')) return setAt(base, ['spec', 'bootstrap'], IMPORT)
  return setAt(base, ['spec', 'bootstrap'], {})
}

/** For each field with a range, a list of words, a length or a pattern: both ends, and just beyond them. */
export function boundaryCases(kind: KindDefinition): readonly ApiCase[] {
  const cases: ApiCase[] = []
  visit(kind.spec, ['spec'])
  return cases

  function add(path: Path, what: string, value: unknown, taken: boolean): void {
    const field = path
      .map(step => (typeof step === 'number' ? `[${step}]` : `.${step}`))
      .join('')
      .slice(1)
    cases.push({
      title: `${kind.kind} ${field}: ${what} is ${taken ? 'taken' : 'refused'}`,
      kind,
      object: setAt(baseFor(kind, path), path, value),
      ...(taken ? {} : { field }),
    })
  }

  function visit(schema: TSchema, path: Path): void {
    if (schema.properties) {
      for (const [name, property] of Object.entries(schema.properties as Record<string, TSchema>))
        visit(property, [...path, name])
      return
    }
    const quantity = schema.kvidxQuantity as
      | { min?: string; max?: string; percent?: boolean; words?: string[] }
      | undefined
    const duration = schema.kvidxDuration as { min?: string; max?: string } | undefined
    if (quantity) {
      if (quantity.min !== undefined) {
        add(path, `the least, ${quantity.min},`, quantity.min, true)
        const below = bytesAsBigint(quantity.min, 'min') - 1n
        add(path, `below the least, ${below},`, below < 0n ? '-1' : String(below), false)
      }
      if (quantity.max !== undefined) {
        add(path, `the most, ${quantity.max},`, quantity.max, true)
        add(path, 'above the most', String(bytesAsBigint(quantity.max, 'max') + 1n), false)
      }
      add(path, 'text that is no quantity', '10GB', false)
      add(path, quantity.percent ? '10%' : 'a percentage', '10%', quantity.percent === true)
      if (quantity.percent) for (const bad of ['0%', '101%']) add(path, bad, bad, false)
      for (const word of quantity.words ?? []) add(path, word, word, true)
    } else if (duration) {
      const least = parseDuration(duration.min ?? '0s') ?? 0
      const most = parseDuration(duration.max ?? '0s') ?? 0
      add(path, `the least, ${duration.min},`, duration.min, true)
      if (least > 0) add(path, 'below the least', formatDuration(least - 1), false)
      add(path, `the most, ${duration.max},`, duration.max, true)
      add(path, 'above the most', `${most + 1}ms`, false)
      const days = Math.floor(most / 86_400_000)
      if (days > 0) add(path, `${days}d`, `${days}d`, true)
      add(path, `${days + 1}d`, `${days + 1}d`, false)
      add(path, 'a bare number', '30', false)
      add(path, 'text that is no duration', '5 minutes', false)
    } else if (schema.type === 'integer') {
      add(path, `the least, ${schema.minimum},`, schema.minimum, true)
      add(path, 'below the least', Number(schema.minimum) - 1, false)
      // replicas: only 1 until replication exists
      if (path.at(-1) !== 'replicas') add(path, `the most, ${schema.maximum},`, schema.maximum, true)
      add(path, 'above the most', Number(schema.maximum) + 1, false)
      add(path, 'text', 'many', false)
    } else if (schema.enum) {
      add(path, 'an unknown word', 'Nonsense', false)
      // what depends on other fields has cases of its own
      if (!['engine', 'type'].includes(String(path.at(-1))))
        for (const word of schema.enum as string[]) add(path, word, word, true)
    } else if (schema.type === 'string') {
      if (schema.pattern !== undefined) add(path, 'text of another form', '/No such THING!', false)
      if (schema.format === 'date-time') add(path, 'text that is no time', 'yesterday at 14:03 or so', false)
      add(path, 'text that is too long', 'a'.repeat(Number(schema.maxLength) + 1), false)
    } else if (schema.type === 'boolean') {
      add(path, 'text', 'yes', false)
    } else if (schema.type === 'array') {
      visitList(schema, path)
    } else if (typeof schema.additionalProperties === 'object') {
      const many = Array.from({ length: Number(schema.maxProperties) + 1 }, (_, index) => [`k${index}`, '1'])
      add(path, 'a map that is too large', Object.fromEntries(many), false)
      visit(schema.additionalProperties as TSchema, [...path, 'some'])
    }
  }

  function visitList(schema: TSchema, path: Path): void {
    const current = path.reduce<unknown>(
      (node, step) => (node as Json | undefined)?.[step as string],
      baseFor(kind, path),
    )
    const [example] = (current as Json[] | undefined) ?? []
    if (example === undefined) throw new Error(`${path.join('.')}: the full object has no example item`)
    const items = (length: number): unknown[] =>
      Array.from({ length }, (_, index) => ('name' in example ? { ...example, name: `n${index}` } : example))
    const most = Number(schema.maxItems)
    add(path, `a list of ${most}`, items(most), true)
    add(path, `a list of ${most + 1}`, items(most + 1), false)
    visit(schema.items as TSchema, [...path, 0])
  }
}

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
    database({ bootstrap: { restore: { backup: 'a', source: { database: 'b' } } } }),
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
  good('another deletion policy of a backup', backup({ deletionPolicy: 'Delete' }), backup()),
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
