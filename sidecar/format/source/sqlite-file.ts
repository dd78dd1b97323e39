import { dirname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { KvidxError } from '../../../src/common/errors.ts'
import type { StoredRecord } from '../../engine/engine.ts'
import { guarded } from '../../engine/sqlite/errors.ts'
import { toUnsigned } from '../../engine/sqlite/integer.ts'
import type { RecordSource, SourceReport } from './record-source.ts'
import { copySqliteFile, type SqliteCopy } from './sqlite-copy.ts'
import { openSqlite, readSchema, type SqliteConnection, type SqliteSchema } from './sqlite-schema.ts'

const BATCH_RECORDS = 1000
const BATCH_BYTES = 4 * 1024 * 1024
/** Orphan keys that are named; all are counted. */
const NAMED_ORPHANS = 100
/** Negative row ids are the keys from 2^63 on, so they come second. */
const RUNS = ['l.id >= 0', 'l.id < 0'] as const

export interface SqliteFileOptions {
  /**
   * A directory for a copy, which is removed by `close`. Without it the file is opened where it lies: then it must be the caller's own, for SQLite
   * brings a WAL into the main file.
   */
  readonly scratch?: string
}

/** What is in a SQLite file: read before it is adopted. */
export interface SqliteInspection extends SqliteSchema {
  /** Stored records, expired ones included. */
  readonly count: number
  /** Sum of data lengths. */
  readonly dataBytes: bigint
  readonly minKey?: bigint
  readonly maxKey?: bigint
  /** Records with an expiry. */
  readonly expiring: number
  /** Of these, expired at the moment that was given. */
  readonly expired: number
  /** Expiries whose record does not exist. */
  readonly orphanExpiries: number
  /** The first 100 of their keys. */
  readonly orphanKeys: readonly bigint[]
  /** Expiries of 0: expired long ago for kvidxkit; here 0 would mean none, so they read as 1. */
  readonly zeroExpiries: number
  /** Records whose term or cmd is not an integer, or whose data is neither a blob nor NULL: kvidxkit never writes such. */
  readonly oddValues: number
  readonly pageSize: number
}

/** Reads a kvidxkit SQLite file record by record, in unsigned key order. Errors: as openSqlite, and `invalid_body` when it is not kvidxkit's. */
export async function openSqliteFile(path: string, options: SqliteFileOptions = {}): Promise<RecordSource> {
  const opened = await openFile(path, options)
  try {
    return guarded(dirname(path), 'read the database', () => {
      const schema = readSchema(opened.connection)
      if (!schema.isKvidxkit) throw notKvidxkit(path, schema)
      return new SqliteFileSource(opened, schema.hasExpiries)
    })
  } catch (thrown) {
    await opened.close()
    throw thrown
  }
}

/** Looks into a SQLite file without keeping it open. `now`: Unix ms. Errors: as openSqlite; a file that is not kvidxkit's is no error. */
export async function inspectSqliteFile(
  path: string,
  now: bigint,
  options: SqliteFileOptions = {},
): Promise<SqliteInspection> {
  const { connection, close } = await openFile(path, options)
  try {
    return guarded(dirname(path), 'inspect the database', () => {
      const schema = readSchema(connection)
      const pageSize = Number(connection.pragma('page_size', { simple: true }))
      return {
        ...schema,
        ...(schema.isKvidxkit ? recordFigures(connection) : NO_RECORDS),
        ...(schema.isKvidxkit && schema.hasExpiries ? expiryFigures(connection, now) : NO_EXPIRIES),
        pageSize,
      }
    })
  } finally {
    await close()
  }
}

const NO_RECORDS = { count: 0, dataBytes: 0n, oddValues: 0 }
const NO_EXPIRIES = { expiring: 0, expired: 0, orphanExpiries: 0, orphanKeys: [], zeroExpiries: 0 }

interface OpenFile {
  readonly connection: SqliteConnection
  close(): Promise<void>
}

async function openFile(path: string, options: SqliteFileOptions): Promise<OpenFile> {
  let copy: SqliteCopy | undefined
  try {
    if (options.scratch !== undefined) copy = await copySqliteFile(path, options.scratch)
    const connection = await openSqlite(copy?.path ?? path)
    return {
      connection,
      close: async () => {
        connection.close()
        await copy?.remove()
      },
    }
  } catch (thrown) {
    await copy?.remove()
    throw thrown
  }
}

function notKvidxkit(path: string, schema: SqliteSchema): KvidxError {
  return new KvidxError('invalid_body', `${path} is a SQLite database, but not one of kvidxkit: ${schema.problem}`, {
    path,
  })
}

function recordFigures(connection: SqliteConnection) {
  const row = connection
    .prepare<[], [bigint, bigint | null, bigint]>(
      `SELECT count(*), sum(octet_length(data)),
         count(*) FILTER (WHERE typeof(term) <> 'integer' OR typeof(cmd) <> 'integer' OR typeof(data) NOT IN ('blob', 'null'))
       FROM log`,
    )
    .raw()
    .safeIntegers()
    .get()
  // each is one look-up; ordering by the sign would read everything
  const edge = (sql: string) => connection.prepare<[], bigint | null>(sql).pluck().safeIntegers().get() ?? undefined
  const first = edge('SELECT coalesce((SELECT min(id) FROM log WHERE id >= 0), (SELECT min(id) FROM log))')
  const last = edge('SELECT coalesce((SELECT max(id) FROM log WHERE id < 0), (SELECT max(id) FROM log))')
  return {
    count: Number(row?.[0] ?? 0n),
    dataBytes: row?.[1] ?? 0n,
    oddValues: Number(row?.[2] ?? 0n),
    ...(first === undefined ? {} : { minKey: toUnsigned(first) }),
    ...(last === undefined ? {} : { maxKey: toUnsigned(last) }),
  }
}

function expiryFigures(connection: SqliteConnection, now: bigint) {
  const row = connection
    .prepare<[bigint], [bigint, bigint, bigint]>(
      `SELECT count(*), count(*) FILTER (WHERE expires_at BETWEEN 0 AND ?), count(*) FILTER (WHERE expires_at = 0)
       FROM _kvidx_ttl t WHERE EXISTS (SELECT 1 FROM log l WHERE l.id = t.id)`,
    )
    .raw()
    .safeIntegers()
    .get(now)
  return {
    expiring: Number(row?.[0] ?? 0n),
    expired: Number(row?.[1] ?? 0n),
    zeroExpiries: Number(row?.[2] ?? 0n),
    ...orphans(connection),
  }
}

function orphans(connection: SqliteConnection): { orphanExpiries: number; orphanKeys: bigint[] } {
  const condition = 'FROM _kvidx_ttl t WHERE NOT EXISTS (SELECT 1 FROM log l WHERE l.id = t.id)'
  const count = connection.prepare<[], number>(`SELECT count(*) ${condition}`).pluck().get() ?? 0
  const keys = connection
    .prepare<[], bigint>(`SELECT t.id ${condition} ORDER BY t.id < 0, t.id LIMIT ${NAMED_ORPHANS}`)
    .pluck()
    .safeIntegers()
    .all()
  return { orphanExpiries: count, orphanKeys: keys.map(toUnsigned) }
}

type Row = [id: bigint, term: bigint, cmd: bigint, data: Buffer | null, expiresAt: bigint | null]

class SqliteFileSource implements RecordSource {
  readonly kind = 'sqlite'
  readonly count: number
  readonly #file: OpenFile
  readonly #hasExpiries: boolean
  readonly #orphans: { orphanExpiries: number; orphanKeys: bigint[] }
  #records = 0
  #expiring = 0
  #closed = false

  constructor(file: OpenFile, hasExpiries: boolean) {
    this.#file = file
    this.#hasExpiries = hasExpiries
    this.count = file.connection.prepare<[], number>('SELECT count(*) FROM log').pluck().get() ?? 0
    this.#orphans = hasExpiries ? orphans(file.connection) : { orphanExpiries: 0, orphanKeys: [] }
  }

  async *batches(signal?: AbortSignal): AsyncGenerator<readonly StoredRecord[]> {
    let batch: StoredRecord[] = []
    let bytes = 0
    for (const row of this.#rows()) {
      const record = recordOf(row)
      batch.push(record)
      bytes += record.data.length
      if (batch.length < BATCH_RECORDS && bytes < BATCH_BYTES) continue
      yield this.#delivered(batch)
      // SQLite is synchronous: others get their turn between batches
      await setImmediate()
      if (signal?.aborted)
        throw new KvidxError('cancelled', `reading SQLite was cancelled after ${this.#records} records`)
      batch = []
      bytes = 0
    }
    if (batch.length > 0) yield this.#delivered(batch)
  }

  report(): SourceReport {
    return { kind: 'sqlite', records: this.#records, expiring: this.#expiring, ...this.#orphans }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#file.close()
  }

  #delivered(batch: StoredRecord[]): readonly StoredRecord[] {
    this.#records += batch.length
    for (const record of batch) if (record.expiresAt !== 0n) this.#expiring++
    return batch
  }

  /** The casts read odd values as kvidxkit's own column accessors do. */
  *#rows(): Generator<Row> {
    const expiry = this.#hasExpiries ? 'CAST(t.expires_at AS INTEGER)' : 'NULL'
    const join = this.#hasExpiries ? 'LEFT JOIN _kvidx_ttl t ON t.id = l.id' : ''
    for (const run of RUNS) {
      const rows = guarded('', 'read records', () =>
        this.#file.connection
          .prepare(
            `SELECT l.id, coalesce(CAST(term AS INTEGER), 0), coalesce(CAST(cmd AS INTEGER), 0), CAST(data AS BLOB), ${expiry}
             FROM log l ${join} WHERE ${run} ORDER BY l.id`,
          )
          .raw()
          .safeIntegers()
          .iterate(),
      ) as IterableIterator<Row>
      try {
        for (;;) {
          const next = guarded('', 'read records', () => rows.next())
          if (next.done) break
          yield next.value
        }
      } finally {
        rows.return?.()
      }
    }
  }
}

const EMPTY = new Uint8Array(0)

function recordOf([id, term, cmd, data, expiresAt]: Row): StoredRecord {
  return {
    key: toUnsigned(id),
    term: toUnsigned(term),
    cmd: toUnsigned(cmd),
    data: data ?? EMPTY,
    expiresAt: expiresAt === null ? 0n : expiresAt === 0n ? 1n : toUnsigned(expiresAt),
  }
}
