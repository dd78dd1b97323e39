/** Valid objects of the API, from which cases are made: api-cases.ts, api-boundaries.ts. */
import type { KindDefinition } from '../../src/api/kind.ts'
import { KVIDX_BACKUP } from '../../src/api/v1alpha1/kvidx-backup.ts'
import { KVIDX_DATABASE } from '../../src/api/v1alpha1/kvidx-database.ts'
import { KVIDX_RESTORE } from '../../src/api/v1alpha1/kvidx-restore.ts'

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

export type Path = readonly (string | number)[]

export const object = (kind: KindDefinition, spec: Json, name = 'orders'): Json => ({
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

export const S3 = {
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
export const FULL: Json = {
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

export const RESTORE_FROM_STORE = {
  restore: { source: { database: 'old', namespace: 'shop', lineage: 'abc', s3: S3 }, time: '2026-03-01T14:03:00Z' },
}
export const RESTORE_FROM_VOLUME = {
  restore: { source: { database: 'old', volume: { claimName: 'backups' } }, position: '3.17' },
}
export const RESTORE_FROM_BACKUP = { restore: { backup: 'orders-daily-20260101t0200z' } }
export const IMPORT = { import: { format: 'Binary', path: 'dump/export.bin', s3: S3 } }
export const IMPORT_FROM_VOLUME = { import: { format: 'SQLite', path: 'main.db', volume: { claimName: 'old' } } }

/** Tuning belongs to an engine each. */
const ENGINE_OF: Readonly<Record<string, string>> = { mapSize: 'LMDB', mapSizeLimit: 'LMDB', compression: 'RocksDB' }

export const backup = (spec: Json = {}, name = 'by-hand'): Json =>
  object(KVIDX_BACKUP, { database: 'orders', ...spec }, name)
export const restore = (spec: Json = {}, name = 'undo'): Json =>
  object(KVIDX_RESTORE, { database: 'orders', from: { latest: 'Backup' }, atEpoch: 3, ...spec }, name)

/** A valid object that has the path's surroundings. */
export function baseFor(kind: KindDefinition, path: Path): Json {
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
