import type { Statement } from 'better-sqlite3'
import type { StoredRecord } from '../engine.ts'
import type { Connection } from './connection.ts'
import { toSigned } from './integer.ts'

/** Rows of one statement: past this more rows bring nothing. */
const ROWS = 64
/** A batch of large values is written at once, it gains nothing by waiting. */
const BYTES = 1 << 20

/**
 * Rows that are known to be new because their ids lie above all others: they are held back and written many at a time,
 * which halves their cost. The record's data is kept by reference until then.
 */
export class AppendBuffer {
  readonly #many: Statement
  readonly #one: Statement
  #values: unknown[] = []
  #bytes = 0
  /** The smallest id that is held back. */
  #first: bigint | undefined

  constructor(connection: Connection) {
    const rows = Array(ROWS).fill('(?,0,?,?,?)').join(',')
    this.#many = connection.prepare(`INSERT INTO log (id, created, term, cmd, data) VALUES ${rows}`)
    this.#one = connection.prepare('INSERT INTO log (id, created, term, cmd, data) VALUES (?,0,?,?,?)')
  }

  /** May the row of `id` be held back here? */
  mayHold(id: bigint): boolean {
    return this.#first !== undefined && id >= this.#first
  }

  add(id: bigint, record: StoredRecord): void {
    this.#first ??= id
    this.#values.push(id, toSigned(record.term), toSigned(record.cmd), record.data)
    this.#bytes += record.data.length
    if (this.#values.length === ROWS * 4) {
      const values = this.#take()
      this.#many.run(values)
    } else if (this.#bytes >= BYTES) {
      this.flush()
    }
  }

  flush(): void {
    if (this.#first === undefined) return
    const values = this.#take()
    for (let index = 0; index < values.length; index += 4) this.#one.run(values.slice(index, index + 4))
  }

  discard(): void {
    this.#take()
  }

  #take(): unknown[] {
    const values = this.#values
    this.#values = []
    this.#bytes = 0
    this.#first = undefined
    return values
  }
}
