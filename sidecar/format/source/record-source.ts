import type { StoredRecord } from '../../engine/engine.ts'

/** What a source is, as found by its content. */
export type SourceKind = 'binary' | 'json' | 'csv' | 'ndjson' | 'sqlite' | 'rocksdb' | 'lmdb'

/** What was met on the way, beside the records; complete once the last batch was delivered. */
export interface SourceReport {
  readonly kind: SourceKind
  /** Records delivered. */
  readonly records: number
  /** Of these, with an expiry. */
  readonly expiring: number
  /** Expiry entries whose record does not exist: left out. */
  readonly orphanExpiries: number
  /** Their keys, at most the first 100. */
  readonly orphanKeys: readonly bigint[]
}

/** Records that can be read once, from the first to the last: an export file, or a database of another program. */
export interface RecordSource {
  readonly kind: SourceKind
  /** Records to come, when the source says so beforehand. */
  readonly count?: number
  /**
   * Batches in the source's order (databases: unsigned key order). The data of a record stays valid after the next batch.
   * Rejects: `invalid_body` (export files), `too_large`, `engine_io`, `engine_corrupt`, `cancelled`.
   */
  batches(signal?: AbortSignal): AsyncIterable<readonly StoredRecord[]>
  /** As far as it has been read. */
  report(): SourceReport
  /** Gives back files, handles and scratch space; may be called at any time, also twice. */
  close(): Promise<void>
}
