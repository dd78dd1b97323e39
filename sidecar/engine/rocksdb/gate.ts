import koffi from 'koffi'
import { KvidxError } from '../../../src/common/errors.ts'
import type { Address } from '../native/memory.ts'

const READERS = 0
const CLOSED = 1

/**
 * Counts, in native memory that all threads see, who uses the database beside the writer. RocksDB frees everything at close, whatever other
 * threads are doing, so the writer refuses to close while a reader is there.
 */
export class Gate {
  readonly #words: Int32Array

  /** @param address from `Gate.allocate`, possibly in another thread */
  constructor(address: Address) {
    this.#words = new Int32Array(koffi.view(BigInt(address), 8))
  }

  /** Eight bytes that are never freed: a late reader may still ask whether the database is closed. */
  static allocate(): Address {
    const allocation = koffi.alloc('int32_t', 2)
    const address = Number(koffi.address(allocation))
    new Int32Array(koffi.view(allocation, 8)).fill(0)
    return address
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
