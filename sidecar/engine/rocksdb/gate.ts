import koffi from 'koffi'
import { KvidxError } from '../../../src/common/errors.ts'
import type { Address } from '../native/memory.ts'

const READERS = 0
const CLOSED = 1
/** Index in doubles, behind the two integers. */
const REMOVED = 1
const SIZE = 16

/**
 * Counts, in native memory that all threads see, who uses the database beside the writer, and tells readers what only the writer knows. RocksDB frees everything at close, whatever other
 * threads are doing, so the writer refuses to close while a reader is there.
 */
export class Gate {
  readonly #words: Int32Array
  readonly #numbers: Float64Array

  /** @param address from `Gate.allocate`, possibly in another thread */
  constructor(address: Address) {
    const buffer = koffi.view(BigInt(address), SIZE)
    this.#words = new Int32Array(buffer)
    this.#numbers = new Float64Array(buffer)
  }

  /** A few bytes that are never freed: a late reader may still ask whether the database is closed. */
  static allocate(): Address {
    const allocation = koffi.alloc('uint8_t', SIZE)
    new Uint8Array(koffi.view(allocation, SIZE)).fill(0)
    return Number(koffi.address(allocation))
  }

  /** Bytes under range tombstones, which only the writer knows: see Removed. */
  get removedBytes(): number {
    return this.#numbers[REMOVED] ?? 0
  }

  set removedBytes(bytes: number) {
    this.#numbers[REMOVED] = bytes
  }

  get closed(): boolean {
    return Atomics.load(this.#words, CLOSED) === 1
  }

  /** Error: `not_ready` when the writer has closed. */
  enter(): void {
    Atomics.add(this.#words, READERS, 1)
    if (!this.closed) return
    this.leave()
    throw new KvidxError('not_ready', 'the RocksDB database is closed')
  }

  leave(): void {
    Atomics.sub(this.#words, READERS, 1)
  }

  /** Lets nobody in any more. Error: `conflict` while readers are inside; then the gate stays open. */
  close(): void {
    Atomics.store(this.#words, CLOSED, 1)
    const readers = Atomics.load(this.#words, READERS)
    if (readers === 0) return
    Atomics.store(this.#words, CLOSED, 0)
    throw new KvidxError(
      'conflict',
      `${readers} reader(s) still use the RocksDB database; close them before the writer`,
      {
        readers,
      },
    )
  }
}
