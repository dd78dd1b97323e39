import type { Statement } from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import type { Key, KeyRange, LogFrame, StoredRecord, Visit, WriteTransaction } from '../engine.ts'
import { EVERY_KEY } from '../engine.ts'
import { AppendBuffer } from './append-buffer.ts'
import type { Connection } from './connection.ts'
import { guarded } from './errors.ts'
import { rowRanges, toSigned } from './integer.ts'
import type { SqliteView } from './view.ts'

/**
 * The one write transaction of a writer, used again and again. It remembers the largest row id, so that an append is known
 * to be new without a look, and whether any record expires, so that a database without expiries never touches their table.
 */
export class SqliteTransaction implements WriteTransaction {
  readonly #view: SqliteView
  readonly #directory: string
  readonly #appends: AppendBuffer
  readonly #maxId: Statement<[], bigint | null>
  readonly #insert: Statement
  readonly #replace: Statement
  readonly #remove: Statement
  readonly #removeRun: Statement
  readonly #removeAll: Statement
  readonly #removeAllExpiries: Statement
  readonly #putExpiry: Statement
  readonly #removeExpiry: Statement
  readonly #removeExpiryRun: Statement
  readonly #putMeta: Statement
  readonly #removeMeta: Statement
  readonly #appendLog: Statement
  readonly #logBytes: Statement<[bigint, bigint], number | null>
  readonly #trimLog: Statement
  /** At least the largest row id, in signed order; undefined: not known; null: there is none. */
  #top: bigint | null | undefined
  #open = false

  constructor(connection: Connection, view: SqliteView, directory: string) {
    this.#view = view
    this.#directory = directory
    this.#appends = new AppendBuffer(connection)
    this.#maxId = connection.prepare<[], bigint | null>('SELECT max(id) FROM log').pluck().safeIntegers()
    this.#insert = connection.prepare(
      'INSERT INTO log (id, created, term, cmd, data) VALUES (?,0,?,?,?) ON CONFLICT DO NOTHING',
    )
    this.#replace = connection.prepare('INSERT OR REPLACE INTO log (id, created, term, cmd, data) VALUES (?,0,?,?,?)')
    this.#remove = connection.prepare('DELETE FROM log WHERE id = ?')
    this.#removeRun = connection.prepare('DELETE FROM log WHERE id BETWEEN ? AND ?')
    this.#removeAll = connection.prepare('DELETE FROM log')
    this.#removeAllExpiries = connection.prepare('DELETE FROM _kvidx_ttl')
    this.#putExpiry = connection.prepare('INSERT OR REPLACE INTO _kvidx_ttl (id, expires_at) VALUES (?,?)')
    this.#removeExpiry = connection.prepare('DELETE FROM _kvidx_ttl WHERE id = ?')
    this.#removeExpiryRun = connection.prepare('DELETE FROM _kvidx_ttl WHERE id BETWEEN ? AND ?')
    this.#putMeta = connection.prepare('INSERT OR REPLACE INTO _kvidx_meta (name, value) VALUES (?,?)')
    this.#removeMeta = connection.prepare('DELETE FROM _kvidx_meta WHERE name = ?')
    this.#appendLog = connection.prepare('INSERT INTO _kvidx_changes (first, last, frame) VALUES (?,?,?)')
    this.#logBytes = connection
      .prepare<[bigint, bigint], number | null>(
        'SELECT sum(length(frame)) FROM _kvidx_changes WHERE first <= ? AND last <= ?',
      )
      .pluck()
    this.#trimLog = connection.prepare('DELETE FROM _kvidx_changes WHERE first <= ? AND last <= ?')
  }

  /** Called by the writer right after BEGIN. */
  begin(): void {
    if (this.#top === undefined) this.#top = this.#maxId.get() ?? null
    this.#open = true
  }

  /** Called by the writer right before COMMIT. */
  finish(): void {
    this.#flush()
    this.#open = false
  }

  /** Called by the writer when the transaction is rolled back: what was remembered may be wrong now. */
  abandon(): void {
    this.#appends.discard()
    this.#top = undefined
    this.#open = false
  }

  get(key: Key): StoredRecord | undefined {
    const id = toSigned(key)
    const top = this.#top
    if (this.#open && top !== undefined && (top === null || id > top)) return undefined
    if (this.#appends.mayHold(id)) this.#flush()
    return this.#view.get(key)
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    this.#flush()
    return this.#view.scan(range, descending, visit)
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    return this.#view.scanExpiries(until, limit, visit)
  }

  getMeta(name: string): Uint8Array | undefined {
    return this.#view.getMeta(name)
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    return this.#view.scanLog(fromSeq, visit)
  }

  insert(record: StoredRecord): boolean {
    this.#check()
    const id = toSigned(record.key)
    const top = this.#top
    return guarded(this.#directory, 'insert a record', () => {
      if (top !== undefined && (top === null || id > top)) {
        this.#top = id
        this.#appends.add(id, record)
      } else {
        // A duplicate of a held-back row must be seen; a smaller id cannot meet one.
        if (this.#appends.mayHold(id)) this.#appends.flush()
        const { changes } = this.#insert.run(id, toSigned(record.term), toSigned(record.cmd), record.data)
        if (changes === 0) return false
      }
      if (record.expiresAt !== 0n) this.#setExpiry(id, record.expiresAt)
      return true
    })
  }

  replace(old: StoredRecord, record: StoredRecord): void {
    this.#check()
    const id = toSigned(record.key)
    guarded(this.#directory, 'replace a record', () => {
      if (this.#appends.mayHold(id)) this.#appends.flush()
      this.#replace.run(id, toSigned(record.term), toSigned(record.cmd), record.data)
      if (record.expiresAt !== 0n) {
        if (record.expiresAt !== old.expiresAt) this.#setExpiry(id, record.expiresAt)
      } else if (old.expiresAt !== 0n) {
        this.#removeExpiry.run(id)
      }
    })
  }

  remove(old: StoredRecord): void {
    this.#check()
    const id = toSigned(old.key)
    guarded(this.#directory, 'remove a record', () => {
      if (this.#appends.mayHold(id)) this.#appends.flush()
      this.#remove.run(id)
      if (old.expiresAt !== 0n) this.#removeExpiry.run(id)
    })
  }

  removeRange(range: KeyRange): void {
    this.#check()
    guarded(this.#directory, 'remove a range', () => {
      this.#appends.flush()
      if (range.start === EVERY_KEY.start && range.end === EVERY_KEY.end) {
        // Without a condition SQLite gives the pages back as they are, without looking at the rows.
        this.#removeAll.run()
        this.#removeAllExpiries.run()
        return
      }
      for (const { first, last } of rowRanges(range, false)) {
        this.#removeRun.run(first, last)
        if (this.#view.expiring) this.#removeExpiryRun.run(first, last)
      }
    })
  }

  putMeta(name: string, value: Uint8Array): void {
    this.#check()
    guarded(this.#directory, 'write metadata', () => this.#putMeta.run(name, value))
  }

  removeMeta(name: string): void {
    this.#check()
    guarded(this.#directory, 'remove metadata', () => this.#removeMeta.run(name))
  }

  appendLog(frame: LogFrame): void {
    this.#check()
    guarded(this.#directory, 'append to the change log', () =>
      this.#appendLog.run(frame.firstSeq, frame.lastSeq, frame.frame),
    )
  }

  trimLog(throughSeq: bigint): number {
    this.#check()
    return guarded(this.#directory, 'trim the change log', () => {
      const bytes = this.#logBytes.get(throughSeq, throughSeq) ?? 0
      this.#trimLog.run(throughSeq, throughSeq)
      return bytes
    })
  }

  #setExpiry(id: bigint, expiresAt: bigint): void {
    this.#view.expiring = true
    this.#putExpiry.run(id, toSigned(expiresAt))
  }

  #flush(): void {
    guarded(this.#directory, 'insert records', () => this.#appends.flush())
  }

  /** Outside BEGIN … COMMIT every statement would be a commit of its own. */
  #check(): void {
    if (!this.#open) throw new KvidxError('internal', 'A write transaction is used after its end')
  }
}
