import { KvidxError } from '../../../src/common/errors.ts'
import type { Key, KeyRange, LogFrame, Packed, ReadView, StoredRecord, Visit } from '../engine.ts'
import type { Address } from '../native/memory.ts'
import { addressOf, Block, copyNative, copyOut } from '../native/memory.ts'
import { PACKED_HEADER, Packer, setLength } from '../pack.ts'
import { Cursor, type CursorOptions, expiryBytes, keyBytes } from './cursor.ts'
import { decodeCopy, decodeRecord, HEADER } from './record.ts'
import { BORROWED_LIMIT, type Session } from './session.ts'

const MAX = 0xffff_ffff_ffff_ffffn

/** In front of a log frame in its entry's value: firstSeq, u64 little-endian. The entry's key is lastSeq. */
export const LOG_HEADER = 8

/** Reads of the newest commit, or of one snapshot. */
export class RocksView implements ReadView {
  readonly session: Session
  readonly #snapshot: Address
  readonly #readOptions: Address
  /** A record found by `get` lies here until the next `get`. */
  #found: Block | undefined
  #freed = false

  /** @param snapshot address of a RocksDB snapshot, 0: every call sees the newest commit */
  constructor(session: Session, snapshot: Address = 0) {
    this.session = session
    this.#snapshot = snapshot
    this.#readOptions = session.library.rocksdb_readoptions_create()
    if (snapshot) session.library.rocksdb_readoptions_set_snapshot(this.#readOptions, snapshot)
  }

  get(key: Key): StoredRecord | undefined {
    return this.#get(key, false)
  }

  /** The record with data of its own, that no later call overwrites. */
  getCopy(key: Key): StoredRecord | undefined {
    return this.#get(key, true)
  }

  /** Written out, without the closures of `Session.lookup`: this is the hottest path of all. */
  #get(key: Key, copy: boolean): StoredRecord | undefined {
    this.#ensureUsable()
    const { session } = this
    const { library, handles, errorSlot } = session
    const keyAddress = session.setKey(key)
    const slice = library.rocksdb_get_pinned_cf(
      handles.database,
      this.#readOptions,
      handles.records,
      keyAddress,
      8,
      errorSlot,
    )
    if (slice === 0) {
      session.check('read')
      return undefined
    }
    const address = library.rocksdb_pinnableslice_value(slice, session.lengthSlot)
    const record = this.#take(key, address, session.length, copy)
    library.rocksdb_pinnableslice_destroy(slice)
    return record
  }

  #ensureUsable(): void {
    if (this.#freed) throw new KvidxError('not_ready', 'the snapshot has been released, or the database closed')
    this.session.ensureOpen()
  }

  #take(key: Key, address: Address, length: number, copy: boolean): StoredRecord {
    if (length > BORROWED_LIMIT) {
      const bytes = copyOut(address, length)
      return decodeRecord(key, bytes, new BigUint64Array(bytes.buffer, 0, 3), 0, length)
    }
    this.#found ??= new Block(BORROWED_LIMIT)
    const found = this.#found
    copyNative(found.address, address, length)
    return copy
      ? decodeCopy(key, found.bytes, found.words, length)
      : decodeRecord(key, found.bytes, found.words, 0, length)
  }

  has(key: Key): boolean {
    const { session } = this
    this.#ensureUsable()
    session.setKey(key)
    return session.lookup(session.handles.records, this.#readOptions, 8, present) ?? false
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    if (range.start > range.end) return 0
    let visited = 0
    const cursor = this.records(range, descending)
    try {
      while (cursor.next()) {
        visited++
        if (visit(cursor.record(cursor.key())) === false) break
      }
    } finally {
      cursor.close()
    }
    return visited
  }

  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed {
    const packer = new Packer(target, visibleAt)
    if (range.start > range.end) return packer.result()
    const out = new DataView(target.buffer, target.byteOffset, target.byteLength)
    const address = addressOf(target)
    // whoever packs reads a great deal once: it would only push the hot blocks out of the cache
    const cursor = this.cursor(this.session.handles.records, { fillCache: false, ...bounds(range) })
    try {
      while (cursor.next()) {
        const length = cursor.locateValue()
        const dataBytes = length - HEADER
        const at = packer.length
        if (!packer.hasRoomFor(dataBytes)) {
          packer.stop(cursor.key(), dataBytes)
          break
        }
        cursor.packInto(out, address, at, length)
        packer.seen++
        const expires = at + PACKED_HEADER - 8
        if (!packer.isVisible64(out, expires)) continue
        setLength(out, expires, dataBytes)
        packer.length = at + PACKED_HEADER + dataBytes
        packer.records++
      }
    } finally {
      cursor.close()
    }
    return packer.result()
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    if (limit <= 0) return 0
    let visited = 0
    const cursor = this.expiries(until)
    try {
      while (visited < limit && cursor.next()) {
        cursor.loadKey()
        visited++
        if (visit({ expiresAt: cursor.key64(0), key: cursor.key64(8) }) === false) break
      }
    } finally {
      cursor.close()
    }
    return visited
  }

  getMeta(name: string): Uint8Array | undefined {
    this.#ensureUsable()
    return this.session.meta(name, this.#readOptions)
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    let visited = 0
    const cursor = this.log(fromSeq)
    try {
      while (cursor.next()) {
        const value = cursor.value()
        visited++
        if (visit(logFrame(cursor.key(), value)) === false) break
      }
    } finally {
      cursor.close()
    }
    return visited
  }

  /** Counts without touching data. */
  count(range: KeyRange): number {
    if (range.start > range.end) return 0
    const cursor = this.records(range, false)
    try {
      let count = 0
      while (cursor.next()) count++
      return count
    } finally {
      cursor.close()
    }
  }

  /** The range must not be empty: lower bounds behind upper ones are undefined in RocksDB. */
  records(range: KeyRange, descending: boolean): Cursor {
    const everything = range.start === 0n && range.end === MAX
    return this.cursor(this.session.handles.records, {
      descending,
      // What reads everything would only push the hot blocks out of the cache.
      ...(everything ? { fillCache: false } : bounds(range)),
    })
  }

  /** Entries with expiresAt <= `until`. */
  expiries(until: bigint): Cursor {
    return this.cursor(this.session.handles.expiry, { lower: expiryBytes(0n, 0n), upper: expiryBytes(until, MAX) })
  }

  /** Entries with fromSeq <= lastSeq <= throughSeq. */
  log(fromSeq: bigint, throughSeq: bigint = MAX): Cursor {
    const range = { start: fromSeq, end: throughSeq }
    return this.cursor(this.session.handles.changes, { fillCache: false, ...bounds(range) })
  }

  cursor(family: Address, options: CursorOptions): Cursor {
    this.#ensureUsable()
    return new Cursor(this.session, family, { ...options, snapshot: this.#snapshot })
  }

  /** Frees what belongs to this view; it must not be used afterwards. */
  free(): void {
    this.#freed = true
    this.session.library.rocksdb_readoptions_destroy(this.#readOptions)
    this.#found?.free()
    this.#found = undefined
  }
}

function bounds(range: KeyRange): CursorOptions {
  return { lower: keyBytes(range.start), upper: keyBytes(range.end) }
}

export function logFrame(lastSeq: bigint, value: Uint8Array): LogFrame {
  const firstSeq = new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)
  return { firstSeq, lastSeq, frame: value.subarray(LOG_HEADER) }
}

function present(): boolean {
  return true
}
