import type { Key, KeyRange, Packed, ReadView } from './engine.ts'

/** Bytes of a packed record before its data: key, term, cmd and length, u64 little-endian each (docs/formats.md, section 5). */
export const PACKED_HEADER = 32

/** Records looked at in one call, so that a range whose records have all expired does not hold up the thread. */
const MOST_SEEN = 50_000

const WORD = 0x1_0000_0000

/** How far a target is filled; the engines write the records themselves. */
export class Packer {
  readonly #room: number
  readonly #visibleAt: bigint | undefined
  /** `visibleAt` rounded down to what a double holds, for a first look without a BigInt. */
  readonly #visibleAbove: number
  /** Bytes written. */
  length = 0
  records = 0
  /** Records looked at. */
  seen = 0
  #needed = 0
  #next: Key | undefined

  constructor(target: Uint8Array, visibleAt: bigint | undefined) {
    this.#room = target.length
    this.#visibleAt = visibleAt
    this.#visibleAbove = visibleAt === undefined ? 0 : Number(visibleAt) * (1 + Number.EPSILON)
  }

  isVisible(expiresAt: bigint): boolean {
    return expiresAt === 0n || this.#visibleAt === undefined || expiresAt > this.#visibleAt
  }

  /** As `isVisible`, for a u64 in memory. */
  isVisible64(view: DataView, at: number): boolean {
    const low = view.getUint32(at, true)
    const high = view.getUint32(at + 4, true)
    if ((low === 0 && high === 0) || this.#visibleAt === undefined) return true
    if (high * WORD > this.#visibleAbove) return true
    return view.getBigUint64(at, true) > this.#visibleAt
  }

  /** Whether a record with so many bytes of data still goes in. */
  hasRoomFor(dataBytes: number): boolean {
    return this.length + PACKED_HEADER + dataBytes <= this.#room && this.seen < MOST_SEEN
  }

  /** The walk ends before this record. */
  stop(key: Key, dataBytes: number): void {
    this.#next = key
    this.#needed = PACKED_HEADER + dataBytes
  }

  result(): Packed {
    return { bytes: this.length, records: this.records, next: this.#next, needed: this.#needed }
  }
}

/** Packs what a scan visits: for every view that has nothing quicker. */
export function packByScan(
  view: Pick<ReadView, 'scan'>,
  range: KeyRange,
  visibleAt: bigint | undefined,
  target: Uint8Array,
  packer = new Packer(target, visibleAt),
): Packed {
  const out = new DataView(target.buffer, target.byteOffset, target.byteLength)
  view.scan(range, false, ({ key, term, cmd, data, expiresAt }) => {
    if (!packer.hasRoomFor(data.length)) {
      packer.stop(key, data.length)
      return false
    }
    packer.seen++
    if (!packer.isVisible(expiresAt)) return true
    const at = packer.length
    out.setBigUint64(at, key, true)
    out.setBigUint64(at + 8, term, true)
    out.setBigUint64(at + 16, cmd, true)
    setLength(out, at + 24, data.length)
    target.set(data, at + PACKED_HEADER)
    packer.length = at + PACKED_HEADER + data.length
    packer.records++
    return true
  })
  return packer.result()
}

/** A u64 below 2^53, without a BigInt. */
export function setLength(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, Math.floor(value / WORD), true)
}
