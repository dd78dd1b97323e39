import { PACKED_HEADER, type Packer } from '../pack.ts'

/** Rows of kvidxkit's table `log` (id, created, term, cmd, data) on a leaf, from their bytes to packed records: https://sqlite.org/fileformat.html. */

const POINTERS = 8
/** Bytes of an integer by its serial type; 7 is a double, and no row of ours has one. */
const SIZES = [0, 1, 2, 3, 4, 6, 8, -1, 0, 0]
const COLUMNS = 5

/** `packed`; `full`: no room; `odd`: a row that only SQLite can read, because it goes on on other pages or is none of ours. */
export type RowOutcome = 'packed' | 'full' | 'odd'

/** Reads rows of leaves into the target of a packer. */
export class LeafReader {
  readonly #usable: number
  /** What stays on its page at most. */
  readonly #local: number
  readonly target: Uint8Array
  readonly #out: DataView
  readonly #packer: Packer
  #at = 0
  /** Data bytes of the row that was looked at last. */
  dataBytes = 0

  constructor(usable: number, target: Uint8Array, packer: Packer) {
    this.#usable = usable
    this.#local = usable - 35
    this.target = target
    this.#out = new DataView(target.buffer, target.byteOffset, target.byteLength)
    this.#packer = packer
  }

  /** Packs the row of a cell, or says why not; nothing has changed then. */
  pack(bytes: Buffer, index: number): RowOutcome {
    const payload = this.#begin(bytes, index)
    if (payload < 0 || payload > this.#local) return 'odd'
    const rowid = this.#at
    let at = rowid
    for (let i = 0; i < 8 && (bytes[at] as number) >= 0x80; i++) at++
    at++
    const end = at + payload
    const headerSize = bytes[at] as number
    const header = at + headerSize
    if (end > this.#usable || headerSize < COLUMNS || headerSize > 12) return 'odd'
    // id is NULL, because it is the row id
    if (bytes[at + 1] !== 0) return 'odd'
    const created = bytes[at + 2] as number
    const term = bytes[at + 3] as number
    const cmd = bytes[at + 4] as number
    if (created > 9 || created === 7 || term === 0 || term > 9 || term === 7 || cmd === 0 || cmd > 9 || cmd === 7)
      return 'odd'
    let type = 0
    for (let i = at + 5; i < header; i++) {
      const byte = bytes[i] as number
      type = type * 128 + (byte & 0x7f)
      if (byte < 0x80 && i !== header - 1) return 'odd'
    }
    const dataBytes = type === 0 ? 0 : (type - 12) / 2
    const termAt = header + (SIZES[created] as number)
    const cmdAt = termAt + (SIZES[term] as number)
    const dataAt = cmdAt + (SIZES[cmd] as number)
    // a text has an odd type
    if ((type !== 0 && (type < 12 || type % 2 === 1)) || dataAt + dataBytes !== end) return 'odd'
    this.dataBytes = dataBytes
    const packer = this.#packer
    if (!packer.hasRoomFor(dataBytes)) return 'full'
    const to = packer.length
    this.#key(bytes, rowid, to)
    this.#integer(bytes, termAt, term, to + 8)
    this.#integer(bytes, cmdAt, cmd, to + 16)
    this.#out.setUint32(to + 24, dataBytes, true)
    this.#out.setUint32(to + 28, 0, true)
    this.#copy(bytes, dataAt, dataBytes, to + PACKED_HEADER)
    packer.length = to + PACKED_HEADER + dataBytes
    packer.records++
    packer.seen++
    return 'packed'
  }

  /** Reads the length of a cell's payload and leaves `#at` at its row id; negative when the cell does not lie on its page. */
  #begin(bytes: Buffer, index: number): number {
    let at = ((bytes[POINTERS + index * 2] as number) << 8) | (bytes[POINTERS + index * 2 + 1] as number)
    if (at + 4 > this.#usable) return -1
    let payload = 0
    for (let i = 0; ; i++) {
      if (i === 5) return -1
      const byte = bytes[at++] as number
      payload = payload * 128 + (byte & 0x7f)
      if (byte < 0x80) break
    }
    this.#at = at
    return payload
  }

  /** The row id, a varint of 1 to 9 bytes, as u64 little-endian. */
  #key(bytes: Buffer, from: number, to: number): void {
    let low = 0
    let high = 0
    for (let i = 0; i < 9; i++) {
      const byte = bytes[from + i] as number
      if (i === 8) {
        high = (high << 8) | (low >>> 24)
        low = (low << 8) | byte
        break
      }
      high = (high << 7) | (low >>> 25)
      low = (low << 7) | (byte & 0x7f)
      if (byte < 0x80) break
    }
    this.#out.setInt32(to, low, true)
    this.#out.setInt32(to + 4, high, true)
  }

  /** An integer of 0 to 8 bytes, big-endian and signed, as the u64 with the same bits, little-endian. */
  #integer(bytes: Buffer, from: number, type: number, to: number): void {
    const size = SIZES[type] as number
    let low = type === 9 ? 1 : 0
    let high = 0
    if (size > 0) {
      // the sign goes all the way up
      low = ((bytes[from] as number) << 24) >> 24
      high = low >> 31
      for (let i = 1; i < size; i++) {
        high = (high << 8) | (low >>> 24)
        low = (low << 8) | (bytes[from + i] as number)
      }
    }
    this.#out.setInt32(to, low, true)
    this.#out.setInt32(to + 4, high, true)
  }

  #copy(bytes: Buffer, from: number, length: number, to: number): void {
    if (length <= 16) for (let i = 0; i < length; i++) this.target[to + i] = bytes[from + i] as number
    else bytes.copy(this.target, to, from, from + length)
  }
}

/** The row id of a cell of a leaf, or what it says when the cell is damaged. */
export function cellRowid(bytes: Buffer, index: number): bigint {
  let at = bytes.readUInt16BE(POINTERS + index * 2)
  for (let i = 0; i < 8 && (bytes[at] as number) >= 0x80; i++) at++
  return rowidAt(bytes, at + 1)
}

/** A varint as a signed 64-bit integer. */
export function rowidAt(bytes: Buffer, from: number): bigint {
  let value = 0
  for (let i = 0; i < 7; i++) {
    const byte = bytes[from + i] as number
    value = value * 128 + (byte & 0x7f)
    if (byte < 0x80) return BigInt(value)
  }
  let long = BigInt(value)
  const eighth = bytes[from + 7] as number
  long = (long << 7n) | BigInt(eighth & 0x7f)
  if (eighth < 0x80) return long
  return BigInt.asIntN(64, (long << 8n) | BigInt(bytes[from + 8] as number))
}
