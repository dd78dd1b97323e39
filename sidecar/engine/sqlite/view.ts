import type { Statement } from 'better-sqlite3'
import type { Key, KeyRange, LogFrame, Packed, ReadView, StoredRecord, Visit } from '../engine.ts'
import { packByScan } from '../pack.ts'
import type { Connection } from './connection.ts'
import { guarded } from './errors.ts'
import { type RowRange, rowRanges, toSigned, toUnsigned } from './integer.ts'
import { PagePacker } from './page-pack.ts'
import { OddPage } from './table-walk.ts'
import type { DatabaseFiles, WalMoment } from './wal-pages.ts'

/** Rows fetched by one call: enough to make the call cheap, and with INLINE_BYTES a bound on memory (4 MiB). */
const MOST_ROWS = 256
const LEAST_ROWS = 8
const FIRST_ROWS = 32
/** A page aims at this many bytes: what a visitor that stops early leaves of it was read in vain. */
const PAGE_BYTES = 128 << 10
/** Values above this are fetched one by one instead of with their page. */
const INLINE_BYTES = 16 << 10
const FRAME_ROWS = 32

/** A data column that holds either the bytes, NULL (kvidxkit's empty), or the length of what is too big for a page. */
const PAGED_DATA = (column: string): string =>
  `CASE WHEN length(${column}) > ${INLINE_BYTES} THEN length(${column}) ELSE ${column} END`

type Row = [id: bigint, term: bigint, cmd: bigint, data: Uint8Array | bigint | null, expiry?: bigint | null]
type PointRow = [term: bigint, cmd: bigint, data: Uint8Array | null, expiry?: bigint | null]
type FrameRow = [first: bigint, last: bigint, frame: Uint8Array | bigint]

const EMPTY = new Uint8Array(0)
const NO_EXPIRY = 0n

export function expiryOf(stored: bigint | null | undefined): bigint {
  return stored === null || stored === undefined ? NO_EXPIRY : toUnsigned(stored)
}

/**
 * Reads of one connection. Rows are fetched page by page with `.all()`, so no statement is ever left half way: one that is
 * would hold the WAL, and a visitor may call whatever it likes.
 *
 * While `expiring` is false no statement touches the expiry table: it is then known to be empty.
 */
export class SqliteView implements ReadView {
  readonly #connection: Connection
  readonly #directory: string
  readonly #statements = new Map<string, Statement>()
  readonly #point: Statement<[bigint], PointRow>
  readonly #pointWithExpiry: Statement<[bigint], PointRow>
  readonly #meta: Statement<[string], Uint8Array>
  #pageRows = FIRST_ROWS
  #pages: { readonly files: DatabaseFiles; readonly moment: WalMoment } | undefined
  /** null: there is none for this transaction. */
  #packer: PagePacker | null | undefined
  expiring: boolean

  constructor(connection: Connection, directory: string, expiring: boolean) {
    this.#connection = connection
    this.#directory = directory
    this.expiring = expiring
    this.#point = this.#rows('SELECT term, cmd, data FROM log WHERE id = ?')
    this.#pointWithExpiry = this.#rows(
      'SELECT term, cmd, data, (SELECT expires_at FROM _kvidx_ttl WHERE id = log.id) FROM log WHERE id = ?',
    )
    this.#meta = connection.prepare<[string], Uint8Array>('SELECT value FROM _kvidx_meta WHERE name = ?').pluck()
  }

  get(key: Key): StoredRecord | undefined {
    return guarded(this.#directory, 'read a record', () => {
      const row = (this.expiring ? this.#pointWithExpiry : this.#point).get(toSigned(key))
      if (row === undefined) return undefined
      return {
        key,
        term: toUnsigned(row[0]),
        cmd: toUnsigned(row[1]),
        data: row[2] ?? EMPTY,
        expiresAt: expiryOf(row[3]),
      }
    })
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    return guarded(this.#directory, 'scan records', () => {
      let visited = 0
      for (const run of rowRanges(range, descending)) {
        for (const row of this.#records(run, descending)) {
          visited++
          const data = typeof row[3] === 'bigint' ? this.#data(row[0]) : (row[3] ?? EMPTY)
          const record = {
            key: toUnsigned(row[0]),
            term: toUnsigned(row[1]),
            cmd: toUnsigned(row[2]),
            data,
            expiresAt: expiryOf(row[4]),
          }
          if (visit(record) === false) return visited
        }
      }
      return visited
    })
  }

  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed {
    return guarded(this.#directory, 'pack records', () => {
      if (this.#packer === undefined) this.#packer = this.#openPacker()
      return this.#packer?.pack(range, visibleAt, target) ?? packByScan(this, range, visibleAt, target)
    })
  }

  count(range: KeyRange): number {
    return guarded(this.#directory, 'count records', () => {
      const statement = this.#prepared<[bigint, bigint], bigint[]>('SELECT count(*) FROM log WHERE id BETWEEN ? AND ?')
      return rowRanges(range, false).reduce(
        (sum, run) => sum + Number(statement.get(run.first, run.last)?.[0] ?? 0n),
        0,
      )
    })
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    if (!this.expiring || limit <= 0) return 0
    return guarded(this.#directory, 'scan expiries', () => {
      const statement = this.#prepared<[bigint, bigint, number], [bigint, bigint]>(
        'SELECT id, expires_at FROM _kvidx_ttl WHERE expires_at BETWEEN ? AND ? ORDER BY expires_at, id < 0, id LIMIT ?',
      )
      let visited = 0
      for (const run of rowRanges({ start: 0n, end: until }, false)) {
        for (const [id, expiry] of statement.all(run.first, run.last, limit - visited)) {
          visited++
          if (visit({ key: toUnsigned(id), expiresAt: toUnsigned(expiry) }) === false) return visited
        }
        if (visited >= limit) break
      }
      return visited
    })
  }

  getMeta(name: string): Uint8Array | undefined {
    return guarded(this.#directory, 'read metadata', () => this.#meta.get(name))
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    return guarded(this.#directory, 'read the change log', () => {
      // Frames are consecutive, so the last one that begins at or before fromSeq is the first that can hold it.
      const start = this.#prepared<[bigint], [bigint | null]>('SELECT max(first) FROM _kvidx_changes WHERE first <= ?')
      const page = this.#prepared<[bigint], FrameRow>(
        `SELECT first, last, ${PAGED_DATA('frame')} FROM _kvidx_changes WHERE first >= ? ORDER BY first LIMIT ${FRAME_ROWS}`,
      )
      const whole = this.#prepared<[bigint], [Uint8Array]>('SELECT frame FROM _kvidx_changes WHERE first = ?')
      let next = start.get(fromSeq)?.[0] ?? 0n
      let visited = 0
      for (;;) {
        const rows = page.all(next)
        for (const [first, last, content] of rows) {
          if (last < fromSeq) continue
          visited++
          const frame = typeof content === 'bigint' ? (whole.get(first)?.[0] ?? EMPTY) : content
          if (visit({ firstSeq: first, lastSeq: last, frame }) === false) return visited
        }
        const lastRow = rows.at(-1)
        if (rows.length < FRAME_ROWS || lastRow === undefined) return visited
        next = lastRow[0] + 1n
      }
    })
  }

  /** Where the pages of the present read transaction are; undefined: nobody knows, or it has ended. */
  usePages(pages: { readonly files: DatabaseFiles; readonly moment: WalMoment } | undefined): void {
    this.#pages = pages
    this.#packer = undefined
  }

  #openPacker(): PagePacker | null {
    if (!this.#pages) return null
    try {
      return new PagePacker(this.#connection, this, this.#pages.files, this.#pages.moment)
    } catch (thrown) {
      if (thrown instanceof OddPage) return null
      throw thrown
    }
  }

  *#records(run: RowRange, descending: boolean): Generator<Row> {
    const order = descending ? 'DESC' : 'ASC'
    const page = this.#prepared<[bigint, bigint, number], Row>(
      this.expiring
        ? `SELECT l.id, term, cmd, ${PAGED_DATA('data')}, expires_at FROM log l LEFT JOIN _kvidx_ttl t ON t.id = l.id
           WHERE l.id BETWEEN ? AND ? ORDER BY l.id ${order} LIMIT ?`
        : `SELECT id, term, cmd, ${PAGED_DATA('data')} FROM log WHERE id BETWEEN ? AND ? ORDER BY id ${order} LIMIT ?`,
    )
    let { first, last } = run
    while (first <= last) {
      const limit = this.#pageRows
      const rows = page.all(first, last, limit)
      yield* rows
      const lastRow = rows.at(-1)
      if (rows.length < limit || lastRow === undefined) return
      this.#pageRows = pageRowsFor(rows)
      if (descending) last = lastRow[0] - 1n
      else first = lastRow[0] + 1n
    }
  }

  #data(id: bigint): Uint8Array {
    return this.#prepared<[bigint], [Uint8Array | null]>('SELECT data FROM log WHERE id = ?').get(id)?.[0] ?? EMPTY
  }

  #rows<Parameters extends unknown[], Result>(sql: string): Statement<Parameters, Result> {
    return this.#connection.prepare<unknown[], unknown>(sql).raw().safeIntegers() as Statement<Parameters, Result>
  }

  #prepared<Parameters extends unknown[], Result>(sql: string): Statement<Parameters, Result> {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#rows(sql)
      this.#statements.set(sql, statement)
    }
    return statement as Statement<Parameters, Result>
  }
}

/** How many rows like these make a page. */
function pageRowsFor(rows: readonly Row[]): number {
  let bytes = 0
  for (const row of rows) bytes += 64 + (row[3] instanceof Uint8Array ? row[3].length : 0)
  return Math.max(LEAST_ROWS, Math.min(MOST_ROWS, Math.floor((PAGE_BYTES * rows.length) / bytes)))
}

/** Whether any record has an expiry; also true for orphans of an adopted file. */
export function hasExpiries(connection: Connection): boolean {
  return connection.prepare<[], number>('SELECT EXISTS (SELECT 1 FROM _kvidx_ttl)').pluck().get() === 1
}
