import type { Statement } from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import type {
  EngineFigures,
  EngineOptions,
  EngineReader,
  EngineShare,
  EngineSnapshot,
  IntegrityReport,
  Key,
  Progress,
  StoredRecord,
} from '../engine.ts'
import { type Connection, connectReader } from './connection.ts'
import { guarded } from './errors.ts'
import { sqliteFigures } from './figures.ts'
import { toSigned, toUnsigned } from './integer.ts'
import { checkSqlite } from './integrity.ts'
import { expiryOf, hasExpiries, SqliteView } from './view.ts'

/** Connections kept for snapshots to come; more than these are closed on release. */
const IDLE_SNAPSHOTS = 4

type HitRow = [term: bigint, cmd: bigint, data: Uint8Array | null, expiresAt: bigint | null, meta: Uint8Array | null]
type MissRow = [present: bigint, meta: Uint8Array | null]

/** Opens a reader with a read-only connection of its own. Errors: see EngineReader. */
export function openSqliteReader(share: EngineShare): EngineReader {
  return guarded(share.options.directory, 'open the database for reading', () => new SqliteReader(share.options))
}

class SqliteReader implements EngineReader {
  readonly #options: EngineOptions
  readonly #connection: Connection
  readonly #hit: Statement<[string, bigint], HitRow>
  readonly #miss: Statement<[bigint, string], MissRow>
  readonly #meta: Statement<[string], Uint8Array>
  readonly #idle: Connection[] = []
  readonly #snapshots = new Set<SqliteSnapshot>()

  constructor(options: EngineOptions) {
    this.#options = options
    this.#connection = connectReader(options, 'point')
    // Scalar subqueries, not joins: a join of the three costs three times as much.
    this.#hit = this.#connection
      .prepare<[string, bigint], HitRow>(
        `SELECT term, cmd, data, (SELECT expires_at FROM _kvidx_ttl WHERE id = log.id),
                (SELECT value FROM _kvidx_meta WHERE name = ?) FROM log WHERE id = ?`,
      )
      .raw()
      .safeIntegers() as Statement<[string, bigint], HitRow>
    this.#miss = this.#connection
      .prepare<[bigint, string], MissRow>(
        'SELECT EXISTS (SELECT 1 FROM log WHERE id = ?), (SELECT value FROM _kvidx_meta WHERE name = ?)',
      )
      .raw()
      .safeIntegers() as Statement<[bigint, string], MissRow>
    this.#meta = this.#connection.prepare<[string], Uint8Array>('SELECT value FROM _kvidx_meta WHERE name = ?').pluck()
  }

  getWithMeta(key: Key, name: string): { record: StoredRecord | undefined; meta: Uint8Array | undefined } {
    const id = toSigned(key)
    return guarded(this.#options.directory, 'read a record', () => {
      for (;;) {
        const row = this.#hit.get(name, id)
        if (row !== undefined) {
          const data = row[2] ?? new Uint8Array(0)
          const record = { key, term: toUnsigned(row[0]), cmd: toUnsigned(row[1]), data, expiresAt: expiryOf(row[3]) }
          return { record, meta: row[4] ?? undefined }
        }
        // Absence and metadata must be of one moment too; the key may have come between the two statements.
        const absent = this.#miss.get(id, name)
        if (absent?.[0] === 0n) return { record: undefined, meta: absent[1] ?? undefined }
      }
    })
  }

  getMeta(name: string): Uint8Array | undefined {
    return guarded(this.#options.directory, 'read metadata', () => this.#meta.get(name))
  }

  snapshot(): EngineSnapshot {
    return guarded(this.#options.directory, 'take a snapshot', () => {
      const connection = this.#idle.pop() ?? connectReader(this.#options, 'snapshot')
      try {
        connection.exec('BEGIN')
        // BEGIN alone pins nothing: the first read does, and this one is needed anyway.
        const snapshot = new SqliteSnapshot(connection, this.#options.directory, hasExpiries(connection), () => {
          this.#snapshots.delete(snapshot)
          this.#giveBack(connection)
        })
        this.#snapshots.add(snapshot)
        return snapshot
      } catch (thrown) {
        connection.close()
        throw thrown
      }
    })
  }

  checkIntegrity(progress: Progress): IntegrityReport {
    const connection = guarded(this.#options.directory, 'open the database for a check', () =>
      connectReader(this.#options, 'snapshot'),
    )
    try {
      return checkSqlite(connection, this.#options.directory, progress)
    } finally {
      connection.close()
    }
  }

  figures(): EngineFigures {
    return sqliteFigures(this.#connection, this.#options.directory)
  }

  close(): void {
    for (const snapshot of this.#snapshots) snapshot.release()
    for (const connection of this.#idle.splice(0)) connection.close()
    this.#connection.close()
  }

  #giveBack(connection: Connection): void {
    connection.exec('ROLLBACK')
    if (this.#connection.open && this.#idle.length < IDLE_SNAPSHOTS) this.#idle.push(connection)
    else connection.close()
  }
}

class SqliteSnapshot extends SqliteView implements EngineSnapshot {
  #giveBack: (() => void) | undefined

  constructor(connection: Connection, directory: string, expiring: boolean, giveBack: () => void) {
    super(connection, directory, expiring)
    this.#giveBack = giveBack
  }

  release(): void {
    const giveBack = this.#giveBack
    this.#giveBack = undefined
    giveBack?.()
  }

  override get(key: Key): StoredRecord | undefined {
    if (this.#giveBack === undefined) throw new KvidxError('internal', 'A snapshot is used after its release')
    return super.get(key)
  }
}
