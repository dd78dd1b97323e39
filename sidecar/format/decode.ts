import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'
import type { StoredRecord } from '../engine/engine.ts'
import { BinaryDecoder } from './binary-decoder.ts'
import { CsvDecoder } from './csv-decoder.ts'
import type { DecodeOptions, Decoder, OnRecord } from './decoder.ts'
import { JsonDecoder } from './json-decoder.ts'
import { NdjsonDecoder } from './ndjson-decoder.ts'

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
