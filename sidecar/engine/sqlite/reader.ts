import { CommitCounter } from '../commit-counter.ts'
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
import { HeldSnapshot } from '../held-snapshot.ts'
import { checkBeside } from './check-beside.ts'
import { checkpointWal } from './checkpoint.ts'
import { type Connection, connectCheckpointer, connectReader, hasWal } from './connection.ts'
import { guarded } from './errors.ts'
import { sqliteFigures } from './figures.ts'
import { PointReader } from './point-reader.ts'
import { hasExpiries, SqliteView } from './view.ts'
import { type DatabaseFiles, WalMoment } from './wal-pages.ts'

/** Connections kept for snapshots to come; more than these are closed on release. */
const IDLE_SNAPSHOTS = 4
/** Attempts to begin a transaction between two commits. */
const BEGINNINGS = 4

/** A connection that a snapshot has to itself, with the statements it has prepared. */
interface Moment {
  readonly connection: Connection
  readonly view: SqliteView
}

/** Opens a reader with a read-only connection of its own. Errors: see EngineReader. */
export function openSqliteReader(share: EngineShare): EngineReader {
  return guarded(share.options.directory, 'open the database for reading', () => new SqliteReader(share))
}

class SqliteReader implements EngineReader {
  readonly #options: EngineOptions
  readonly #connection: Connection
  readonly #points: PointReader
  readonly #files: DatabaseFiles | undefined
  readonly #idle: Moment[] = []
  readonly #snapshots = new Set<HeldSnapshot>()

  constructor({ options, commits, files }: EngineShare) {
    this.#options = options
    this.#files = files
    this.#connection = connectReader(options, 'point')
    // Without a WAL a transaction that reads share would hold up the writer.
    const counter = commits && hasWal(options.tuning) ? new CommitCounter(commits) : undefined
    this.#points = new PointReader(this.#connection, counter)
  }

  getWithMeta(key: Key, name: string): { record: StoredRecord | undefined; meta: Uint8Array | undefined } {
    return guarded(this.#options.directory, 'read a record', () => this.#points.get(key, name))
  }

  getMeta(name: string): Uint8Array | undefined {
    return guarded(this.#options.directory, 'read metadata', () => this.#points.getMeta(name))
  }

  snapshot(): EngineSnapshot {
    return guarded(this.#options.directory, 'take a snapshot', () => {
      const moment = this.#idle.pop() ?? this.#openMoment()
      try {
        this.#begin(moment)
      } catch (thrown) {
        moment.connection.close()
        throw thrown
      }
      const snapshot = new HeldSnapshot(moment.view, () => {
        this.#snapshots.delete(snapshot)
        this.#giveBack(moment)
      })
      this.#snapshots.add(snapshot)
      return snapshot
    })
  }

  checkIntegrity(progress: Progress): Promise<IntegrityReport> {
    return checkBeside(this.#options, progress)
  }

  checkpoint(): number {
    return guarded(this.#options.directory, 'checkpoint', () => {
      const connection = connectCheckpointer(this.#options)
      try {
        return checkpointWal(connection, 'passive')
      } finally {
        connection.close()
      }
    })
  }

  figures(): EngineFigures {
    this.#points.release()
    return sqliteFigures(this.#connection, this.#options.directory)
  }

  close(): void {
    for (const snapshot of this.#snapshots) snapshot.release()
    for (const { connection } of this.#idle.splice(0)) connection.close()
    this.#points.close()
    this.#connection.close()
  }

  /** Begins the read transaction, and finds out where its pages are unless commits come in between again and again. */
  #begin({ connection, view }: Moment): void {
    const files = this.#files
    for (let attempt = 1; ; attempt++) {
      const before = files && WalMoment.read(files)
      connection.exec('BEGIN')
      // BEGIN alone pins nothing: the first read does, and this one is needed anyway.
      view.expiring = hasExpiries(connection)
      const moment = files && WalMoment.read(files)
      const known = before !== undefined && moment?.sameAs(before)
      if (files && moment && known) view.usePages({ files, moment })
      if (!files || known || attempt === BEGINNINGS) return
      connection.exec('ROLLBACK')
    }
  }

  #openMoment(): Moment {
    const connection = connectReader(this.#options, 'snapshot')
    return { connection, view: new SqliteView(connection, this.#options.directory, true) }
  }

  #giveBack(moment: Moment): void {
    const { connection, view } = moment
    view.usePages(undefined)
    connection.exec('ROLLBACK')
    if (this.#connection.open && this.#idle.length < IDLE_SNAPSHOTS) this.#idle.push(moment)
    else connection.close()
  }
}
