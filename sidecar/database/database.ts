import type { EngineFigures, EngineKind, Key, KeyRange } from '../engine/engine.ts'
import type { Position, VisibleRecord, WriteRequest, WriteResult } from './operation.ts'

/** How an epoch began. */
export interface EpochRecord {
  readonly epoch: bigint
  /** Absent for the first epoch of a lineage. */
  readonly parentEpoch?: bigint
  /** seq of the last change of the parent that belongs to this ancestry. */
  readonly forkSeq: bigint
  readonly reason:
    | 'created'
    | 'adopted'
    | 'restored'
    | 'promoted'
    | 'imported'
    | 'foreignWrites'
    | 'uncleanEnd'
    | 'behindStore'
    | 'salvaged'
  /** Unix ms */
  readonly time: bigint
}

/** The counters that change in the same engine transaction as the records. */
export interface DatabaseState {
  readonly position: Position
  /** Time of the last commit, Unix ms. */
  readonly time: bigint
  /** Stored records. */
  readonly count: bigint
  /** Sum of their data lengths. */
  readonly dataBytes: bigint
  readonly digest: bigint
  /** Stored records with an expiry. */
  readonly expiring: bigint
  /** The log holds every change behind this position. */
  readonly logBase: Position
  /** Bytes of log frames. */
  readonly logBytes: bigint
}

export type StreamFormat = 'binary' | 'json' | 'csv' | 'ndjson'

export interface ScanOptions {
  readonly range: KeyRange
  readonly descending: boolean
  /** At most so many records; undefined: all. */
  readonly limit?: number
  /** false: keys, term, cmd and expiry alone */
  readonly values: boolean
  readonly format: StreamFormat
  /** true: expired records too (backups); false for clients */
  readonly stored: boolean
}

/** A stream of encoded records of one snapshot. Close it by ending the iteration (return) or by the signal. */
export interface RecordStream {
  readonly position: Position
  readonly state: DatabaseState
  readonly chunks: AsyncIterable<Uint8Array>
}

export interface ImportOptions {
  readonly format: StreamFormat
  readonly onDuplicate: 'fail' | 'skip' | 'replace'
  readonly clear: boolean
  /** false: slices of one commit each */
  readonly atomic: boolean
}

export interface ImportResult {
  readonly read: number
  /** Records written: new ones and `replaced`. */
  readonly imported: number
  readonly skipped: number
  readonly replaced: number
  readonly position: Position
}

/** The names of long tasks, in `/status`, metrics and `POST /v1/admin/{name}`. */
export type TaskName = 'checkpoint' | 'vacuum' | 'compact' | 'expire' | 'check'

export interface TaskStatus {
  readonly name: TaskName
  readonly running: boolean
  /** 0 … 1 while running and known */
  readonly progress?: number
  /** Unix ms */
  readonly nextRun?: number
  readonly lastRun?: number
  readonly lastDurationMs?: number
  readonly lastOutcome?: 'ok' | 'failed' | 'cancelled' | 'skipped'
  readonly lastMessage?: string
}

/** DEGRADED names each cause; UNHEALTHY only when a restart can help. */
export interface Health {
  readonly state: 'OK' | 'DEGRADED' | 'UNHEALTHY'
  readonly causes: readonly { readonly reason: string; readonly message: string; readonly since: number }[]
}

/** One running database: what the servers, maintenance and backup use. Everything rejects with KvidxError. */
export interface Database {
  readonly engine: EngineKind
  readonly engineVersion: string
  readonly lineage: string
  readonly epochs: readonly EpochRecord[]
  /** As of the last commit that this thread knows of. */
  readonly state: DatabaseState
  readonly health: Health
  /** Serves its role: open, recovered, not stopping. */
  readonly ready: boolean

  /** The visible record of a key and the position of the snapshot it was read at. Synchronous and quick on every engine. */
  get(key: Key): { record: VisibleRecord | undefined; digest: bigint | undefined; position: Position }
  /** Queued into the next group commit; resolves when durable. Rejects: overloaded, no_space, too_large, not_ready, unknown_outcome. */
  write(request: WriteRequest): Promise<WriteResult>
  /** Removes a range above the atomic limits in slices of one commit each; aborted, no further one is begun. */
  removeRangeSliced(range: KeyRange, signal?: AbortSignal): Promise<{ removed: number; position: Position }>

  scan(options: ScanOptions, signal: AbortSignal): Promise<RecordStream>
  count(range: KeyRange, signal: AbortSignal): Promise<{ count: number; position: Position }>
  stats(
    signal: AbortSignal,
  ): Promise<DatabaseState & { readonly minKey?: Key; readonly maxKey?: Key; readonly figures: EngineFigures }>
  import(body: AsyncIterable<Uint8Array>, options: ImportOptions, signal: AbortSignal): Promise<ImportResult>

  /** Encoded commit frames after `since`, durable ones only; `log_trimmed` when the log does not reach back. Ends at the newest unless `follow`. */
  changes(since: Position, follow: boolean, signal: AbortSignal): AsyncIterable<Uint8Array>

  /** Named consumers pin the log. @param lease after so many milliseconds it is forgotten; undefined: never */
  registerConsumer(name: string, position: Position, lease?: number): Promise<void>
  removeConsumer(name: string): Promise<void>

  /** Starts a task, or joins the one that runs. Progress is in `tasks`. */
  runTask(
    name: TaskName,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>>
  cancelTask(name: TaskName): boolean
  readonly tasks: readonly TaskStatus[]

  /** Lease of at most `ms` (10 s) during which nothing is written. */
  freeze(ms: number): Promise<{ token: string; position: Position; expiresAt: number }>
  thaw(token: string): Promise<{ withinLease: boolean }>

  /** Finishes in-flight work, checkpoints, closes, writes the clean-exit marker. */
  close(): Promise<void>
}
