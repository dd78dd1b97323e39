import { milliseconds } from './duration.ts'
import { KvidxError } from './errors.ts'
import { bytes } from './quantity.ts'

/**
 * The variables of the environment, in one place: nothing else reads them. Flags win over variables, variables over the
 * configuration file.
 */

type Kind = 'text' | 'integer' | 'bytes' | 'duration' | 'boolean' | readonly string[]

interface Variable {
  readonly kind: Kind
  /** What it sets, for `kvidx help environment`. */
  readonly help: string
  readonly min?: number
  readonly max?: number
}

export const VARIABLES = {
  // the engine process
  KVIDX_CONFIG: { kind: 'text', help: 'configuration file of the sidecar (JSON)' },
  KVIDX_NAMESPACE: { kind: 'text', help: 'namespace of the database; "default" outside a cluster' },
  KVIDX_DATABASE: { kind: 'text', help: 'name of the database' },
  KVIDX_ENGINE: { kind: ['SQLite', 'LMDB', 'RocksDB'], help: 'storage engine' },
  KVIDX_DATA_DIR: { kind: 'text', help: 'directory of the volume' },
  KVIDX_HOST: { kind: 'text', help: 'address that the data port listens on' },
  KVIDX_DATA_PORT: { kind: 'integer', min: 0, max: 65535, help: 'port of the data API; 0: any free one' },
  KVIDX_OPS_PORT: { kind: 'integer', min: 0, max: 65535, help: 'port of health, metrics and status; 0: any free one' },
  KVIDX_SOCKET: { kind: 'text', help: 'path of the Unix socket' },
  KVIDX_SYNC_MODE: { kind: ['Full', 'Normal', 'Off'], help: 'when a commit is durable' },
  KVIDX_JOURNAL_MODE: { kind: ['WAL', 'Delete', 'Truncate', 'Persist'], help: 'SQLite: journal mode' },
  KVIDX_CACHE_SIZE: { kind: 'text', help: 'cache of the engine: auto, or a quantity such as 256Mi' },
  KVIDX_BUSY_TIMEOUT: { kind: 'duration', help: 'SQLite: how long to wait for a lock' },
  KVIDX_MMAP_SIZE: { kind: 'bytes', help: 'SQLite: bytes of memory mapping; 0: off' },
  KVIDX_MAP_SIZE: { kind: 'bytes', help: 'LMDB: size of the map at the start' },
  KVIDX_COMPRESSION: { kind: ['None', 'Snappy', 'LZ4', 'Zstd'], help: 'RocksDB: compression of its files' },
  KVIDX_TOKEN_DIR: { kind: 'text', help: 'directory with the token files read, write and admin' },
  KVIDX_LOG_LEVEL: { kind: ['Trace', 'Debug', 'Info', 'Warn', 'Error'], help: 'least level of the log' },
  KVIDX_POD: { kind: 'text', help: 'name of the pod, for the lock file and status' },
  KVIDX_NODE: { kind: 'text', help: 'name of the node, for the lock file and status' },
  KVIDX_JOB: { kind: 'text', help: 'name of the Job that the pod belongs to' },
  KVIDX_NODE_BINARY: { kind: 'text', help: 'path of Node 24, when the system has an older one (read by bin/kvidx)' },
  KVIDX_ROCKSDB_LIBRARY: { kind: 'text', help: 'path of librocksdb, when it is not where systems keep it' },
  KVIDX_FAILPOINTS: { kind: 'text', help: 'for tests: places where the program dies, waits or fails' },
  // commands for people
  KVIDX_SERVER: { kind: 'text', help: 'address of the data API: http://host:7400 or unix:///path' },
  KVIDX_TOKEN: { kind: 'text', help: 'token for the data API' },
  KVIDX_STORE: { kind: 'text', help: 'backup store: file:///dir or s3://bucket/prefix?endpoint=...' },
  KVIDX_S3_ACCESS_KEY_ID: { kind: 'text', help: 'S3 credentials; else AWS_ACCESS_KEY_ID' },
  KVIDX_S3_SECRET_ACCESS_KEY: { kind: 'text', help: 'S3 credentials; else AWS_SECRET_ACCESS_KEY' },
  KVIDX_S3_SESSION_TOKEN: { kind: 'text', help: 'S3 credentials; else AWS_SESSION_TOKEN' },
  AWS_ACCESS_KEY_ID: { kind: 'text', help: 'S3 credentials' },
  AWS_SECRET_ACCESS_KEY: { kind: 'text', help: 'S3 credentials' },
  AWS_SESSION_TOKEN: { kind: 'text', help: 'S3 credentials' },
  AWS_REGION: { kind: 'text', help: 'S3 region' },
  // the operator
  KVIDX_IMAGE: { kind: 'text', help: 'operator: default image of database pods' },
  KVIDX_WATCH_NAMESPACES: { kind: 'text', help: 'operator: namespaces, separated by commas; empty: all' },
  KVIDX_OPERATOR_NAMESPACE: { kind: 'text', help: 'operator: its own namespace, for the lease' },
  KVIDX_WORKERS: { kind: 'integer', min: 1, max: 256, help: 'operator: parallel reconciles of each controller' },
  KUBECONFIG: { kind: 'text', help: 'how to reach the cluster, from outside of it' },
  KUBERNETES_SERVICE_HOST: { kind: 'text', help: 'address of the API server, set by the kubelet in every pod' },
  KUBERNETES_SERVICE_PORT: { kind: 'integer', min: 1, max: 65535, help: 'port of the API server, set by the kubelet' },
  HOME: { kind: 'text', help: 'home directory' },
  NO_COLOR: { kind: 'text', help: 'no colours on the terminal when set' },
  CI: { kind: 'text', help: 'set on build machines: no progress bars' },
} as const satisfies Readonly<Record<string, Variable>>

export type VariableName = keyof typeof VARIABLES

/** Variables that win over what a configuration document says of its database. */
export const DATABASE_VARIABLES = [
  'KVIDX_NAMESPACE',
  'KVIDX_DATABASE',
  'KVIDX_ENGINE',
  'KVIDX_SYNC_MODE',
  'KVIDX_JOURNAL_MODE',
  'KVIDX_CACHE_SIZE',
  'KVIDX_BUSY_TIMEOUT',
  'KVIDX_MMAP_SIZE',
  'KVIDX_MAP_SIZE',
  'KVIDX_COMPRESSION',
  'KVIDX_LOG_LEVEL',
] as const satisfies readonly VariableName[]

type ValueOf<K> = K extends readonly (infer Choice)[]
  ? Choice
  : K extends 'text'
    ? string
    : K extends 'boolean'
      ? boolean
      : number

/** What `read` gives for a variable: bytes and durations (ms) as numbers. */
export type VariableValue<N extends VariableName> = ValueOf<(typeof VARIABLES)[N]['kind']>

type Source = Readonly<Record<string, string | undefined>>

/** Typed reading of one set of variables. */
export class Environment {
  readonly #source: Source

  constructor(source: Source) {
    this.#source = source
  }

  /**
   * The value, or undefined when the variable is not set or empty. Throws KvidxError invalid_parameter naming the variable, its value (unless it is a
   * secret) and what is allowed.
   */
  read<N extends VariableName>(name: N): VariableValue<N> | undefined {
    const text = this.#source[name]
    if (text === undefined || text === '') return undefined
    return parse(name, text, VARIABLES[name]) as VariableValue<N>
  }

  /** Variables that begin with KVIDX_ and are not known: a warning is worth it, they are mostly misspelt. */
  get unknown(): readonly string[] {
    return Object.keys(this.#source).filter(name => name.startsWith('KVIDX_') && !(name in VARIABLES))
  }
}

/** The environment of this process, read anew at each call. */
export const environment = new Environment(process.env)

/** Failpoints that a test armed, or undefined. */
export function failpointSetting(): string | undefined {
  return environment.read('KVIDX_FAILPOINTS')
}

/** A copy for a child process, with changes; undefined removes. */
export function childEnvironment(changes: Source = {}): Record<string, string> {
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries({ ...process.env, ...changes }))
    if (value !== undefined) result[name] = value
  return result
}

function parse(name: string, text: string, variable: Variable): string | number | boolean {
  const { kind } = variable
  if (kind === 'text') return text
  if (kind === 'bytes') return bytes(text, name)
  if (kind === 'duration') return milliseconds(text, name)
  if (kind === 'boolean') {
    if (text === 'true' || text === '1') return true
    if (text === 'false' || text === '0') return false
    throw refused(name, text, 'true or false')
  }
  if (kind === 'integer') {
    const { min = 0, max = Number.MAX_SAFE_INTEGER } = variable
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= min && value <= max)) throw refused(name, text, `an integer from ${min} to ${max}`)
    return value
  }
  // people write variables in any case; the manifest is strict
  const choice = kind.find(option => option.toLowerCase() === text.toLowerCase())
  if (choice === undefined) throw refused(name, text, `one of ${kind.join(', ')}`)
  return choice
}

function refused(name: string, value: string, allowed: string): KvidxError {
  return new KvidxError('invalid_parameter', `${name}: '${value}' is not allowed; it must be ${allowed}`, {
    field: name,
    value,
    allowed,
  })
}
