import { KvidxError } from '../../../src/common/errors.ts'
import type { Key, KeyRange, LogFrame, StoredRecord, Visit, WriteTransaction } from '../engine.ts'
import { Arena } from './arena.ts'
import type { Batch } from './batch.ts'
import { expiryBytes, keyBytes } from './cursor.ts'
import { Overlay, REMOVED, UNTOUCHED } from './overlay.ts'
import { contains } from './ranges.ts'
import { decodeRecord, HEADER } from './record.ts'
import type { Tombstone } from './removed.ts'
import { LOG_HEADER, type RocksView } from './view.ts'

const MAX = 0xffff_ffff_ffff_ffffn
/** Up to so many entries are removed one by one: a range tombstone costs every later read a little. */
const SINGLE_REMOVALS = 64

/**
 * The one write transaction. Changes go into a RocksDB write batch, which is atomic; because the batch cannot be read, the transaction
 * remembers them (overlay, arena) and lays them over what the database holds. The object is used again for every transaction.
 */
export class RocksTransaction implements WriteTransaction {
  readonly #base: RocksView
  readonly #batch: Batch
  readonly #arena = new Arena()
  readonly #overlay = new Overlay()
  readonly #meta = new Map<string, Uint8Array | undefined>()
  readonly #log: { readonly frame: LogFrame; removed: boolean }[] = []
  #trimmed = -1n
  #tombstones: Tombstone[] = []
  #active = false
  /** No stored key is larger; that makes appending at the end free of look-ups. */
  #largest: Key

  constructor(base: RocksView, batch: Batch) {
    this.#base = base
    this.#batch = batch
    this.#largest = -1n
    base.scan({ start: 0n, end: MAX }, true, ({ key }) => {
      this.#largest = key
      return false
    })
  }

  begin(): void {
    this.#active = true
  }

  /** Forgets everything, whether it was committed or not. */
  end(): void {
    this.#active = false
    this.#batch.clear()
    this.#arena.reset()
    this.#overlay.clear()
    this.#meta.clear()
    this.#log.length = 0
    this.#trimmed = -1n
    this.#tombstones = []
  }

  /** Ranges that were removed as ranges. */
  get tombstones(): readonly Tombstone[] {
    return this.#tombstones
  }

  free(): void {
    this.#arena.free()
  }

  #ensureActive(): void {
    if (!this.#active) throw new KvidxError('internal', 'the transaction has ended')
  }

  get(key: Key): StoredRecord | undefined {
    this.#ensureActive()
    const place = this.#overlay.find(key)
    if (place === UNTOUCHED) return this.#base.get(key)
    return place === REMOVED ? undefined : this.#recordAt(key, place)
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    this.#ensureActive()
    if (range.start > range.end) return 0
    const overlay = this.#overlay
    if (overlay.empty) return this.#base.scan(range, descending, visit)
    const keys = overlay.keys(range)
    const { ranges } = overlay
    const step = descending ? -1 : 1
    let index = descending ? keys.length - 1 : 0
    let visited = 0
    const cursor = this.#base.records(range, descending)
    try {
      let stored = cursor.next() ? cursor.key() : undefined
      for (;;) {
        const changed = keys[index]
        if (changed === undefined && stored === undefined) return visited
        const takeChanged =
          changed !== undefined && (stored === undefined || (descending ? changed >= stored : changed <= stored))
        let record: StoredRecord | undefined
        if (takeChanged) {
          const place = overlay.find(changed)
          if (place >= 0) record = this.#recordAt(changed, place)
        } else if (stored !== undefined && !contains(ranges, stored)) {
          record = cursor.record(stored)
        }
        if (record) {
          visited++
          if (visit(record) === false) return visited
        }
        if (!takeChanged || changed === stored) stored = cursor.next() ? cursor.key() : undefined
        if (takeChanged) index += step
      }
    } finally {
      cursor.close()
    }
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    this.#ensureActive()
    const overlay = this.#overlay
    if (overlay.empty) return this.#base.scanExpiries(until, limit, visit)
    if (limit <= 0) return 0
    // What the transaction touched is judged by its own records alone; the index decides for the rest.
    const changed: { key: Key; expiresAt: bigint }[] = []
    for (const key of overlay.keys({ start: 0n, end: MAX })) {
      const place = overlay.find(key)
      const expiresAt = place >= 0 ? this.#recordAt(key, place).expiresAt : 0n
      if (expiresAt !== 0n && expiresAt <= until) changed.push({ key, expiresAt })
    }
    changed.sort(byExpiry)
    let next = 0
    let visited = 0
    const cursor = this.#base.expiries(until)
    try {
      let stored = this.#nextUntouched(cursor)
      while (visited < limit) {
        const mine = changed[next]
        const takeMine = mine !== undefined && (stored === undefined || byExpiry(mine, stored) < 0)
        const entry = takeMine ? mine : stored
        if (!entry) break
        visited++
        if (visit(entry) === false) break
        if (takeMine) next++
        else stored = this.#nextUntouched(cursor)
      }
    } finally {
      cursor.close()
    }
    return visited
  }

  #nextUntouched(cursor: ReturnType<RocksView['expiries']>): { key: Key; expiresAt: bigint } | undefined {
    while (cursor.next()) {
      cursor.loadKey()
      const key = cursor.key64(8)
      if (this.#overlay.find(key) === UNTOUCHED) return { key, expiresAt: cursor.key64(0) }
    }
    return undefined
  }

  getMeta(name: string): Uint8Array | undefined {
    this.#ensureActive()
    return this.#meta.has(name) ? this.#meta.get(name) : this.#base.getMeta(name)
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    this.#ensureActive()
    const start = fromSeq > this.#trimmed ? fromSeq : this.#trimmed + 1n
    let stopped = false
    let visited = 0
    if (start <= MAX) {
      visited = this.#base.scanLog(start, frame => {
        stopped = visit(frame) === false
        return !stopped
      })
    }
    for (const { frame, removed } of this.#log) {
      if (stopped) break
      if (removed || frame.lastSeq < fromSeq) continue
      visited++
      stopped = visit(frame) === false
    }
    return visited
  }

  insert(record: StoredRecord): boolean {
    this.#ensureActive()
    const { key } = record
    if (key <= this.#largest) {
      const place = this.#overlay.find(key)
      if (place >= 0 || (place === UNTOUCHED && this.#base.has(key))) return false
    } else {
      this.#largest = key
    }
    this.#put(record)
    return true
  }

  replace(old: StoredRecord, record: StoredRecord): void {
    this.#ensureActive()
    if (old.key !== record.key) throw new KvidxError('internal', 'a record is replaced by one of another key')
    if (old.expiresAt !== 0n && old.expiresAt !== record.expiresAt) this.#batch.removeExpiry(old.expiresAt, old.key)
    this.#put(record)
  }

  remove(old: StoredRecord): void {
    this.#ensureActive()
    if (old.expiresAt !== 0n) this.#batch.removeExpiry(old.expiresAt, old.key)
    this.#batch.removeRecord(old.key)
    this.#overlay.put(old.key, REMOVED)
  }

  removeRange(range: KeyRange): void {
    this.#ensureActive()
    if (range.start > range.end) return
    if (range.start === 0n && range.end === MAX) {
      this.#batch.removeRange('expiry', expiryBytes(0n, 0n), expiryBytes(MAX, MAX))
      this.#removeRecords(range)
      return
    }
    const few = this.#few(range)
    if (few) {
      for (const record of few) this.remove(record)
      return
    }
    // The expiry index is ordered by time, so its entries of a key range are found through the records.
    if (this.#anyExpiry()) {
      this.scan(range, false, ({ key, expiresAt }) => {
        if (expiresAt !== 0n) this.#batch.removeExpiry(expiresAt, key)
      })
    }
    this.#removeRecords(range)
  }

  #removeRecords({ start, end }: KeyRange): void {
    this.#batch.removeRange('records', keyBytes(start), keyBytes(end))
    this.#overlay.removeRange({ start, end })
    this.#tombstones.push({ family: 'records', start, end })
  }

  /** The records of the range, without data, when they are few. */
  #few(range: KeyRange): StoredRecord[] | undefined {
    const found: StoredRecord[] = []
    this.scan(range, false, ({ key, term, cmd, expiresAt }) => {
      found.push({ key, term, cmd, data: NO_DATA, expiresAt })
      return found.length <= SINGLE_REMOVALS
    })
    return found.length <= SINGLE_REMOVALS ? found : undefined
  }

  #anyExpiry(): boolean {
    return this.scanExpiries(MAX, 1, () => false) > 0
  }

  putMeta(name: string, value: Uint8Array): void {
    this.#ensureActive()
    this.#batch.putMeta(name, value)
    this.#meta.set(name, value.slice())
  }

  removeMeta(name: string): void {
    this.#ensureActive()
    this.#batch.removeMeta(name)
    this.#meta.set(name, undefined)
  }

  appendLog({ firstSeq, lastSeq, frame }: LogFrame): void {
    this.#ensureActive()
    const place = this.#arena.reserve(LOG_HEADER + frame.length)
    const { block, offset } = this.#arena.at(place)
    block.words[offset >>> 3] = firstSeq
    block.bytes.set(frame, offset + LOG_HEADER)
    this.#batch.putLog(lastSeq, block.address + offset, LOG_HEADER + frame.length)
    const start = offset + LOG_HEADER
    const kept = block.bytes.subarray(start, start + frame.length)
    this.#log.push({ frame: { firstSeq, lastSeq, frame: kept }, removed: false })
  }

  trimLog(throughSeq: bigint): number {
    this.#ensureActive()
    let bytes = 0
    const stored: bigint[] = []
    const start = this.#trimmed + 1n
    if (throughSeq >= start) {
      const cursor = this.#base.log(start, throughSeq)
      try {
        while (cursor.next()) {
          bytes += cursor.valueLength() - LOG_HEADER
          stored.push(cursor.key())
        }
      } finally {
        cursor.close()
      }
      this.#trimmed = throughSeq
    }
    const last = stored.at(-1)
    if (last !== undefined) {
      if (stored.length > SINGLE_REMOVALS) {
        const first = stored[0] ?? 0n
        this.#batch.removeRange('changes', keyBytes(first), keyBytes(last))
        this.#tombstones.push({ family: 'changes', start: first, end: last })
      } else {
        for (const seq of stored) this.#batch.removeLog(seq)
      }
    }
    for (const entry of this.#log) {
      if (entry.removed || entry.frame.lastSeq > throughSeq) continue
      entry.removed = true
      bytes += entry.frame.frame.length
      this.#batch.removeLog(entry.frame.lastSeq)
    }
    return bytes
  }

  /** Encodes the record in the arena, as key and value, and puts it into the batch from there. */
  #put({ key, term, cmd, data, expiresAt }: StoredRecord): void {
    const length = HEADER + data.length
    const place = this.#arena.reserve(VALUE + length)
    const { block, offset } = this.#arena
    if (!block) throw new KvidxError('internal', 'the arena has no block')
    block.data.setUint32(offset + LENGTH, length, true)
    block.data.setBigUint64(offset + KEY, key)
    const word = (offset + VALUE) >>> 3
    block.words[word] = term
    block.words[word + 1] = cmd
    block.words[word + 2] = expiresAt
    block.bytes.set(data, offset + VALUE + HEADER)
    this.#batch.putRecord(block.address + offset + KEY, block.address + offset + VALUE, length)
    this.#overlay.put(key, place)
    if (expiresAt !== 0n) this.#batch.putExpiry(expiresAt, key)
  }

  #recordAt(key: Key, place: number): StoredRecord {
    const { block, offset } = this.#arena.at(place)
    const length = block.data.getUint32(offset + LENGTH, true)
    return decodeRecord(key, block.bytes, block.words, offset + VALUE, length)
  }
}

/** Where a record's parts lie in its place in the arena. */
const LENGTH = 0
const KEY = 8
const VALUE = 16

const NO_DATA = new Uint8Array(0)

function byExpiry(a: { key: Key; expiresAt: bigint }, b: { key: Key; expiresAt: bigint }): number {
  if (a.expiresAt !== b.expiresAt) return a.expiresAt < b.expiresAt ? -1 : 1
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0
}
