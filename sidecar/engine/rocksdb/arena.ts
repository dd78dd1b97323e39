import { type Address, Block } from '../native/memory.ts'

const CHUNK = 1 << 20
const CHUNK_SHIFT = 17
const CHUNK_MASK = (1 << CHUNK_SHIFT) - 1
/** Chunks that are kept for the next transaction. */
const KEPT = 4

/**
 * Native memory that only grows until it is reset: the encoded records of one transaction. They are handed to RocksDB from here, and read back
 * from here by the transaction itself, without another copy. A place is a number: the offset in units of 8 bytes, so it stays a small integer up to
 * 8 GiB.
 */
export class Arena {
  /** By chunk number; an area longer than a chunk takes several numbers and stands at the first. */
  readonly #chunks: (Block | undefined)[] = []
  readonly #spare: Block[] = []
  #next = 0
  #left = 0
  block: Block | undefined
  /** Byte offset in `block` of the area reserved last. */
  offset = 0

  /** Reserves `bytes`; `block` and `offset` say where. Returns the place. */
  reserve(bytes: number): number {
    const units = (bytes + 7) >>> 3
    if (units > this.#left) this.#grow(units)
    const place = this.#next
    this.#next += units
    this.#left -= units
    this.offset = this.block && this.block.size > CHUNK ? 0 : (place & CHUNK_MASK) << 3
    return place
  }

  #grow(units: number): void {
    const number = this.#chunks.length
    if (units <= CHUNK_MASK + 1) {
      this.block = this.#spare.pop() ?? new Block(CHUNK)
      this.#chunks.push(this.block)
      this.#left = CHUNK_MASK + 1
    } else {
      this.block = new Block(units * 8)
      this.#chunks.push(this.block)
      const numbers = Math.ceil(units / (CHUNK_MASK + 1))
      for (let i = 1; i < numbers; i++) this.#chunks.push(undefined)
      // Nothing else goes into a large area: offsets inside it would not say which chunk they are in.
      this.#left = units
    }
    this.#next = number << CHUNK_SHIFT
  }

  /** The block and byte offset of a place. */
  at(place: number): { block: Block; offset: number } {
    const block = this.#chunks[place >>> CHUNK_SHIFT]
    if (!block) throw new RangeError('no such place in the arena')
    return { block, offset: (place & CHUNK_MASK) << 3 }
  }

  addressOf(place: number): Address {
    const { block, offset } = this.at(place)
    return block.address + offset
  }

  /** Everything in it is gone. */
  reset(): void {
    for (const block of this.#chunks) {
      if (!block) continue
      if (block.size === CHUNK && this.#spare.length < KEPT) this.#spare.push(block)
      else block.free()
    }
    this.#chunks.length = 0
    this.#next = 0
    this.#left = 0
    this.block = undefined
  }

  free(): void {
    this.reset()
    for (const block of this.#spare) block.free()
    this.#spare.length = 0
  }
}
