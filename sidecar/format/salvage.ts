import { statSync } from 'node:fs'
import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import { digestOfRecord, reduceDigest } from '../database/digest.ts'
import { decodeEpochs, decodeState, META } from '../database/state.ts'
import type { StoredRecord } from '../engine/engine.ts'
import { type BtreePage, PAGE, type PayloadCell, parsePage, payloadCell } from './salvage/btree-page.ts'
import { ExpiryTable } from './salvage/expiry-table.ts'
import { inPlace } from './salvage/leaf-order.ts'
import { logRecord } from './salvage/log-record.ts'
import { LostRanges } from './salvage/lost-ranges.ts'
import { PageFile } from './salvage/page-file.ts'
import { PageUse } from './salvage/page-use.ts'
import { countRecords, isExpiryRow, isLogRow } from './salvage/record-page.ts'
import { NAMED, type SalvageReport, Tally } from './salvage/report.ts'
import { parseRow } from './salvage/row.ts'
import { type RowSpan, readPayload, walkIndex, walkTable } from './salvage/tree.ts'

/** SQLite's own limit of a row. */
const DEFAULT_MAX_BYTES = 1_000_000_000
/** A damaged file has few; above this the rest is lost rather than memory. */
const MAX_DOUBTFUL = 1_000_000
/** Of a row of the metadata: an epoch history of some thousand epochs, bytes. */
const META_LIMIT = 1 << 20

export interface SalvageOptions {
  /** Largest payload that is read; default 10^9, SQLite's own limit. */
  readonly maxDataBytes?: number
  /** Asked now and then with pages seen and pages in all; true ends the salvage with `cancelled`. */
  readonly progress?: (done: number, total: number) => boolean
}

/**
 * Takes a record. `doubt` says why its key or fields may be wrong. A record whose key is there already must not replace what is there: the surer ones come
 * first. Returns whether it was taken. The data is valid until it returns.
 */
export type TakeRecord = (record: StoredRecord, doubt: string | undefined) => boolean

/**
 * Recovers the records of a damaged SQLite file, WAL included, without SQLite: page by page, so that a damaged page costs only what stood on it. The file is
 * only read and must not be open elsewhere. Synchronous and as long as the file is large. Errors: `engine_io` (file cannot be
 * opened), `cancelled`, and what `take` throws; damage is never an error.
 */
export function salvageSqlite(path: string, options: SalvageOptions, take: TakeRecord): SalvageReport {
  const file = new PageFile(path)
  try {
    return new Salvage(file, options, take).run(hasJournal(path))
  } finally {
    file.close()
  }
}

function hasJournal(path: string): boolean {
  return (statSync(`${path}-journal`, { throwIfNoEntry: false })?.size ?? 0) > 0
}

class Salvage {
  readonly #file: PageFile
  readonly #use: PageUse
  readonly #options: SalvageOptions
  readonly #maxBytes: number
  readonly #take: TakeRecord
  readonly #expiries = new ExpiryTable()
  readonly #lost = new LostRanges()
  readonly #damagedPages = new Tally<{ page: number; reason: string }>()
  readonly #lostRecords = new Tally<{ key: bigint; reason: string }>()
  readonly #doubtful = new Tally<{ key: bigint; reason: string; taken: boolean }>()
  readonly #later: { page: number; index: number; reason: string }[] = []
  #epochs: readonly EpochRecord[] | undefined
  #recovered = 0
  #bytes = 0n
  #digest = 0n
  #seen = 0

  constructor(file: PageFile, options: SalvageOptions, take: TakeRecord) {
    this.#file = file
    this.#use = new PageUse(file)
    this.#options = options
    this.#maxBytes = (options.maxDataBytes ?? DEFAULT_MAX_BYTES) + 64
    this.#take = take
  }

  run(hotJournal: boolean): SalvageReport {
    const roots = this.#readSchema()
    const log = roots.get('log')
    const meta = roots.get('_kvidx_meta')
    let expected = meta === undefined ? undefined : this.#readMeta(meta)
    const expiryRoot = roots.get('_kvidx_ttl')
    const expiryIndex = roots.get('_kvidx_ttl_expires')
    if (expiryRoot !== undefined) {
      this.#expiries.load(this.#file, this.#use, {
        table: expiryRoot,
        ...(expiryIndex === undefined ? {} : { index: expiryIndex }),
      })
    }
    if (log === undefined) {
      this.#lost.addEverything()
      expected ??= this.#searchSideTables(expiryRoot === undefined)
    } else {
      walkTable(this.#file, this.#use, log, {
        leaf: (page, number, span, doubt) => this.#leaf(page, number, span, doubt),
        lost: (span, number, reason) => {
          this.#damagedPages.add({ page: number, reason })
          this.#lost.add(span)
        },
      })
    }
    if (!this.#lost.isEmpty) this.#searchPages(log !== undefined)
    this.#deliverLater()
    return this.#report(log !== undefined, expected, hotJournal)
  }

  #readSchema(): Map<string, number> {
    const roots = new Map<string, number>()
    walkTable(this.#file, this.#use, 1, {
      leaf: page => {
        for (let i = 0; i < page.cells; i++) {
          const cell = payloadCell(page, i, this.#file.usable)
          const payload =
            cell === undefined ? '' : readPayload(this.#file, this.#use, cell, 1, this.#file.pageSize * 16)
          const row = typeof payload === 'string' ? undefined : parseRow(payload.bytes, 5)
          const name = row?.[1]
          const root = row?.[3]
          if (typeof name !== 'object' || name === null || typeof root !== 'bigint') continue
          if (root >= 2n && root <= BigInt(this.#file.pages)) roots.set(name.bytes.toString('utf8'), Number(root))
        }
      },
      lost: (_, page, reason) => this.#damagedPages.add({ page, reason: `${reason} (schema)` }),
    })
    return roots
  }

  #readMeta(root: number): DatabaseState | undefined {
    let found: DatabaseState | undefined
    walkIndex(this.#file, this.#use, root, (cell, page) => {
      const [name, value] = this.#namedValue(cell, page, META_LIMIT) ?? []
      if (name === META.state && value) found ??= orNothing(() => decodeState(value))
      if (name === META.epochs && value) this.#epochs ??= orNothing(() => decodeEpochs(value))
    })
    return found
  }

  /** The database's counters, if this is the row that holds them. */
  #stateOf(cell: PayloadCell, page: number): DatabaseState | undefined {
    const [name, value] = this.#namedValue(cell, page, 256) ?? []
    return name === META.state && value ? orNothing(() => decodeState(value)) : undefined
  }

  /** A row of the metadata. */
  #namedValue(cell: PayloadCell, page: number, limit: number): readonly [string, Buffer] | undefined {
    if (cell.length > limit) return undefined
    const payload = readPayload(this.#file, this.#use, cell, page, limit)
    const row = typeof payload === 'string' ? undefined : parseRow(payload.bytes, 2)
    const [name, value] = row ?? []
    if (typeof name !== 'object' || name?.kind !== 'text') return undefined
    if (typeof value !== 'object' || value?.kind !== 'blob') return undefined
    return [name.bytes.toString('latin1'), value.bytes]
  }

  #leaf(page: BtreePage, number: number, span: RowSpan, doubt: string | undefined): void {
    this.#progress()
    const { usable } = this.#file
    const cells = Array.from({ length: page.cells }, (_, i) => payloadCell(page, i, usable))
    const placed = inPlace(
      cells.map(cell => cell?.rowid),
      span,
    )
    let first = span.first
    let gap = false
    for (const [index, cell] of cells.entries()) {
      if (cell === undefined || !placed[index]) {
        // its true key lies between its neighbours'
        gap = true
        if (cell !== undefined) this.#postpone(number, index, 'its key is out of order on its page')
        continue
      }
      if (gap) this.#lost.add({ first, last: cell.rowid - 1n })
      gap = false
      first = cell.rowid + 1n
      if (doubt === undefined) this.#cell(cell, number, index)
      else this.#postpone(number, index, doubt)
    }
    if (gap) this.#lost.add({ first, last: span.last })
    if (placed.includes(false)) this.#damagedPages.add({ page: number, reason: 'cells are damaged' })
  }

  #cell(cell: PayloadCell, page: number, index: number): void {
    const key = BigInt.asUintN(64, cell.rowid)
    const payload = readPayload(this.#file, this.#use, cell, page, this.#maxBytes)
    const found = typeof payload === 'string' ? undefined : logRecord(cell.rowid, payload, this.#expiries)
    if (found === undefined) {
      this.#lostRecords.add({ key, reason: typeof payload === 'string' ? payload : 'its fields do not fit its length' })
    } else if (found.doubt !== undefined) {
      // an odd record without overflow can wait its turn; one with pages of its own has taken them already
      if (cell.overflow === 0) this.#postpone(page, index, found.doubt)
      else this.#deliver(found.record, found.doubt)
    } else this.#deliver(found.record, undefined)
  }

  #postpone(page: number, index: number, reason: string): void {
    if (this.#later.length < MAX_DOUBTFUL) this.#later.push({ page, index, reason })
  }

  #deliverLater(): void {
    for (const { page, index, reason } of this.#later) {
      const bytes = this.#file.read(page)
      const parsed = bytes === undefined ? '' : parsePage(bytes, page, this.#file.usable)
      const cell = typeof parsed === 'string' ? undefined : payloadCell(parsed, index, this.#file.usable)
      if (cell === undefined) continue
      const payload = readPayload(this.#file, this.#use, cell, page, this.#maxBytes)
      const found = typeof payload === 'string' ? undefined : logRecord(cell.rowid, payload, this.#expiries)
      if (found !== undefined) this.#deliver(found.record, reason)
    }
  }

  #deliver(record: StoredRecord, doubt: string | undefined): void {
    const taken = this.#take(record, doubt)
    if (doubt !== undefined) this.#doubtful.add({ key: record.key, reason: doubt, taken })
    if (!taken) return
    this.#recovered++
    this.#bytes += BigInt(record.data.length)
    this.#digest += digestOfRecord(record)
    const range = this.#lost.isEmpty ? undefined : this.#lost.find(record.key)
    if (range !== undefined) range.recovered++
  }

  /** Leaves that no readable page leads to, in all pages that nothing else has. */
  #searchPages(schemaRead: boolean): void {
    this.#eachLoosePage((page, number) => {
      if (page.kind !== PAGE.leafTable || countRecords(page.bytes, this.#file.usable) === 0) return
      const certain = schemaRead && this.#use.freeListSound
      for (let index = 0; index < page.cells; index++) {
        const cell = payloadCell(page, index, this.#file.usable)
        if (cell === undefined || this.#lost.find(BigInt.asUintN(64, cell.rowid)) === undefined) continue
        if (!certain) this.#postpone(number, index, 'no page of the tree leads to its page')
        else this.#looseCell(cell, number)
      }
    })
  }

  #looseCell(cell: PayloadCell, page: number): void {
    const payload = readPayload(this.#file, this.#use, cell, page, this.#maxBytes)
    const row = typeof payload === 'string' ? undefined : parseRow(payload.bytes, 5)
    const found =
      typeof payload === 'string' || !row || !isLogRow(row) ? undefined : logRecord(cell.rowid, payload, this.#expiries)
    if (found !== undefined) this.#deliver(found.record, found.doubt)
    else {
      const reason = typeof payload === 'string' ? payload : 'its fields do not fit its length'
      this.#lostRecords.add({ key: BigInt.asUintN(64, cell.rowid), reason })
    }
  }

  /** Without a schema: expiries and counters by what their rows look like. */
  #searchSideTables(withExpiries: boolean): DatabaseState | undefined {
    let best: DatabaseState | undefined
    this.#eachLoosePage((page, number) => {
      for (let i = 0; i < page.cells; i++) {
        const cell = payloadCell(page, i, this.#file.usable)
        if (cell === undefined || cell.overflow !== 0) continue
        if (page.kind === PAGE.leafIndex) {
          const state = this.#stateOf(cell, number)
          if (state !== undefined && (best === undefined || state.position.seq > best.position.seq)) best = state
        } else if (page.kind === PAGE.leafTable && withExpiries) {
          const row = parseRow(cell.local, 2)
          if (row !== undefined && isExpiryRow(row)) this.#expiries.add(cell.rowid, row[1] as bigint)
        }
      }
    })
    return best
  }

  #eachLoosePage(visit: (page: BtreePage, number: number) => void): void {
    const use = this.#use
    for (let number = 2; number <= this.#file.pages; number++) {
      this.#progress()
      if (use.isTaken(number) || use.isFree(number) || use.isPointerMap(number) || !use.mayBeBtree(number)) continue
      if (this.#file.isLockPage(number)) continue
      const bytes = this.#file.read(number)
      const page = bytes === undefined ? '' : parsePage(bytes, number, this.#file.usable)
      if (typeof page !== 'string') visit(page, number)
    }
  }

  #progress(): void {
    if (++this.#seen % 64 !== 0) return
    const done = Math.min(this.#seen, this.#file.pages)
    if (this.#options.progress?.(done, this.#file.pages)) {
      throw new KvidxError('cancelled', `the salvage was cancelled after ${this.#recovered} records`)
    }
  }

  #report(schemaRead: boolean, expected: DatabaseState | undefined, hotJournal: boolean): SalvageReport {
    const digest = reduceDigest(this.#digest)
    const missing = expected === undefined ? undefined : expected.count - BigInt(this.#recovered)
    const lostExpiries = new LostRanges()
    for (const span of this.#expiries.lost) lostExpiries.add(span)
    const wal = this.#file.wal
    return {
      verdict: verdictOf(expected, missing, digest),
      recovered: this.#recovered,
      recoveredBytes: this.#bytes,
      digest,
      ...(expected === undefined ? {} : { expected }),
      ...(this.#epochs === undefined ? {} : { epochs: this.#epochs }),
      ...(missing === undefined ? {} : { missing }),
      lostRanges: { count: this.#lost.count, first: this.#lost.list(NAMED) },
      lostRecords: this.#lostRecords,
      doubtful: this.#doubtful,
      damagedPages: this.#damagedPages,
      expiries: {
        read: this.#expiries.read,
        lostRanges: {
          count: lostExpiries.count,
          first: lostExpiries.list(NAMED).map(({ start, end }) => ({ start, end })),
        },
      },
      pageSize: this.#file.pageSize,
      pages: this.#file.pages,
      schemaRead,
      freeListRead: this.#use.freeListSound,
      hotJournal,
      ...(wal === undefined ? {} : { wal }),
    }
  }
}

/** What damaged bytes may not be. */
function orNothing<T>(decode: () => T): T | undefined {
  try {
    return decode()
  } catch {
    return undefined
  }
}

function verdictOf(
  expected: DatabaseState | undefined,
  missing: bigint | undefined,
  digest: bigint,
): SalvageReport['verdict'] {
  if (expected === undefined || missing === undefined) return 'unverified'
  if (missing === 0n && expected.digest === digest) return 'complete'
  return missing > 0n ? 'incomplete' : 'altered'
}
