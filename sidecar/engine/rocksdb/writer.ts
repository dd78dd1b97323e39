import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import { failpoint } from '../../../src/common/failpoint.ts'
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
import { compactEverything } from './compaction.ts'
import { closeFamilies } from './families.ts'
import { families, fileSizes, rocksFigures, unflushedBytes } from './figures.ts'
import { DIRECTORY, type OpenDatabase, openDatabase } from './open.ts'
import { Reclaimer } from './reclaim.ts'
import { Removed } from './removed.ts'
import { Session } from './session.ts'
import { freeBytes, SpaceGuard, volumeBytes } from './space.ts'
import { RocksTransaction } from './transaction.ts'
import { RocksView } from './view.ts'

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
  readonly #removed: Removed
  readonly #reclaimer: Reclaimer
  #active = false
  /** Set once a write met a full disk: only a new process helps. */
  #full: KvidxError | undefined

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
      size: volumeBytes(this.#path),
    })
    this.#removed = new Removed(this.#session)
    this.#reclaimer = new Reclaimer(this.#session, this.#removed)
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
        this.#write()
        this.#noteRemoved()
      }
      return result
    } finally {
      this.#transaction.end()
      this.#active = false
    }
  }

  /**
   * A write that found the disk full leaves the writer of the log in error. The library's own recovery, some seconds later, and its close write to that log again, on which
   * Debian's build aborts (WritableFileWriter::AssertFalseAndGetStatusForPrevError, writable_file_writer.h:312). So its threads are stopped and it is never closed: a new process
   * finds everything that was acknowledged in the log.
   */
  #write(): void {
    if (this.#full) throw this.#full
    failpoint('rocksdb.write')
    try {
      this.#batch.write(this.#writeOptions)
    } catch (thrown) {
      if (!(thrown instanceof KvidxError) || thrown.code !== 'no_space') throw thrown
      this.#session.library.rocksdb_cancel_all_background_work(this.#database.handles.database, 0)
      this.#full = new KvidxError('no_space', thrown.message, { restart: true }, thrown)
      throw this.#full
    }
  }

  #noteRemoved(): void {
    const { tombstones } = this.#transaction
    if (tombstones.length === 0) return
    for (const tombstone of tombstones) this.#removed.add(tombstone)
    this.#session.gate.removedBytes = this.#removed.bytes()
  }

  flush(): void {
    this.#session.ensureOpen()
    if (this.#full) throw this.#full
    this.#session.library.rocksdb_flush_wal(this.#database.handles.database, 1, this.#session.errorSlot)
    this.#session.check('sync the WAL')
  }

  checkpoint(_mode: 'passive' | 'truncate'): number {
    this.#session.ensureOpen()
    if (this.#full) throw this.#full
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

  /** Hands work to RocksDB's own threads and never waits, whatever the budget; writes go on. */
  reclaim(_budgetMs: number): boolean {
    this.#session.ensureOpen()
    if (this.#full) throw this.#full
    const done = this.#reclaimer.step()
    this.#session.gate.removedBytes = this.#removed.bytes()
    return done
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
    this.#removed.take()
    this.#session.gate.removedBytes = 0
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
    if (this.#full) {
      this.#session.end()
      return
    }
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
