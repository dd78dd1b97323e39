import type { Key } from '../engine.ts'
import type { Address } from '../native/memory.ts'
import { Block } from '../native/memory.ts'
import type { RocksHandles, Session } from './session.ts'

/** Above so many bytes the batch is made anew, because clearing keeps its memory. */
const KEPT_BYTES = 4 << 20

/** The changes of one transaction, in order. RocksDB copies what it is given. */
export class Batch {
  readonly #session: Session
  readonly #handles: RocksHandles
  readonly #key = new Block(32)
  /** Metadata goes through here: it is changed in every commit. */
  #value = new Block(4096)
  #batch: Address
  #bytes = 0

  constructor(session: Session) {
    this.#session = session
    this.#handles = session.handles
    this.#batch = session.library.rocksdb_writebatch_create()
  }

  /** About what the changes take in the WAL. */
  get bytes(): number {
    return this.#bytes
  }

  get empty(): boolean {
    return this.#session.library.rocksdb_writebatch_count(this.#batch) === 0
  }

  /** The key is 8 bytes at `key`; the value `length` bytes at `value`. */
  putRecord(key: Address, value: Address, length: number): void {
    this.#bytes += length + 16
    this.#session.library.rocksdb_writebatch_put_cf(this.#batch, this.#handles.records, key, 8, value, length)
  }

  removeRecord(key: Key): void {
    this.#remove(this.#handles.records, key)
  }

  putExpiry(expiresAt: bigint, key: Key): void {
    const address = this.#expiry(expiresAt, key)
    this.#bytes += 24
    this.#session.library.rocksdb_writebatch_put_cf(this.#batch, this.#handles.expiry, address, 16, address, 0)
  }

  removeExpiry(expiresAt: bigint, key: Key): void {
    const address = this.#expiry(expiresAt, key)
    this.#bytes += 24
    this.#session.library.rocksdb_writebatch_delete_cf(this.#batch, this.#handles.expiry, address, 16)
  }

  putMeta(name: string, value: Uint8Array): void {
    const { library } = this.#session
    const length = this.#session.setName(name)
    if (value.length > this.#value.size) {
      this.#value.free()
      this.#value = new Block(value.length)
    }
    this.#value.bytes.set(value)
    library.rocksdb_writebatch_put_cf(
      this.#batch,
      this.#handles.meta,
      this.#session.keyAddress,
      length,
      this.#value.address,
      value.length,
    )
    this.#bytes += length + value.length + 8
  }

  removeMeta(name: string): void {
    const length = this.#session.setName(name)
    this.#session.library.rocksdb_writebatch_delete_cf(
      this.#batch,
      this.#handles.meta,
      this.#session.keyAddress,
      length,
    )
  }

  /** The value, firstSeq and frame, is `length` bytes at `value`. */
  putLog(lastSeq: bigint, value: Address, length: number): void {
    this.#bytes += length + 16
    this.#key.data.setBigUint64(0, lastSeq)
    this.#session.library.rocksdb_writebatch_put_cf(
      this.#batch,
      this.#handles.changes,
      this.#key.address,
      8,
      value,
      length,
    )
  }

  removeLog(lastSeq: bigint): void {
    this.#remove(this.#handles.changes, lastSeq)
  }

  /** Both bounds inclusive, of the same length; first <= last. */
  removeRange(family: 'records' | 'expiry' | 'changes', first: Uint8Array, last: Uint8Array): void {
    const bounds = new Block(first.length + last.length + 8)
    bounds.bytes.set(first, 0)
    // The end is exclusive: a zero byte behind `last` makes the smallest key after it.
    bounds.bytes.set(last, first.length)
    this.#session.library.rocksdb_writebatch_delete_range_cf(
      this.#batch,
      this.#handles[family],
      bounds.address,
      first.length,
      bounds.address + first.length,
      last.length + 1,
    )
    bounds.free()
  }

  /** Atomic; as durable as `writeOptions` say. */
  write(writeOptions: Address): void {
    const { library, errorSlot } = this.#session
    library.rocksdb_write(this.#handles.database, writeOptions, this.#batch, errorSlot)
    this.#session.check('commit')
  }

  clear(): void {
    const { library } = this.#session
    if (this.#bytes > KEPT_BYTES) {
      library.rocksdb_writebatch_destroy(this.#batch)
      this.#batch = library.rocksdb_writebatch_create()
    } else {
      library.rocksdb_writebatch_clear(this.#batch)
    }
    this.#bytes = 0
  }

  free(): void {
    this.#session.library.rocksdb_writebatch_destroy(this.#batch)
    this.#key.free()
    this.#value.free()
  }

  #remove(family: Address, key: bigint): void {
    this.#bytes += 16
    this.#key.data.setBigUint64(0, key)
    this.#session.library.rocksdb_writebatch_delete_cf(this.#batch, family, this.#key.address, 8)
  }

  #expiry(expiresAt: bigint, key: Key): Address {
    this.#key.data.setBigUint64(0, expiresAt)
    this.#key.data.setBigUint64(8, key)
    return this.#key.address
  }
}
