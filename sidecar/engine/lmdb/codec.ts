import { KvidxError } from '../../../src/common/errors.ts'
import type { Key, StoredRecord } from '../engine.ts'

/**
 * How records lie in LMDB. Keys are 8 bytes big-endian, so that LMDB's byte order is unsigned order. A value is
 * `term cmd expiresAt` as three u64 little-endian and then the data: one look-up gives the whole record.
 */
export const HEADER_BYTES = 24
/** Values up to this go through one buffer that is used again and again. */
const SCRATCH_BYTES = 1 << 20

/** The binding's buffers carry a view of themselves; it makes one for its own u32 keys in the same way. */
interface ViewedBuffer extends Uint8Array {
  dataView?: DataView
}

/** A buffer whose used part is named by `start` and `end`: the binding then takes its address once, not for every value. */
interface EncodedBuffer extends Uint8Array {
  start?: number
  end?: number
}

export interface Expiry {
  readonly expiresAt: bigint
  readonly key: Key
}

function viewOf(buffer: ViewedBuffer): DataView {
  buffer.dataView ??= new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength)
  return buffer.dataView
}

export const KEY_ENCODER = {
  writeKey(key: bigint, target: ViewedBuffer, start: number): number {
    viewOf(target).setBigUint64(start, key, false)
    return start + 8
  },
  readKey(source: ViewedBuffer, start: number): bigint {
    return viewOf(source).getBigUint64(start, false)
  },
}

export const EXPIRY_ENCODER = {
  writeKey({ expiresAt, key }: Expiry, target: ViewedBuffer, start: number): number {
    const view = viewOf(target)
    view.setBigUint64(start, expiresAt, false)
    view.setBigUint64(start + 8, key, false)
    return start + 16
  },
  readKey(source: ViewedBuffer, start: number): Expiry {
    const view = viewOf(source)
    return { expiresAt: view.getBigUint64(start, false), key: view.getBigUint64(start + 8, false) }
  },
}

/** A record without its key: what a value of the records database decodes to. */
export type RecordValue = Omit<StoredRecord, 'key'>

/** A frame without its first seq. */
export interface FrameValue {
  readonly lastSeq: bigint
  readonly frame: Uint8Array
}

const scratch: EncodedBuffer = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

function encoded(header: number, data: Uint8Array): EncodedBuffer {
  const size = header + data.length
  const target: EncodedBuffer = size <= SCRATCH_BYTES ? scratch : Buffer.allocUnsafeSlow(size)
  target.set(data, header)
  target.start = 0
  target.end = size
  return target
}

/** Copies: the binding hands out one buffer for all reads of a thread. Its `length` is that of the value. */
function copied(bytes: Uint8Array, from: number, size: number): Uint8Array {
  const data = Buffer.allocUnsafe(size - from)
  data.set(bytes.subarray(from, size))
  return data
}

export const RECORD_VALUES = {
  encode(record: RecordValue): EncodedBuffer {
    const target = encoded(HEADER_BYTES, record.data)
    const view = viewOf(target)
    view.setBigUint64(0, record.term, true)
    view.setBigUint64(8, record.cmd, true)
    view.setBigUint64(16, record.expiresAt, true)
    return target
  },
  decode(bytes: ViewedBuffer): RecordValue {
    const view = viewOf(bytes)
    return {
      term: view.getBigUint64(0, true),
      cmd: view.getBigUint64(8, true),
      expiresAt: view.getBigUint64(16, true),
      data: copied(bytes, HEADER_BYTES, bytes.length),
    }
  },
}

export const FRAME_VALUES = {
  encode(value: FrameValue): EncodedBuffer {
    const target = encoded(8, value.frame)
    viewOf(target).setBigUint64(0, value.lastSeq, true)
    return target
  },
  decode(bytes: ViewedBuffer): FrameValue {
    return { lastSeq: viewOf(bytes).getBigUint64(0, true), frame: copied(bytes, 8, bytes.length) }
  },
}

/** What a removal must know of a value: it reads the head and leaves the data where it is. */
export const RECORD_HEADS = {
  encode: readOnly,
  decode(bytes: ViewedBuffer): { readonly expiresAt: bigint } {
    return { expiresAt: viewOf(bytes).getBigUint64(16, true) }
  },
}

export const FRAME_HEADS = {
  encode: readOnly,
  decode(bytes: ViewedBuffer): { readonly lastSeq: bigint; readonly frameBytes: number } {
    return { lastSeq: viewOf(bytes).getBigUint64(0, true), frameBytes: bytes.length - 8 }
  },
}

function readOnly(): never {
  throw new KvidxError('internal', 'Heads are read, never written')
}

/** A key in two halves, to be read before the binding moves on. */
const rawKey = { high: 0, low: 0 }

export const RAW_KEYS = {
  writeKey: KEY_ENCODER.writeKey,
  readKey(source: ViewedBuffer, start: number): Readonly<typeof rawKey> {
    const view = viewOf(source)
    rawKey.high = view.getUint32(start, false)
    rawKey.low = view.getUint32(start + 4, false)
    return rawKey
  },
}

/** The binding's own buffer, which it uses again for the next value; `length` is that of the value. */
export const RAW_VALUES = {
  encode: readOnly,
  decode(bytes: ViewedBuffer): { readonly bytes: Uint8Array; readonly view: DataView } {
    rawValue.bytes = bytes
    rawValue.view = viewOf(bytes)
    return rawValue
  },
}

const rawValue: { bytes: Uint8Array; view: DataView } = { bytes: scratch, view: viewOf(scratch) }

export const BYTE_VALUES = {
  encode(value: Uint8Array): EncodedBuffer {
    return encoded(0, value)
  },
  decode(bytes: Uint8Array): Uint8Array {
    return copied(bytes, 0, bytes.length)
  },
}
