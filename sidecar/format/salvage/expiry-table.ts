import { payloadCell } from './btree-page.ts'
import type { PageFile } from './page-file.ts'
import type { PageUse } from './page-use.ts'
import { parseRow } from './row.ts'
import { type RowSpan, readPayload, walkIndex, walkTable } from './tree.ts'

const FIRST_SIZE = 1024

/** Expiries by row id: 16 bytes each, from kvidxkit's table and, where that is damaged, from its index. */
export class ExpiryTable {
  /** Spans of which the table was damaged and the index was, too. */
  readonly lost: RowSpan[] = []
  read = 0
  #ids = new BigInt64Array(FIRST_SIZE)
  #times = new BigInt64Array(FIRST_SIZE)
  #length = 0
  readonly #more = new Map<bigint, bigint>()

  /** `roots`: first pages of the table and of its index; undefined: there is none. */
  load(file: PageFile, use: PageUse, roots: { table: number; index?: number }): void {
    const damaged: RowSpan[] = []
    walkTable(file, use, roots.table, {
      leaf: (page, _, span) => {
        let bad = false
        for (let i = 0; i < page.cells; i++) {
          const cell = payloadCell(page, i, file.usable)
          const row = cell === undefined || cell.overflow !== 0 ? undefined : parseRow(cell.local, 2)
          const time = row?.[1]
          if (cell === undefined || typeof time !== 'bigint' || !this.#append(cell.rowid, time, span)) bad = true
        }
        if (bad) damaged.push(span)
      },
      lost: span => damaged.push(span),
    })
    if (damaged.length === 0) return
    const whole = roots.index !== undefined && this.#loadIndex(file, use, roots.index, damaged)
    if (!whole) this.lost.push(...damaged)
  }

  /** An expiry that was found without the table. The first one of a row id stays. */
  add(id: bigint, time: bigint): void {
    if (this.get(id) !== undefined) return
    this.#more.set(id, time)
    this.read++
  }

  /** Unix ms as kvidxkit stored it (signed); undefined: none. */
  get(id: bigint): bigint | undefined {
    let low = 0
    let high = this.#length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const found = this.#ids[middle] as bigint
      if (found === id) return this.#times[middle]
      if (found < id) low = middle + 1
      else high = middle - 1
    }
    return this.#more.get(id)
  }

  /** Entries come in ascending order, or they are damaged. */
  #append(id: bigint, time: bigint, span: RowSpan): boolean {
    const last = this.#length === 0 ? undefined : (this.#ids[this.#length - 1] as bigint)
    if (id < span.first || id > span.last || (last !== undefined && id <= last)) return false
    if (this.#length === this.#ids.length) {
      const ids = new BigInt64Array(this.#length * 2)
      const times = new BigInt64Array(this.#length * 2)
      ids.set(this.#ids)
      times.set(this.#times)
      this.#ids = ids
      this.#times = times
    }
    this.#ids[this.#length] = id
    this.#times[this.#length] = time
    this.#length++
    this.read++
    return true
  }

  #loadIndex(file: PageFile, use: PageUse, root: number, damaged: readonly RowSpan[]): boolean {
    let sound = true
    const reached = walkIndex(file, use, root, (cell, page) => {
      const payload = readPayload(file, use, cell, page, file.pageSize)
      const row = typeof payload === 'string' ? undefined : parseRow(payload.bytes, 2)
      const time = row?.[0]
      const id = row?.[1]
      if (typeof time !== 'bigint' || typeof id !== 'bigint') {
        sound = false
        return
      }
      if (damaged.some(span => id >= span.first && id <= span.last)) this.add(id, time)
    })
    return reached && sound
  }
}
