import koffi from 'koffi'
import { KvidxError } from '../../../src/common/errors.ts'

/** An address in this process. Addresses fit a double: user space ends at 2^47 (2^56 with five-level paging is opt-in). */
export type Address = number

const libc = koffi.load(null)

/** `memcpy` between native addresses; both areas belong to the caller. */
export const copyNative: (target: Address, source: Address, bytes: number) => void = libc.func('memcpy', 'void', [
  'uintptr_t',
  'uintptr_t',
  'size_t',
])

/** `memcpy` from a native address into an array that lives in JavaScript; its address is used only during the call. */
const copyToArray: (target: Uint8Array, source: Address, bytes: number) => void = libc.func('memcpy', 'void', [
  'void *',
  'uintptr_t',
  'size_t',
])

/** Where the bytes of an array lie. They stay there for as long as the array lives; whoever uses the address must keep it alive. */
export function addressOf(array: Uint8Array): Address {
  // asked of the buffer: the bytes of a small array lie in V8's heap, and move, until somebody asks for that
  return Number(koffi.address(array.buffer)) + array.byteOffset
}

/** A fresh copy of native bytes. */
export function copyOut(source: Address, bytes: number): Uint8Array {
  const copy = new Uint8Array(bytes)
  if (bytes > 0) copyToArray(copy, source, bytes)
  return copy
}

/**
 * One native allocation, seen from JavaScript without a copy. Native functions get plain addresses inside it, which costs far less than
 * handing over buffers. Free it only when nothing native points into it.
 */
export class Block {
  readonly address: Address
  readonly size: number
  readonly bytes: Uint8Array
  readonly data: DataView
  /** u64 words by index (byte offset / 8), little-endian as the machine is. */
  readonly words: BigUint64Array
  readonly #buffer: ArrayBuffer
  #allocation: unknown

  /** @param size bytes, rounded up to a multiple of 8 */
  constructor(size: number) {
    this.size = Math.ceil(size / 8) * 8
    this.#allocation = koffi.alloc('uint8_t', this.size)
    this.address = Number(koffi.address(this.#allocation))
    if (!Number.isSafeInteger(this.address)) throw new KvidxError('internal', 'a native address does not fit a number')
    const buffer = koffi.view(this.#allocation, this.size)
    this.#buffer = buffer
    this.bytes = new Uint8Array(buffer)
    this.data = new DataView(buffer)
    this.words = new BigUint64Array(buffer)
    this.bytes.fill(0)
  }

  /** Views of the block that somebody still holds become empty: they must not see memory that is somebody else's by then. */
  free(): void {
    if (this.#allocation === undefined) return
    this.#buffer.transfer(0)
    koffi.free(this.#allocation)
    this.#allocation = undefined
  }
}

/** Memory of the library, seen as u64 words; valid for as long as the library keeps it. */
export function wordsAt(address: Address, count: number): BigUint64Array {
  return count === 0 ? new BigUint64Array(0) : new BigUint64Array(koffi.view(BigInt(address), count * 8))
}

/** The C string at an address. */
export function cString(address: Address): string {
  return String(koffi.decode(BigInt(address), 'char', -1))
}
