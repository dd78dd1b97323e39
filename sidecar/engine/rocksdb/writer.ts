import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import type {
  EngineFigures,
  EngineOptions,
  EngineShare,
  EngineWriter,
  Progress,
  ReadView,
  WriteTransaction,
} from '../engine.ts'
import type { Address } from '../native/memory.ts'
import { cText } from '../native/pointers.ts'
import { Batch } from './batch.ts'
import { compactEverything, compactionBusy, type Slice, slices, suggestCompaction } from './compaction.ts'
import { closeFamilies } from './families.ts'
import { families, fileSizes, rocksFigures, tableSizes, unflushedBytes } from './figures.ts'
import { DIRECTORY, type OpenDatabase, openDatabase } from './open.ts'
import { Session } from './session.ts'
import { freeBytes, SpaceGuard } from './space.ts'
import { RocksTransaction } from './transaction.ts'
import { RocksView } from './view.ts'

/** Below so much reclaimable space, or so small a share of the tables, compacting is not worth the disk's time. */
const RECLAIM_BYTES = 4 << 20
const RECLAIM_SHARE = 0.1

/**
 * Opens the database for writing. syncMode: Full syncs the WAL at each commit; Normal and Off write the WAL without syncing (the death of
 * the process loses nothing), Normal also has the kernel write it out every MiB, so a power loss costs moments. The WAL is never off: without
 * it a killed process would lose what another engine keeps.
 *
 * Readers of other threads use the same open database. Close them all before the writer: `close` refuses while one is left.
 * Errors: `locked`, `engine_corrupt`, `engine_io`, `no_space`, `setting_unsupported`, `engine_unavailable`.
 */
export function openRocksWriter(options: EngineOptions): EngineWriter {
  return new RocksWriter(options)
}

class RocksWriter implements EngineWriter {
  readonly share: EngineShare
  readonly version: string
  readonly #database: OpenDatabase
  readonly #session: Session
  readonly #view: RocksView
  readonly #batch: Batch
  readonly #transaction: RocksTransaction
  readonly #writeOptions: Address
  readonly #path: string
  readonly #space: SpaceGuard
  #active = false
  #reclaiming: Slice[] | undefined
  /** Bytes of tables when reclaiming last came to its end. */
  #reclaimedAt: number | undefined

  constructor(options: EngineOptions) {
    this.#path = join(options.directory, DIRECTORY)
    this.#database = openDatabase(options)
    this.version = `RocksDB ${this.#database.version}`
    this.share = { kind: 'RocksDB', options, handles: { ...this.#database.handles } }
    this.#session = new Session(this.#database.handles)
    const { library } = this.#session
    this.#writeOptions = library.rocksdb_writeoptions_create()
    library.rocksdb_writeoptions_set_sync(this.#writeOptions, options.tuning.syncMode === 'Full' ? 1 : 0)
    this.#space = new SpaceGuard({
      free: () => freeBytes(this.#path),
      unflushed: () => unflushedBytes(this.#session),
      flush: () => void this.checkpoint('passive'),
      now: () => performance.now(),
    })
    this.#view = new RocksView(this.#session)
    this.#batch = new Batch(this.#session)
    this.#transaction = new RocksTransaction(this.#view, this.#batch)
  }

  get view(): ReadView {
    return this.#view
  }

  transact<T>(body: (transaction: WriteTransaction) => T): T {
    this.#session.ensureOpen()
    if (this.#active) throw new KvidxError('internal', 'a transaction is open already')
    this.#active = true
    this.#transaction.begin()
    try {
      const result = body(this.#transaction)
      if (!this.#batch.empty) {
        this.#space.admit(this.#batch.bytes)
        this.#batch.write(this.#writeOptions)
      }
      return result
    } finally {
      this.#transaction.end()
      this.#active = false
    }
  }

  flush(): void {
    this.#session.ensureOpen()
    this.#session.library.rocksdb_flush_wal(this.#database.handles.database, 1, this.#session.errorSlot)
    this.#session.check('sync the WAL')
  }

  checkpoint(_mode: 'passive' | 'truncate'): number {
    this.#session.ensureOpen()
    const { library } = this.#session
    const options = library.rocksdb_flushoptions_create()
    library.rocksdb_flushoptions_set_wait(options, 1)
    try {
      for (const family of families(this.#session)) {
        library.rocksdb_flush_cf(this.#database.handles.database, options, family, this.#session.errorSlot)
        this.#session.check('flush')
      }
    } finally {
      library.rocksdb_flushoptions_destroy(options)
    }
    return fileSizes(this.#path).wal
  }

  /** RocksDB compacts in threads of its own; this hands it one slice after another and never waits, so writes go on. */
  reclaim(_budgetMs: number): boolean {
    this.#session.ensureOpen()
    if (compactionBusy(this.#session)) return false
    if (!this.#reclaiming) {
      const { total, reclaimable } = tableSizes(this.#session)
      const before = this.#reclaimedAt
      const unchanged = before !== undefined && Math.abs(total - before) < total * RECLAIM_SHARE
      if (unchanged || reclaimable < RECLAIM_BYTES || reclaimable < total * RECLAIM_SHARE) return true
      this.#reclaiming = slices(this.#session, 64 << 20)
    }
    const slice = this.#reclaiming.pop()
    if (slice) {
      suggestCompaction(this.#session, slice)
      return false
    }
    this.#reclaiming = undefined
    this.#reclaimedAt = tableSizes(this.#session).total
    return true
  }

  /** Makes `<directory>/main.rocks`: table files are linked where the file system can, so it is quick and takes little space. */
  compactInto(directory: string, progress: Progress): void {
    this.#session.ensureOpen()
    if (existsSync(directory)) throw new KvidxError('conflict', `${directory} exists already`, { directory })
    if (progress(0, 1)) throw new KvidxError('cancelled', 'the copy was cancelled')
    mkdirSync(directory, { mode: 0o700 })
    try {
      this.#checkpointTo(join(directory, DIRECTORY))
    } catch (error) {
      rmSync(directory, { recursive: true, force: true })
      throw error
    }
    progress(1, 1)
  }

  #checkpointTo(path: string): void {
    const { library, errorSlot } = this.#session
    const checkpoint = library.rocksdb_checkpoint_object_create(this.#database.handles.database, errorSlot)
    this.#session.check('checkpoint')
    const name = cText(path)
    library.rocksdb_checkpoint_create(checkpoint, name.address, 0, errorSlot)
    library.rocksdb_checkpoint_object_destroy(checkpoint)
    name.free()
    this.#session.check(`checkpoint to ${path}`)
  }

  compact(progress: Progress): void {
    this.#session.ensureOpen()
    this.checkpoint('passive')
    compactEverything(this.#session, progress)
  }

  figures(): EngineFigures {
    return rocksFigures(this.#session, this.#path)
  }

  /** Error: `conflict` while readers are open; then the database stays open too. */
  close(): void {
    if (this.#session.gate.closed) return
    if (this.#active) throw new KvidxError('internal', 'the writer cannot be closed inside a transaction')
    this.#session.ensureIdle()
    this.#session.gate.close()
    const { library } = this.#session
    // Also what Normal and Off did not sync yet: a clean end loses nothing.
    library.rocksdb_flush_wal(this.#database.handles.database, 1, this.#session.errorSlot)
    this.#view.free()
    this.#batch.free()
    this.#transaction.free()
    library.rocksdb_writeoptions_destroy(this.#writeOptions)
    this.#session.end()
    closeFamilies(library, this.#database)
    this.#session.check('sync the WAL')
  }
}
