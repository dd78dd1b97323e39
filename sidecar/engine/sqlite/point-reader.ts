import type { Statement } from 'better-sqlite3'
import type { CommitCounter } from '../commit-counter.ts'
import type { Key, StoredRecord } from '../engine.ts'
import type { Connection } from './connection.ts'
import { toSigned, toUnsigned } from './integer.ts'
import { expiryOf } from './view.ts'

type HitRow = [term: bigint, cmd: bigint, data: Uint8Array | null, expiresAt: bigint | null, meta: Uint8Array | null]
type MissRow = [present: bigint, meta: Uint8Array | null]
type HeldRow = [term: bigint, cmd: bigint, data: Uint8Array | null, expiresAt?: bigint | null]
type MomentRow = [meta: Uint8Array | null, expiring: bigint]

export interface PointResult {
  readonly record: StoredRecord | undefined
  readonly meta: Uint8Array | undefined
}

/** The shared transaction. */
interface Shared {
  /** Commits before it began. */
  readonly count: number
  /** The metadata read in it. */
  readonly name: string
  readonly meta: Uint8Array | undefined
  /** Whether any record has an expiry. */
  readonly expiring: boolean
}

const EMPTY = new Uint8Array(0)

/**
 * Point reads of a record and a named metadata value of one moment.
 *
 * Half the cost of a single read is beginning and ending its transaction (locks in the WAL index). So the second read within one
 * turn of the event loop begins a transaction that the rest of the turn shares, as long as no commit comes in between; it ends
 * with the turn, because an open one keeps the WAL from being reset. Without a commit counter each read stands alone.
 */
export class PointReader {
  readonly #connection: Connection
  readonly #commits: CommitCounter | undefined
  readonly #hit: Statement<[string, bigint], HitRow>
  readonly #miss: Statement<[bigint, string], MissRow>
  readonly #held: Statement<[bigint], HeldRow>
  readonly #heldWithExpiry: Statement<[bigint], HeldRow>
  readonly #moment: Statement<[string], MomentRow>
  readonly #meta: Statement<[string], Uint8Array>
  readonly #begin: Statement
  readonly #end: Statement
  readonly #endTurn = (): void => {
    this.#turn = undefined
    this.release()
  }
  #turn: NodeJS.Immediate | undefined
  #shared: Shared | undefined

  constructor(connection: Connection, commits: CommitCounter | undefined) {
    this.#connection = connection
    this.#commits = commits
    const rows = <Parameters extends unknown[], Row>(sql: string): Statement<Parameters, Row> =>
      connection.prepare(sql).raw().safeIntegers() as Statement<unknown[], unknown> as Statement<Parameters, Row>
    const record = 'SELECT term, cmd, data, (SELECT expires_at FROM _kvidx_ttl WHERE id = log.id)'
    const meta = 'SELECT value FROM _kvidx_meta WHERE name = ?'
    // Scalar subqueries, not joins: a join of the three costs three times as much.
    this.#hit = rows(`${record}, (${meta}) FROM log WHERE id = ?`)
    this.#miss = rows(`SELECT EXISTS (SELECT 1 FROM log WHERE id = ?), (${meta})`)
    this.#held = rows('SELECT term, cmd, data FROM log WHERE id = ?')
    this.#heldWithExpiry = rows(`${record} FROM log WHERE id = ?`)
    this.#moment = rows(`SELECT (${meta}), EXISTS (SELECT 1 FROM _kvidx_ttl)`)
    this.#meta = connection.prepare<[string], Uint8Array>(meta).pluck()
    this.#begin = connection.prepare('BEGIN')
    this.#end = connection.prepare('COMMIT')
  }

  get(key: Key, name: string): PointResult {
    if (this.#shared !== undefined || this.#turn !== undefined) return this.#getShared(key, name)
    if (this.#commits !== undefined) this.#turn = setImmediate(this.#endTurn)
    return this.#getAlone(key, name)
  }

  getMeta(name: string): Uint8Array | undefined {
    this.release()
    return this.#meta.get(name)
  }

  /** Ends the shared transaction, if there is one. */
  release(): void {
    if (this.#shared === undefined) return
    this.#shared = undefined
    if (this.#connection.open) this.#end.run()
  }

  close(): void {
    if (this.#turn !== undefined) clearImmediate(this.#turn)
    this.#turn = undefined
    this.release()
  }

  #getShared(key: Key, name: string): PointResult {
    const count = this.#commits?.current ?? 0
    let shared = this.#shared
    if (shared === undefined || shared.count !== count || shared.name !== name) {
      this.release()
      this.#begin.run()
      // Set before the first read, so that a failure of that is followed by COMMIT too.
      this.#shared = { count, name, meta: undefined, expiring: true }
      // This read fixes the moment.
      const moment = this.#moment.get(name)
      shared = { count, name, meta: moment?.[0] ?? undefined, expiring: moment?.[1] !== 0n }
      this.#shared = shared
    }
    const row = (shared.expiring ? this.#heldWithExpiry : this.#held).get(toSigned(key))
    return { record: row && recordOf(key, row), meta: shared.meta }
  }

  #getAlone(key: Key, name: string): PointResult {
    const id = toSigned(key)
    for (;;) {
      const row = this.#hit.get(name, id)
      if (row !== undefined) return { record: recordOf(key, row), meta: row[4] ?? undefined }
      // Absence and metadata must be of one moment too; the key may have come between the two statements.
      const absent = this.#miss.get(id, name)
      if (absent?.[0] === 0n) return { record: undefined, meta: absent[1] ?? undefined }
    }
  }
}

function recordOf(key: Key, row: HeldRow | HitRow): StoredRecord {
  return { key, term: toUnsigned(row[0]), cmd: toUnsigned(row[1]), data: row[2] ?? EMPTY, expiresAt: expiryOf(row[3]) }
}
