import { MAX_DECIMAL, type OutputBuffer } from './output-buffer.ts'
import type { RecordWriter } from './record-writer.ts'
import { ascii } from './text.ts'

const HEADER = ascii('{"format":"kvidx-json","version":1,"entries":[')
const KEY = ascii('{"key":')
const TERM = ascii(',"term":')
const CMD = ascii(',"cmd":')
const DATA = ascii(',"data":"')
const ENTRY_OVERHEAD = 64 + 3 * MAX_DECIMAL

/** Above this many bytes the escaped length is counted first instead of reserving six times the data. */
const COUNT_FIRST = 16 * 1024
const HEX = ascii('0123456789abcdef')

/** 0: copied; 1: `\u00xx`; else the letter behind the backslash. */
const ESCAPE = new Uint8Array(256)
ESCAPE.fill(1, 0, 0x20)
ESCAPE[0x7f] = 1
for (const [byte, letter] of [
  [0x22, '"'],
  [0x5c, '\\'],
  [0x08, 'b'],
  [0x0c, 'f'],
  [0x0a, 'n'],
  [0x0d, 'r'],
  [0x09, 't'],
] as const) {
  ESCAPE[byte] = letter.charCodeAt(0)
}

/** kvidxkit's JSON export, byte for byte: bytes from 0x80 on are copied raw, so it is valid UTF-8 only if the data are. */
export function jsonWriter(metadata: boolean, pretty: boolean, values: boolean): RecordWriter {
  let first = true
  return {
    header(out) {
      out.reserve(HEADER.length + 1)
      out.raw(HEADER)
      if (pretty) out.u8(0x0a)
    },
    record(out, record) {
      const { data } = record
      const dataRoom = values ? (data.length <= COUNT_FIRST ? data.length * 6 : escapedLength(data)) : 0
      out.reserve(ENTRY_OVERHEAD + dataRoom)
      if (!first) out.u8(0x2c)
      first = false
      if (pretty) {
        out.u8(0x0a)
        out.u8(0x20)
        out.u8(0x20)
      }
      out.short(KEY)
      out.decimal(record.key)
      if (metadata) {
        out.short(TERM)
        out.decimal(record.term)
        out.short(CMD)
        out.decimal(record.cmd)
      }
      if (values) {
        out.short(DATA)
        writeEscaped(out, data)
        out.u8(0x22)
      }
      out.u8(0x7d)
    },
    footer(out) {
      out.reserve(4)
      if (pretty) out.u8(0x0a)
      out.u8(0x5d)
      out.u8(0x7d)
      out.u8(0x0a)
    },
  }
}

function escapedLength(data: Uint8Array): number {
  let length = data.length
  for (let i = 0; i < data.length; i++) {
    const kind = ESCAPE[data[i] as number] as number
    if (kind !== 0) length += kind === 1 ? 5 : 1
  }
  return length
}

function writeEscaped(out: OutputBuffer, data: Uint8Array): void {
  const { bytes } = out
  let at = out.length
  for (let i = 0; i < data.length; i++) {
    const byte = data[i] as number
    const kind = ESCAPE[byte] as number
    if (kind === 0) {
      bytes[at++] = byte
      continue
    }
    bytes[at++] = 0x5c
    if (kind !== 1) {
      bytes[at++] = kind
      continue
    }
    bytes[at++] = 0x75
    bytes[at++] = 0x30
    bytes[at++] = 0x30
    bytes[at++] = HEX[byte >> 4] as number
    bytes[at++] = HEX[byte & 15] as number
  }
  out.length = at
}
