import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'
import type { StoredRecord } from '../engine/engine.ts'
import { binaryWriter } from './binary-writer.ts'
import { csvWriter } from './csv-writer.ts'
import { jsonWriter } from './json-writer.ts'
import { ndjsonWriter } from './ndjson-writer.ts'
import { OutputBuffer } from './output-buffer.ts'
import type { RecordWriter } from './record-writer.ts'

/** Bytes after which a consumer should take what is there: large enough for few messages, small enough for many readers. */
export const ENCODER_CHUNK = 256 * 1024

export interface EncodeOptions {
  /** JSON and CSV: with term and cmd. Default true. */
  readonly metadata?: boolean
  /** JSON only: one entry a line. Default false. */
  readonly pretty?: boolean
  /** With the data. False is for lists of keys and is not possible in BINARY. Default true. */
  readonly values?: boolean
  /** BINARY needs it: the number of records that will follow. */
  readonly count?: number
  /** Bytes of one buffer; default ENCODER_CHUNK. */
  readonly chunkSize?: number
}

/** Encodes records into large buffers: `header`, then `append` for each, taking what has gathered from time to time, then `footer`. */
export interface Encoder {
  /** The first bytes of the stream. */
  header(): Uint8Array<ArrayBuffer>
  /** Copies the record; nothing of it is kept. */
  append(record: StoredRecord): void
  /** Bytes gathered and not yet taken; take when it reaches ENCODER_CHUNK. */
  readonly length: number
  /** What has gathered, alone in its ArrayBuffer (so it can be transferred to another thread). May be empty. */
  take(): Uint8Array<ArrayBuffer>
  /** Gives back the memory of a chunk that nobody reads any more; new pages cost as much as encoding into them. */
  recycle(buffer: ArrayBuffer): void
  /** What has gathered and the last bytes of the stream. Throws `internal` if BINARY got another number of records than `count`. */
  footer(): Uint8Array<ArrayBuffer>
}

/** Errors: `invalid_parameter` for an option that the format does not have. */
export function createEncoder(format: StreamFormat, options: EncodeOptions = {}): Encoder {
  const writer = createWriter(format, options)
  const out = new OutputBuffer(options.chunkSize ?? ENCODER_CHUNK)
  return {
    header() {
      writer.header(out)
      return out.take()
    },
    append(record) {
      writer.record(out, record)
    },
    get length() {
      return out.length
    },
    take: () => out.take(),
    recycle: buffer => out.recycle(buffer),
    footer() {
      writer.footer(out)
      return out.take()
    },
  }
}

function createWriter(format: StreamFormat, options: EncodeOptions): RecordWriter {
  const { metadata = true, pretty = false, values = true } = options
  if (pretty && format !== 'json') throw unsupported('pretty', 'true', format, 'json')
  if (!metadata && format !== 'json' && format !== 'csv') throw unsupported('metadata', 'false', format, 'json and csv')
  switch (format) {
    case 'binary':
      if (!values) throw unsupported('values', 'false', format, 'json, csv and ndjson')
      if (options.count === undefined) {
        throw new KvidxError('internal', 'count is missing: a BINARY file begins with its number of records')
      }
      return binaryWriter(options.count)
    case 'json':
      return jsonWriter(metadata, pretty, values)
    case 'csv':
      return csvWriter(metadata, values)
    case 'ndjson':
      return ndjsonWriter(values)
  }
}

function unsupported(field: string, value: string, format: string, allowed: string): KvidxError {
  return new KvidxError(
    'invalid_parameter',
    `${field}=${value} is not possible with format ${format}, only with ${allowed}`,
    {
      field,
      value,
      allowed,
    },
  )
}
