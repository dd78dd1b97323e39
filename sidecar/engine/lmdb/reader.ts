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
import { type Environment, lmdbFigures, openEnvironment } from './environment.ts'
import { guarded } from './errors.ts'
import { checkLmdb } from './integrity.ts'
import { LmdbView } from './view.ts'

/** Opens a reader; threads of one process share the map of its writer. Errors: see EngineReader. */
export function openLmdbReader(share: EngineShare): EngineReader {
  return new LmdbReader(share)
}

class LmdbReader implements EngineReader {
  readonly #options: EngineOptions
  readonly #environment: Environment
  readonly #commits: CommitCounter | undefined
  /** The count of commits when the binding's read transaction was last let go. */
  #seen: number | undefined
  readonly #snapshots = new Set<HeldSnapshot>()

  constructor({ options, commits }: EngineShare) {
    this.#options = options
    this.#commits = commits && new CommitCounter(commits)
    this.#environment = openEnvironment(options.directory, options.tuning, false)
  }

  getWithMeta(key: Key, name: string): { record: StoredRecord | undefined; meta: Uint8Array | undefined } {
    return guarded('read a record', () => {
      const { records, metadata } = this.#environment
      this.#refresh()
      const value = records.get(key)
      return { record: value && { key, ...value }, meta: metadata.get(name) }
    })
  }

  getMeta(name: string): Uint8Array | undefined {
    return guarded('read metadata', () => {
      this.#refresh()
      return this.#environment.metadata.get(name)
    })
  }

  snapshot(): EngineSnapshot {
    return guarded('take a snapshot', () => {
      this.#environment.root.resetReadTxn()
      const transaction = this.#environment.root.useReadTransaction()
      const view = new LmdbView(this.#environment, () => ({ transaction }))
      const snapshot = new HeldSnapshot(view, () => {
        this.#snapshots.delete(snapshot)
        transaction.done()
      })
      this.#snapshots.add(snapshot)
      return snapshot
    })
  }

  async checkIntegrity(progress: Progress): Promise<IntegrityReport> {
    const pin = this.snapshot()
    try {
      return checkLmdb(this.#options.directory, progress)
    } finally {
      pin.release()
    }
  }

  figures(): EngineFigures {
    return lmdbFigures(this.#environment, this.#options.directory)
  }

  close(): void {
    for (const snapshot of this.#snapshots) snapshot.release()
    guarded('close the database', () => {
      void this.#environment.root.close()
    })
  }

  /**
   * The binding keeps a read transaction for a turn of the event loop: a commit that another thread has acknowledged since
   * would not be seen. After the reset all reads of this turn take the same, new one.
   */
  #refresh(): void {
    const count = this.#commits?.current
    if (count !== undefined && count === this.#seen) return
    this.#seen = count
    this.#environment.root.resetReadTxn()
  }
}
