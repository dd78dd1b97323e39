/** What the servers may use; every bound of the data API is one of these. Sizes in bytes, times in milliseconds. */
export interface ServerLimits {
  /** Largest data of one record. */
  readonly recordBytes: number
  /** Largest body of a binary batch. */
  readonly batchBytes: number
  /** Largest body of a JSON batch: it is parsed in one go on the thread that answers everybody. */
  readonly jsonBatchBytes: number
  /** Most operations of one batch. */
  readonly batchOperations: number
  /** All bodies that are held in memory at one time. */
  readonly bufferedBytes: number
  /** Open connections of one listener; a further one is closed at once. */
  readonly connections: number
  /** Scans, exports, snapshots and imports that run at one time. */
  readonly streams: number
  /** Readers of the change feed at one time. */
  readonly followers: number
  /** From the first byte of a request to the end of its headers. */
  readonly headersTimeout: number
  /** Longest pause inside a body, and longest wait for a client that does not read. */
  readonly idleTimeout: number
  /** A held body slower than this (bytes a second, counted from idleTimeout on) is refused. */
  readonly minimumRate: number
  /** An idle connection is kept so long. */
  readonly keepAliveTimeout: number
  /** Rest of a refused body that is read and thrown away so that the connection lives on; above it the connection is closed. */
  readonly discardBytes: number
  /** How long a stop waits for requests under way. */
  readonly drainTimeout: number
}

const MIB = 1024 * 1024

export const DEFAULT_LIMITS: ServerLimits = {
  recordBytes: 64 * MIB,
  batchBytes: 72 * MIB,
  jsonBatchBytes: 2 * MIB,
  batchOperations: 100_000,
  bufferedBytes: 256 * MIB,
  connections: 4096,
  streams: 16,
  followers: 256,
  headersTimeout: 10_000,
  idleTimeout: 30_000,
  minimumRate: 16 * 1024,
  keepAliveTimeout: 75_000,
  discardBytes: 4 * MIB,
  drainTimeout: 10_000,
}

export interface TlsFiles {
  /** PEM, the chain */
  readonly certFile: string
  /** PEM */
  readonly keyFile: string
}

export interface ServersConfig {
  readonly data: {
    readonly host: string
    /** 0: any free one */
    readonly port: number
    readonly tls?: TlsFiles
  }
  /** Path of the Unix socket for application containers; absent: none. */
  readonly socketPath?: string
  readonly operations: { readonly host: string; readonly port: number }
  /** Directory with the files `read`, `write`, `admin`. Absent: every TCP listener must be loopback. */
  readonly tokensDirectory?: string
  readonly limits?: Partial<ServerLimits>
  /** How often mounted files (tokens, certificates) are looked at; default 5,000 ms. */
  readonly reloadInterval?: number
  /** false: records go through the router like everything else (for tests and comparison). */
  readonly fastPath?: boolean
}

/** Whether a listener on `host` can be reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host) || /^::ffff:127\./i.test(host)
}
