import type { StoredRecord } from '../../engine/engine.ts'
import { decodeStream } from '../decode.ts'
import type { DecodeOptions } from '../decoder.ts'
import type { RecordSource, SourceReport } from './record-source.ts'

export type ExportKind = 'binary' | 'json' | 'csv' | 'ndjson'

/** An export in one of the stream formats as a source. `release` is called once, by `close`. */
export function openExport(
  chunks: AsyncIterable<Uint8Array>,
  kind: ExportKind,
  options: DecodeOptions,
  release: () => Promise<void> = async () => {},
): RecordSource {
  let records = 0
  let expiring = 0
  let released = false
  return {
    kind,
    async *batches(signal?: AbortSignal): AsyncGenerator<readonly StoredRecord[]> {
      for await (const batch of decodeStream(chunks, kind, options, signal)) {
        records += batch.length
        for (const record of batch) if (record.expiresAt !== 0n) expiring++
        yield batch
      }
    },
    report(): SourceReport {
      return { kind, records, expiring, orphanExpiries: 0, orphanKeys: [] }
    },
    async close() {
      if (released) return
      released = true
      await release()
    },
  }
}
