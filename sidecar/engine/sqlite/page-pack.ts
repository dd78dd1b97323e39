import type { Statement } from 'better-sqlite3'
import type { KeyRange, Packed, ReadView } from '../engine.ts'
import { Packer, packByScan } from '../pack.ts'
import type { Connection } from './connection.ts'
import { type RowRange, rowRanges, toUnsigned } from './integer.ts'
import { cellRowid, LeafReader } from './leaf.ts'
import { type Leaf, OddPage, TableWalk } from './table-walk.ts'
import { type DatabaseFiles, type WalMoment, WalPages } from './wal-pages.ts'

/** Expired rows of one call that are looked up beforehand; with more of them SQLite's own join is as quick. */
const MOST_EXPIRED = 20_000
const SIGN = 1n << 63n

/** Reads of the same transaction through SQLite. `expiring`: the expiry table is not empty. */
type RowView = Pick<ReadView, 'scan'> & { readonly expiring: boolean }

/**
 * Packs the records of one read transaction straight from its pages: SQLite's rows cost about a microsecond each on their way to JavaScript, their
 * bytes on a page a tenth of that. Whatever looks unusual is left to SQLite: a value on overflow pages alone, a damaged page with all that follows it.
 */
export class PagePacker {
  readonly #view: RowView
  readonly #walk: TableWalk
  readonly #usable: number
  readonly #expired: Statement<[bigint, bigint, bigint, number], [bigint]>

  /** @param connection in the read transaction */
  constructor(connection: Connection, view: RowView, files: DatabaseFiles, moment: WalMoment) {
    this.#view = view
    const pages = new WalPages(files, moment, Number(connection.pragma('page_size', { simple: true })))
    const first = Buffer.alloc(pages.pageSize)
    if (!pages.read(1, first)) throw new OddPage('the first page cannot be read')
    this.#usable = pages.pageSize - (first[20] as number)
    const root = connection
      .prepare<[], number>("SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = 'log'")
      .pluck()
      .get()
    this.#walk = new TableWalk(pages, root ?? 0, this.#usable)
    this.#expired = connection
      .prepare<unknown[], unknown>(
        'SELECT id FROM _kvidx_ttl WHERE id BETWEEN ? AND ? AND expires_at BETWEEN 1 AND ? ORDER BY id LIMIT ?',
      )
      .raw()
      .safeIntegers() as Statement<[bigint, bigint, bigint, number], [bigint]>
  }

  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed {
    const packer = new Packer(target, visibleAt)
    const reader = new LeafReader(this.#usable, target, packer)
    const runs = rowRanges(range, false)
    for (const run of runs) {
      const expired = this.#view.expiring && visibleAt !== undefined ? this.#expiredOf(run, visibleAt) : []
      const stoppedAt = expired ? this.#packRun(run, new Set(expired), reader, packer) : run.first
      if (packer.result().next !== undefined) return packer.result()
      // this run could not be read to its end: the rest of the call is SQLite's
      if (stoppedAt !== undefined)
        return packByScan(this.#view, { start: toUnsigned(stoppedAt), end: range.end }, visibleAt, target, packer)
    }
    return packer.result()
  }

  /** Undefined when they are too many. */
  #expiredOf({ first, last }: RowRange, visibleAt: bigint): bigint[] | undefined {
    if (visibleAt >= SIGN) return undefined
    const rows = this.#expired.all(first, last, visibleAt, MOST_EXPIRED)
    return rows.length < MOST_EXPIRED ? rows.map(([id]) => id) : undefined
  }

  /** Returns the row id at which something odd was met. */
  #packRun(run: RowRange, expired: ReadonlySet<bigint>, reader: LeafReader, packer: Packer): bigint | undefined {
    let reached = run.first
    try {
      for (let leaf: Leaf | undefined = this.#walk.seek(run.first); leaf; leaf = this.#walk.next()) {
        const { bytes, cells } = leaf
        if (cells === 0) continue
        const from = reached === run.first ? firstCell(leaf, run.first) : 0
        const ends = cellRowid(bytes, cells - 1) >= run.last
        const to = ends ? firstCell(leaf, run.last + 1n) : cells
        for (let index = from; index < to; index++) {
          if (expired.size > 0 && expired.has(cellRowid(bytes, index))) {
            packer.seen++
            continue
          }
          const outcome = reader.pack(bytes, index)
          if (outcome === 'packed') continue
          const id = cellRowid(bytes, index)
          if (outcome === 'full') packer.stop(toUnsigned(id), reader.dataBytes)
          else if (!this.#packAlone(id, packer, reader)) return id
          if (packer.result().next !== undefined) return undefined
        }
        if (ends) return undefined
        if (to > from) reached = cellRowid(bytes, to - 1) + 1n
      }
      return undefined
    } catch (thrown) {
      if (thrown instanceof OddPage || thrown instanceof RangeError) return reached
      throw thrown
    }
  }

  /** One row by SQLite. False when it does not know the row either. */
  #packAlone(id: bigint, packer: Packer, reader: LeafReader): boolean {
    const key = toUnsigned(id)
    const before = packer.seen
    packByScan(this.#view, { start: key, end: key }, undefined, reader.target, packer)
    return packer.seen > before || packer.result().next !== undefined
  }
}

/** The first cell whose row id is `first` or more. */
function firstCell({ bytes, cells }: Leaf, first: bigint): number {
  let low = 0
  for (let high = cells; low < high; ) {
    const middle = (low + high) >>> 1
    if (cellRowid(bytes, middle) < first) low = middle + 1
    else high = middle
  }
  return low
}
