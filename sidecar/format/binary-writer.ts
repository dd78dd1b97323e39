import { KvidxError } from '../../src/common/errors.ts'
import type { RecordWriter } from './record-writer.ts'

/** `00 4B 56 45 56 49 44 58`: what kvidxkit writes (its own name, misspelt). */
export const BINARY_MAGIC = Uint8Array.of(0x00, 0x4b, 0x56, 0x45, 0x56, 0x49, 0x44, 0x58)
export const BINARY_VERSION = 1
export const BINARY_HEADER = 24
/** Bytes before the data of a record: key, term, cmd, dataLen. */
export const BINARY_RECORD = 32

export function binaryHeader(count: number): Uint8Array {
  const bytes = Buffer.alloc(BINARY_HEADER)
  bytes.set(BINARY_MAGIC)
  bytes.writeUInt32LE(BINARY_VERSION, 8)
  bytes.writeBigUInt64LE(BigInt(count), 16)
  return bytes
}

/** A wrong count makes a file that no reader accepts; better no file. Errors: internal. */
export function checkBinaryCount(count: number, written: number): void {
  if (written !== count)
    throw new KvidxError('internal', `the BINARY header announced ${count} records, but ${written} were written`)
}

/** kvidxkit's BINARY export; `count` records must follow. */
export function binaryWriter(count: number): RecordWriter {
  let written = 0
  return {
    header(out) {
      out.reserve(BINARY_HEADER)
      out.raw(binaryHeader(count))
    },
    record(out, record) {
      const { data } = record
      out.reserve(BINARY_RECORD + data.length)
      out.u64(record.key)
      out.u64(record.term)
      out.u64(record.cmd)
      out.u64Number(data.length)
      out.raw(data)
      written++
    },
    footer() {
      checkBinaryCount(count, written)
    },
  }
}
