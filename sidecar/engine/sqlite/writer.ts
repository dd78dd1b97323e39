import { chmodSync, closeSync, existsSync, fdatasyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Statement } from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import { volumeSpace } from '../../../src/common/volume-space.ts'
import { CommitCounter } from '../commit-counter.ts'
import type { EngineFigures, EngineOptions, EngineShare, EngineWriter, Progress, WriteTransaction } from '../engine.ts'
import { fileSize, syncPath } from '../files.ts'
import { checkpointWal } from './checkpoint.ts'
import { type Connection, connectWriter, databaseFile, sqliteVersion } from './connection.ts'
import { guarded } from './errors.ts'
import { sqliteFigures } from './figures.ts'
import { SqliteTransaction } from './transaction.ts'
import { vacuumBeside } from './vacuum.ts'
import { hasExpiries, SqliteView } from './view.ts'
import { closeFiles, type DatabaseFiles, openFiles } from './wal-pages.ts'

/** Pages that one step of incremental vacuum moves: a commit of a few milliseconds. */
const RECLAIM_PAGES = 128

/** Opens the writer of a SQLite database; creates `main.db` where there is none. Errors: see EngineWriter. */
export function openSqliteWriter(options: EngineOptions): EngineWriter {
  return guarded(options.directory, 'open the database', () => new SqliteWriter(options))
}

class SqliteWriter implements EngineWriter {
  readonly share: EngineShare
  readonly version: string
  readonly view: SqliteView
  readonly #commits = new CommitCounter()
  readonly #options: EngineOptions
  readonly #connection: Connection
  readonly #transaction: SqliteTransaction
  readonly #begin: Statement
  readonly #commit: Statement
  readonly #rollback: Statement
  /** Kept open to the end: closing any descriptor of a file drops the process's locks on it. */
  readonly #files: DatabaseFiles | undefined
  /** The main file where there is no WAL. */
  #mainFile: number | undefined

  constructor(options: EngineOptions) {
    this.#options = options
    this.#connection = connectWriter(options)
    this.#files = openFiles(options)
    this.share = {
      kind: 'SQLite',
      options,
      commits: this.#commits.shared,
      ...(this.#files && { files: this.#files }),
    }
    this.version = `SQLite ${sqliteVersion(this.#connection)}`
    this.view = new SqliteView(this.#connection, options.directory, hasExpiries(this.#connection))
    this.#transaction = new SqliteTransaction(this.#connection, this.view, options.directory)
    this.#begin = this.#connection.prepare('BEGIN IMMEDIATE')
    this.#commit = this.#connection.prepare('COMMIT')
    this.#rollback = this.#connection.prepare('ROLLBACK')
  }

  /** On a full disk what the WAL holds may still be copied back, and its room is then that of this commit: a remove must not fail for want of it. */
  transact<T>(body: (transaction: WriteTransaction) => T, repeatable = false): T {
    try {
      return this.#attempt(body)
    } catch (thrown) {
      if (!repeatable || !(thrown instanceof KvidxError) || thrown.code !== 'no_space' || !this.#emptyLog())
        throw thrown
      return this.#attempt(body)
    }
  }

  /** Not where the main file would grow by more than there is: a copy that fails half-way eats what is left. */
  #emptyLog(): boolean {
    const file = databaseFile(this.#options.directory)
    if (fileSize(`${file}-wal`) === 0) return false
    try {
      const { targetBytes = 0 } = this.figures()
      const growth = targetBytes - fileSize(file)
      if (growth > 0 && growth > volumeSpace(this.#options.directory).free) return false
      this.checkpoint('truncate')
      return true
    } catch {
      return false
    }
  }

  #attempt<T>(body: (transaction: WriteTransaction) => T): T {
    return guarded(this.#options.directory, 'commit', () => {
      const expiring = this.view.expiring
      this.#begin.run()
      try {
        this.#transaction.begin()
        const result = body(this.#transaction)
        this.#transaction.finish()
        this.#commit.run()
        this.#commits.increment()
        return result
      } catch (thrown) {
        this.#transaction.abandon()
        this.view.expiring = expiring
        // SQLite rolls back by itself on some errors, a full disk among them.
        if (this.#connection.inTransaction) this.#rollback.run()
        throw thrown
      }
    })
  }

  flush(): void {
    if (this.#options.tuning.syncMode === 'Full') return
    const file = databaseFile(this.#options.directory)
    try {
      const wal = `${file}-wal`
      if (existsSync(wal)) syncPath(wal)
      if (!this.#files) this.#mainFile ??= openSync(file, 'r')
      fdatasyncSync((this.#files?.main ?? this.#mainFile) as number)
      syncPath(this.#options.directory)
    } catch (thrown) {
      throw new KvidxError('engine_io', `The files of ${file} cannot be synced: ${String(thrown)}`, {}, thrown)
    }
  }

  checkpoint(mode: 'passive' | 'truncate'): number {
    return guarded(this.#options.directory, 'checkpoint', () => {
      // A truncating checkpoint would wait for readers with the writer in its hand: it shall try once.
      const timeout = Number(this.#connection.pragma('busy_timeout', { simple: true }))
      this.#connection.pragma('busy_timeout = 0')
      try {
        return checkpointWal(this.#connection, mode)
      } finally {
        this.#connection.pragma(`busy_timeout = ${timeout}`)
      }
    })
  }

  reclaim(budgetMs: number): boolean {
    return guarded(this.#options.directory, 'reclaim free pages', () => {
      if (Number(this.#connection.pragma('auto_vacuum', { simple: true })) === 0) return true
      const end = performance.now() + budgetMs
      for (;;) {
        if (Number(this.#connection.pragma('freelist_count', { simple: true })) === 0) return true
        if (performance.now() >= end) return false
        this.#connection.pragma(`incremental_vacuum(${RECLAIM_PAGES})`)
      }
    })
  }

  compactInto(directory: string, progress: Progress): void {
    if (existsSync(directory))
      throw new KvidxError('conflict', `${directory} exists: a compact copy needs a directory that does not`)
    if (progress(0, 1)) throw new KvidxError('cancelled', 'The compact copy was cancelled before it began')
    const unfinished = `${directory}.unfinished`
    rmSync(unfinished, { recursive: true, force: true })
    try {
      guarded(this.#options.directory, 'write a compact copy', () => {
        mkdirSync(unfinished, { mode: 0o700 })
        const file = databaseFile(unfinished)
        this.#connection.prepare('VACUUM INTO ?').run(file)
        chmodSync(file, 0o600)
        syncPath(file)
        syncPath(unfinished)
      })
    } catch (thrown) {
      rmSync(unfinished, { recursive: true, force: true })
      throw thrown
    }
    renameSync(unfinished, directory)
    syncPath(dirname(directory))
    progress(1, 1)
  }

  async compact(progress: Progress, scratch: string): Promise<void> {
    if (progress(0, 1)) throw new KvidxError('cancelled', 'The vacuum was cancelled before it began')
    const { fileBytes, walBytes = 0, freeBytes } = this.figures()
    try {
      await vacuumBeside(databaseFile(this.#options.directory), fileBytes - walBytes - freeBytes, scratch, progress)
    } catch (thrown) {
      // ended between its commit and its exit: then it is done, whatever was asked
      if (freeBytes === 0 || this.figures().freeBytes > 0) throw thrown
    }
    this.checkpoint('truncate')
    progress(1, 1)
  }

  figures(): EngineFigures {
    return sqliteFigures(this.#connection, this.#options.directory)
  }

  close(): void {
    guarded(this.#options.directory, 'close the database', () => this.#connection.close())
    if (this.#mainFile !== undefined) closeSync(this.#mainFile)
    this.#mainFile = undefined
    if (this.#files) closeFiles(this.#files)
  }
}
