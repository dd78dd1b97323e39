import type { StoredRecord } from '../engine/engine.ts'

export interface DecodeOptions {
  /** Largest data of one record in bytes; more is `too_large`, found before memory is taken for it. */
  readonly maxDataBytes: number
  /** NDJSON: end without the closing line (`ndjsonEnd`). Default false: such a stream was cut off. */
  readonly openEnd?: boolean
  /** NDJSON: lines have no data (a scan with values=false); records come with empty data. Default false. */
  readonly withoutValues?: boolean
}

/**
 * Receives each record. Its data stays valid as long as the chunks that were pushed are not overwritten: it is a view of a chunk
 * or memory of its own. To throw ends the decoding.
 */
export type OnRecord = (record: StoredRecord) => void

/**
 * Reads a stream in whatever chunks it comes. Memory is bounded by the largest record. Errors carry `format`, `record` (index, the first
 * is 0), `offset` (bytes from the start) and, in text formats, `line` (the first is 1). After an error every call throws it again.
 */
export interface Decoder {
  /** Errors: `invalid_body`, `too_large`. */
  push(chunk: Uint8Array): void
  /** The stream is over. Errors: `invalid_body` when it is not complete. */
  end(): void
  /** Records delivered. */
  readonly records: number
  /** Records that the stream has announced (BINARY, after its header). */
  readonly announced?: number | undefined
  /** NDJSON: the position in the closing line. */
  readonly position?: string | undefined
}
