import { KvidxError } from '../../../src/common/errors.ts'
import type { KeyRange, LogFrame, StoredRecord, WriteTransaction } from '../engine.ts'
import { EVERY_KEY } from '../engine.ts'
import type { Environment } from './environment.ts'
import { guarded } from './errors.ts'
import type { MapLimit } from './limit.ts'
import { LmdbView } from './view.ts'

const FIRST_EXPIRY = { expiresAt: 0n, key: 0n }
const LAST_EXPIRY = { expiresAt: EVERY_KEY.end, key: EVERY_KEY.end }
const NOTHING = new Uint8Array(1)
/** Keys collected before they are removed, so that no cursor stands on what goes away. */
const REMOVE_AT_ONCE = 10_000

/** The one write transaction of a writer, used again and again. It remembers the largest key, so that appends need no look. */
export class LmdbTransaction extends LmdbView implements WriteTransaction {
  readonly #limit: MapLimit
  /** At least the largest key; undefined: not known; null: there is none. */
  #top: bigint | null | undefined
  #open = false

  constructor(environment: Environment, limit: MapLimit) {
    super(environment, () => ({}))
    this.#limit = limit
  }

  /** Called by the writer when the transaction has begun. */
  begin(): void {
    this.#open = true
    if (this.#top !== undefined) return
    this.#top = null
    const { records } = this.environment
    for (const key of records.getKeys({ start: EVERY_KEY.end, end: 0n, inclusiveEnd: true, reverse: true, limit: 1 }))
      this.#top = key
  }

  /** Called by the writer before the commit. */
  finish(): void {
    this.#open = false
  }

  /** Called by the writer when the transaction is rolled back: what was remembered may be wrong now. */
  abandon(): void {
    this.#top = undefined
    this.#open = false
  }

  override get(key: bigint): StoredRecord | undefined {
    const top = this.#top
    if (top !== undefined && (top === null || key > top)) return undefined
    return super.get(key)
  }

  insert(record: StoredRecord): boolean {
    this.#check()
    this.#limit.take(record.data.length)
    const top = this.#top
    return guarded('insert a record', () => {
      const append = top !== undefined && (top === null || record.key > top)
      if (append) this.#top = record.key
      if (!this.environment.records.putSync(record.key, record, append ? { append } : { noOverwrite: true }))
        return false
      if (record.expiresAt !== 0n) this.#putExpiry(record)
      return true
    })
  }

  replace(old: StoredRecord, record: StoredRecord): void {
    this.#check()
    this.#limit.take(record.data.length)
    guarded('replace a record', () => {
      this.environment.records.putSync(record.key, record)
      if (old.expiresAt === record.expiresAt) return
      if (old.expiresAt !== 0n) this.#removeExpiry(old)
      if (record.expiresAt !== 0n) this.#putExpiry(record)
    })
  }

  remove(old: StoredRecord): void {
    this.#check()
    guarded('remove a record', () => {
      this.environment.records.removeSync(old.key)
      if (old.expiresAt !== 0n) this.#removeExpiry(old)
    })
  }

  removeRange(range: KeyRange): void {
    this.#check()
    guarded('remove a range', () => {
      const { records, expiries } = this.environment
      if (range.start === EVERY_KEY.start && range.end === EVERY_KEY.end) {
        records.clearSync()
        expiries.clearSync()
        return
      }
      while (this.#removeSome(range) === REMOVE_AT_ONCE);
    })
  }

  putMeta(name: string, value: Uint8Array): void {
    this.#check()
    guarded('write metadata', () => this.environment.metadata.putSync(name, value))
  }

  removeMeta(name: string): void {
    this.#check()
    guarded('remove metadata', () => this.environment.metadata.removeSync(name))
  }

  appendLog(frame: LogFrame): void {
    this.#check()
    // Never refused: a removal, which is how space comes back, needs its frame too.
    this.#limit.note(frame.frame.length)
    const appended = guarded('append to the change log', () =>
      this.environment.changes.putSync(frame.firstSeq, frame, { append: true }),
    )
    if (!appended) throw new KvidxError('internal', `The change log does not end before seq ${frame.firstSeq}`)
  }

  trimLog(throughSeq: bigint): number {
    this.#check()
    return guarded('trim the change log', () => {
      const { changes, frameHeads } = this.environment
      let bytes = 0
      for (;;) {
        const found: bigint[] = []
        for (const { key, value } of frameHeads.getRange({ start: 0n, end: throughSeq, inclusiveEnd: true })) {
          if (value.lastSeq > throughSeq) break
          bytes += value.frameBytes
          if (found.push(key) === REMOVE_AT_ONCE) break
        }
        for (const first of found) changes.removeSync(first)
        if (found.length < REMOVE_AT_ONCE) return bytes
      }
    })
  }

  /** Removes the first records of the range, at most REMOVE_AT_ONCE; returns how many. */
  #removeSome(range: KeyRange): number {
    const { records, recordHeads, expiries } = this.environment
    const bounds = { ...range, inclusiveEnd: true, limit: REMOVE_AT_ONCE } as const
    if (expiries.getKeysCount({ start: FIRST_EXPIRY, end: LAST_EXPIRY, inclusiveEnd: true, limit: 1 }) === 0) {
      const keys = [...records.getKeys(bounds)]
      for (const key of keys) records.removeSync(key)
      return keys.length
    }
    const found: { readonly key: bigint; readonly expiresAt: bigint }[] = []
    for (const { key, value } of recordHeads.getRange(bounds)) found.push({ key, expiresAt: value.expiresAt })
    for (const { key, expiresAt } of found) {
      records.removeSync(key)
      if (expiresAt !== 0n) expiries.removeSync({ expiresAt, key })
    }
    return found.length
  }

  #putExpiry({ expiresAt, key }: StoredRecord): void {
    this.environment.expiries.putSync({ expiresAt, key }, NOTHING)
  }

  #removeExpiry({ expiresAt, key }: StoredRecord): void {
    this.environment.expiries.removeSync({ expiresAt, key })
  }

  /** Outside the transaction every call would be a commit of its own. */
  #check(): void {
    if (!this.#open) throw new KvidxError('internal', 'A write transaction is used after its end')
  }
}
