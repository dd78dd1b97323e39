import { MAX_DECIMAL, type OutputBuffer } from './output-buffer.ts'
import type { RecordWriter } from './record-writer.ts'
import { ascii } from './text.ts'

const KEY = ascii('{"key":"')
const TERM = ascii('","term":"')
const CMD = ascii('","cmd":"')
const DATA = ascii('","data":"')
const EXPIRES = ascii('","expiresAt":"')
const LINE_OVERHEAD = 80 + 4 * MAX_DECIMAL

const ALPHABET = ascii('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')

/** One JSON object a line, u64 as decimal strings, data in base64; the caller adds the closing line (see `ndjsonEnd`). */
export function ndjsonWriter(values: boolean): RecordWriter {
  return {
    header() {},
    record(out, record) {
      out.reserve(LINE_OVERHEAD + (values ? Math.ceil(record.data.length / 3) * 4 : 0))
      out.short(KEY)
      out.decimal(record.key)
      out.short(TERM)
      out.decimal(record.term)
      out.short(CMD)
      out.decimal(record.cmd)
      if (values) {
        out.short(DATA)
        writeBase64(out, record.data)
      }
      if (record.expiresAt !== 0n) {
        out.short(EXPIRES)
        out.decimal(record.expiresAt)
      }
      out.u8(0x22)
      out.u8(0x7d)
      out.u8(0x0a)
    },
    footer() {},
  }
}

/** The line that ends a complete stream, so that a cut connection is never taken for the end. `position` is `epoch.seq`. */
export function ndjsonEnd(count: number, position: string): Uint8Array<ArrayBuffer> {
  return ascii(`{"end":true,"count":"${count}","position":"${position}"}\n`)
}

function writeBase64(out: OutputBuffer, data: Uint8Array): void {
  const { bytes } = out
  const whole = data.length - (data.length % 3)
  let at = out.length
  let i = 0
  for (; i < whole; i += 3) {
    const bits = ((data[i] as number) << 16) | ((data[i + 1] as number) << 8) | (data[i + 2] as number)
    bytes[at] = ALPHABET[bits >> 18] as number
    bytes[at + 1] = ALPHABET[(bits >> 12) & 63] as number
    bytes[at + 2] = ALPHABET[(bits >> 6) & 63] as number
    bytes[at + 3] = ALPHABET[bits & 63] as number
    at += 4
  }
  const left = data.length - whole
  if (left > 0) {
    const bits = ((data[i] as number) << 16) | (left === 2 ? (data[i + 1] as number) << 8 : 0)
    bytes[at] = ALPHABET[bits >> 18] as number
    bytes[at + 1] = ALPHABET[(bits >> 12) & 63] as number
    bytes[at + 2] = left === 2 ? (ALPHABET[(bits >> 6) & 63] as number) : 0x3d
    bytes[at + 3] = 0x3d
    at += 4
  }
  out.length = at
}
