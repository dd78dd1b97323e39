import { open, stat } from 'node:fs/promises'
import { DETECT_BYTES, detectCompression, detectFile } from '../../sidecar/format/source/detect.ts'
import type { SourceReport } from '../../sidecar/format/source/record-source.ts'

/** Of one record: the server has the real limit. */
const MAX_DATA_BYTES = 2 ** 31 - 1

/** A path that no format tells and that is read here: a database of kvidxkit (its directory or its file), or a compressed export. */
export async function isReadHere(path: string): Promise<boolean> {
  if (path === '-') return false
  if ((await stat(path).catch(() => undefined))?.isDirectory()) return true
  const file = await open(path, 'r').catch(() => undefined)
  if (!file) return false
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(DETECT_BYTES), 0, DETECT_BYTES, 0)
    const start = buffer.subarray(0, bytesRead)
    return detectCompression(start) !== undefined || detectFile(start) === 'sqlite'
  } finally {
    await file.close()
  }
}

export interface LocalRecords {
  /** As NDJSON, which has expiries too. */
  readonly lines: AsyncIterable<Uint8Array>
  /** Records that the database says it has. */
  readonly count: number | undefined
  report(): SourceReport
  close(): Promise<void>
}

/**
 * The records of a database of kvidxkit. It is copied to `scratch` first where reading it would write. Errors: invalid_body, engine_io, engine_corrupt,
 * engine_unavailable.
 */
export async function readDatabase(path: string, scratch: string): Promise<LocalRecords> {
  const { openSource } = await import('../../sidecar/format/source/source.ts')
  const { createEncoder, ENCODER_CHUNK } = await import('../../sidecar/format/encode.ts')
  const source = await openSource(path, { maxDataBytes: MAX_DATA_BYTES, scratch })
  async function* lines(): AsyncGenerator<Uint8Array> {
    const encoder = createEncoder('ndjson')
    for await (const batch of source.batches())
      for (const record of batch) {
        encoder.append(record)
        if (encoder.length >= ENCODER_CHUNK) yield encoder.take()
      }
    yield encoder.take()
  }
  return { lines: lines(), count: source.count, report: () => source.report(), close: () => source.close() }
}
