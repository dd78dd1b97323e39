import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'
import type { StoredRecord } from '../engine/engine.ts'
import { BinaryDecoder } from './binary-decoder.ts'
import { CsvDecoder } from './csv-decoder.ts'
import { JsonDecoder } from './json-decoder.ts'
import { NdjsonDecoder } from './ndjson-decoder.ts'

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

export function createDecoder(format: StreamFormat, options: DecodeOptions, onRecord: OnRecord): Decoder {
  return new GuardedDecoder(bareDecoder(format, options, onRecord))
}

/** Batches of records as chunks arrive, so that a slow consumer holds the stream back. Errors as Decoder; `cancelled` by the signal. */
export async function* decodeStream(
  chunks: AsyncIterable<Uint8Array>,
  format: StreamFormat,
  options: DecodeOptions,
  signal?: AbortSignal,
): AsyncGenerator<readonly StoredRecord[]> {
  let batch: StoredRecord[] = []
  const decoder = createDecoder(format, options, record => batch.push(record))
  for await (const chunk of chunks) {
    if (signal?.aborted)
      throw new KvidxError('cancelled', `reading ${format} was cancelled after ${decoder.records} records`)
    decoder.push(chunk)
    if (batch.length === 0) continue
    const full = batch
    batch = []
    yield full
  }
  decoder.end()
  if (batch.length > 0) yield batch
}

function bareDecoder(format: StreamFormat, options: DecodeOptions, onRecord: OnRecord): Decoder {
  switch (format) {
    case 'binary':
      return new BinaryDecoder(options, onRecord)
    case 'json':
      return new JsonDecoder(options, onRecord)
    case 'csv':
      return new CsvDecoder(options, onRecord)
    case 'ndjson':
      return new NdjsonDecoder(options, onRecord)
  }
}

/** After an error the state of a decoder means nothing, so it must not go on. */
class GuardedDecoder implements Decoder {
  readonly #inner: Decoder
  #failure: unknown

  constructor(inner: Decoder) {
    this.#inner = inner
  }

  get records() {
    return this.#inner.records
  }

  get announced() {
    return this.#inner.announced
  }

  get position() {
    return this.#inner.position
  }

  push(chunk: Uint8Array): void {
    this.#guard(() => this.#inner.push(chunk))
  }

  end(): void {
    this.#guard(() => this.#inner.end())
  }

  #guard(step: () => void): void {
    if (this.#failure !== undefined) throw this.#failure
    try {
      step()
    } catch (thrown) {
      this.#failure = thrown
      throw thrown
    }
  }
}
