import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import { CommitCounter } from '../commit-counter.ts'
import type { EngineFigures, EngineOptions, EngineShare, EngineWriter, Progress, WriteTransaction } from '../engine.ts'
import { freeSpace, syncPath } from '../files.ts'
import { copyEnvironment } from './copy.ts'
import { type Environment, lmdbFigures, lmdbVersion, openEnvironment, pageUse } from './environment.ts'
import { guarded, lmdbError } from './errors.ts'
import { ensureSound } from './integrity.ts'
import { MapLimit } from './limit.ts'
import { admitCommit } from './space.ts'
import { LmdbTransaction } from './transaction.ts'
import { LmdbView } from './view.ts'

/** Opens the writer of an LMDB database; creates `main.lmdb/` where there is none. Errors: see EngineWriter. */
export function openLmdbWriter(options: EngineOptions): EngineWriter {
  return new LmdbWriter(options)
}

/** Below this many free bytes the file's own free pages are counted, too. */
const LOW = 64 << 20

class LmdbWriter implements EngineWriter {
  readonly share: EngineShare
  readonly version: string
  readonly view: LmdbView
  readonly #commits = new CommitCounter()
  readonly #options: EngineOptions
  readonly #environment: Environment
  readonly #transaction: LmdbTransaction
  readonly #limit: MapLimit
  /** Bytes of free pages, looked at before each commit while the file system has little room. */
  #reusable = 0

  constructor(options: EngineOptions) {
    this.#options = options
    ensureSound(options.directory, options.suspected === true)
    const environment = openEnvironment(options.directory, options.tuning, true)
    this.#environment = environment
    this.share = { kind: 'LMDB', options, commits: this.#commits.shared }
    this.version = `LMDB ${lmdbVersion()}`
    this.view = new LmdbView(environment, () => {
      environment.root.resetReadTxn()
      return {}
    })
    this.#limit = new MapLimit(options.tuning.mapSizeLimit, () => {
      environment.root.resetReadTxn()
      const { pageSize, pages, free } = pageUse(environment)
      return (pages - free) * pageSize
    })
    this.#transaction = new LmdbTransaction(environment, this.#limit)
  }

  transact<T>(body: (transaction: WriteTransaction) => T): T {
    let result: { readonly value: T } | undefined
    // inside the transaction its own pages would count
    if (freeSpace(this.#options.directory) < LOW) this.#reusable = this.figures().freeBytes
    let before = 0
    try {
      this.#limit.begin()
      before = this.#limit.noted
      this.#environment.root.transactionSync(() => {
        this.#transaction.begin()
        result = { value: body(this.#transaction) }
        this.#transaction.finish()
        admitCommit(this.#limit.noted - before, freeSpace(this.#options.directory), () => this.#reusable)
      })
      this.#commits.increment()
    } catch (thrown) {
      this.#transaction.abandon()
      this.#limit.forget()
      throw lmdbError(thrown, 'commit', this.#options.directory)
    }
    // what is noted is an estimate from above
    this.#environment.residency.read(Math.max(0, this.#limit.noted - before) / 4)
    if (result === undefined) throw new KvidxError('internal', 'LMDB did not run the transaction')
    return result.value
  }

  flush(): void {
    if (this.#options.tuning.syncMode !== 'Full') guarded('sync', () => this.#environment.root.env.sync())
  }

  checkpoint(): number {
    this.flush()
    return 0
  }

  reclaim(): boolean {
    return true
  }

  compactInto(directory: string, progress: Progress): void {
    if (existsSync(directory))
      throw new KvidxError('conflict', `${directory} exists: a compact copy needs a directory that does not`)
    const unfinished = `${directory}.unfinished`
    rmSync(unfinished, { recursive: true, force: true })
    mkdirSync(unfinished, { mode: 0o700 })
    try {
      guarded('write a compact copy', () => copyEnvironment(this.#environment, unfinished, progress))
    } catch (thrown) {
      rmSync(unfinished, { recursive: true, force: true })
      throw thrown
    }
    renameSync(unfinished, directory)
    syncPath(dirname(directory))
  }

  compact(): void {
    throw new KvidxError(
      'setting_unsupported',
      'LMDB cannot be compacted in place: a compact copy can be made and swapped in',
    )
  }

  figures(): EngineFigures {
    return lmdbFigures(this.#environment, this.#options.directory)
  }

  close(): void {
    guarded('close the database', () => {
      // Nothing is queued (all writes are synchronous), so the file is closed when this returns.
      void this.#environment.root.close()
    })
  }
}
