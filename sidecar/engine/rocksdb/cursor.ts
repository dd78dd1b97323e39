import type { StoredRecord } from '../engine.ts'
import { type Address, type Block, copyNative, copyOut, wordsAt } from '../native/memory.ts'
import type { RocksLibrary } from './binding.ts'
import { decodeRecord } from './record.ts'
import { BORROWED_LIMIT, FRAME_VALUE, type Session } from './session.ts'

/** Byte offsets in a cursor's frame. The bounds must stay where they are for as long as the iterator lives. */
const KEY_LENGTH = 0
const VALUE_LENGTH = 8
const KEY = 16
const LOWER = 48
const UPPER = 80
/** The longest key that is read: expiresAt and key. Bounds have one byte more. */
const KEY_LIMIT = 16

export interface CursorOptions {
  readonly descending?: boolean
  /** Inclusive bounds, both of the same length (8 or 16 bytes); none: everything. */
  readonly lower?: Uint8Array
  readonly upper?: Uint8Array
  /** Address of a RocksDB snapshot; 0 or none: as of now. */
  readonly snapshot?: Address
  /** false: blocks that are read do not push others out of the cache */
  readonly fillCache?: boolean
  readonly verifyChecksums?: boolean
}

/**
 * Walks one column family. Between calls everything native is alive, so `close` must be called, whatever happens: an iterator that is
 * open when the database closes aborts the process.
 */
export class Cursor {
  readonly #session: Session
  readonly #frame: Block
  readonly #lengths: Uint32Array
  readonly #options: Address
  readonly #iterator: Address
  readonly #descending: boolean
  readonly #lower: Address
  readonly #boundLength: number
  // what is called for each entry of a long walk: looked up once
  readonly #step: RocksLibrary['rocksdb_iter_next']
  readonly #valid: RocksLibrary['rocksdb_iter_valid']
  readonly #keyOf: RocksLibrary['rocksdb_iter_key']
  readonly #valueOf: RocksLibrary['rocksdb_iter_value']
  readonly #keyLength: Address
  readonly #valueLength: Address
  #started = false
  #closed = false
  #value: Address = 0
  #keyAddress: Address = 0
  #keyView: DataView | undefined

  constructor(session: Session, family: Address, options: CursorOptions = {}) {
    session.ensureOpen()
    const { library } = session
    const frame = session.takeFrame()
    this.#session = session
    this.#frame = frame
    this.#lengths = new Uint32Array(frame.bytes.buffer, 0, 4)
    this.#descending = options.descending ?? false
    this.#step = this.#descending ? library.rocksdb_iter_prev : library.rocksdb_iter_next
    this.#valid = library.rocksdb_iter_valid
    this.#keyOf = library.rocksdb_iter_key
    this.#valueOf = library.rocksdb_iter_value
    this.#keyLength = frame.address + KEY_LENGTH
    this.#valueLength = frame.address + VALUE_LENGTH
    this.#options = library.rocksdb_readoptions_create()
    if (options.snapshot) library.rocksdb_readoptions_set_snapshot(this.#options, options.snapshot)
    if (options.fillCache === false) library.rocksdb_readoptions_set_fill_cache(this.#options, 0)
    if (options.verifyChecksums) library.rocksdb_readoptions_set_verify_checksums(this.#options, 1)
    this.#lower = frame.address + LOWER
    this.#boundLength = options.lower?.length ?? 0
    if (options.lower) {
      frame.bytes.set(options.lower, LOWER)
      library.rocksdb_readoptions_set_iterate_lower_bound(this.#options, frame.address + LOWER, options.lower.length)
    }
    if (options.upper) {
      // RocksDB's upper bound is exclusive; the smallest key behind `upper` is `upper` with a zero byte.
      frame.bytes.set(options.upper, UPPER)
      frame.bytes[UPPER + options.upper.length] = 0
      library.rocksdb_readoptions_set_iterate_upper_bound(
        this.#options,
        frame.address + UPPER,
        options.upper.length + 1,
      )
    }
    this.#iterator = library.rocksdb_create_iterator_cf(session.handles.database, this.#options, family)
  }

  /** Moves to the first or next entry; false at the end. Errors of the engine are thrown here. */
  next(): boolean {
    if (this.#started) this.#step(this.#iterator)
    else {
      const { library } = this.#session
      this.#started = true
      if (this.#descending) library.rocksdb_iter_seek_to_last(this.#iterator)
      else if (this.#boundLength > 0) library.rocksdb_iter_seek(this.#iterator, this.#lower, this.#boundLength)
      else library.rocksdb_iter_seek_to_first(this.#iterator)
    }
    if (this.#valid(this.#iterator) !== 0) return true
    this.#session.library.rocksdb_iter_get_error(this.#iterator, this.#session.errorSlot)
    this.#session.check('scan')
    return false
  }

  /** Bytes of the present key; up to 16 of them are copied for `key64`. */
  loadKey(): number {
    const frame = this.#frame
    const address = this.#keyOf(this.#iterator, this.#keyLength)
    const length = this.#lengths[KEY_LENGTH / 4] ?? 0
    copyNative(frame.address + KEY, address, length > KEY_LIMIT ? KEY_LIMIT : length)
    return length
  }

  /** The u64 at a byte of the loaded key. */
  key64(offset: 0 | 4 | 8 = 0): bigint {
    return this.#frame.data.getBigUint64(KEY + offset)
  }

  /** The record key of the present entry. */
  key(): bigint {
    const frame = this.#frame
    copyNative(frame.address + KEY, this.#keyOf(this.#iterator, this.#keyLength), 8)
    return frame.data.getBigUint64(KEY)
  }

  /** The whole key, a copy. */
  keyBytes(): Uint8Array {
    const address = this.#keyOf(this.#iterator, this.#keyLength)
    return copyOut(address, this.#lengths[KEY_LENGTH / 4] ?? 0)
  }

  /** Bytes of the present value, without copying it. */
  valueLength(): number {
    this.#valueOf(this.#iterator, this.#valueLength)
    return this.#lengths[VALUE_LENGTH / 4] ?? 0
  }

  /** The present value, a copy. */
  value(): Uint8Array {
    const address = this.#valueOf(this.#iterator, this.#valueLength)
    return copyOut(address, this.#lengths[VALUE_LENGTH / 4] ?? 0)
  }

  /** The present entry as a record; its data is borrowed until the cursor moves. */
  record(key: bigint): StoredRecord {
    const frame = this.#frame
    const address = this.#valueOf(this.#iterator, this.#valueLength)
    const length = this.#lengths[VALUE_LENGTH / 4] ?? 0
    if (length <= BORROWED_LIMIT) {
      copyNative(frame.address + FRAME_VALUE, address, length)
      return decodeRecord(key, frame.bytes, frame.words, FRAME_VALUE, length)
    }
    const bytes = copyOut(address, length)
    return decodeRecord(key, bytes, new BigUint64Array(bytes.buffer, 0, 3), 0, length)
  }

  /** Finds the present value and returns its length; `packInto` copies it. */
  locateValue(): number {
    this.#value = this.#valueOf(this.#iterator, this.#valueLength)
    return this.#lengths[VALUE_LENGTH / 4] ?? 0
  }

  /**
   * Copies the located value (term, cmd, expiresAt, data) behind 8 bytes that get the key, little-endian: a packed record whose length field still
   * holds the expiry.
   * @param address where the bytes of `target` lie
   */
  packInto(target: DataView, address: Address, at: number, valueLength: number): void {
    copyNative(address + at + 8, this.#value, valueLength)
    const keyAddress = this.#keyOf(this.#iterator, this.#keyLength)
    let key: DataView | undefined
    if (keyAddress === this.#keyAddress) {
      // the iterator mostly builds its keys in one place, and a look there costs less than a call
      this.#keyView ??= new DataView(wordsAt(keyAddress, 1).buffer)
      key = this.#keyView
    } else {
      this.#keyAddress = keyAddress
      this.#keyView = undefined
      copyNative(this.#frame.address + KEY, keyAddress, 8)
    }
    const source = key ?? this.#frame.data
    const from = key ? 0 : KEY
    target.setUint32(at, source.getUint32(from + 4), true)
    target.setUint32(at + 4, source.getUint32(from), true)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#session.library.rocksdb_iter_destroy(this.#iterator)
    this.#session.library.rocksdb_readoptions_destroy(this.#options)
    this.#session.giveFrame(this.#frame)
  }
}

/** 8 bytes big-endian: the order of keys is the order of bytes. */
export function keyBytes(key: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, key)
  return bytes
}

/** A key of the expiry index. */
export function expiryBytes(expiresAt: bigint, key: bigint): Uint8Array {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, expiresAt)
  view.setBigUint64(8, key)
  return bytes
}
