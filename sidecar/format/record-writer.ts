import type { StoredRecord } from '../engine/engine.ts'
import type { OutputBuffer } from './output-buffer.ts'

/** How one format writes; the buffer is shared with the encoder. */
export interface RecordWriter {
  header(out: OutputBuffer): void
  record(out: OutputBuffer, record: StoredRecord): void
  footer(out: OutputBuffer): void
}
