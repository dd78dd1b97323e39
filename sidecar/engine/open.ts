import { KvidxError } from '../../src/common/errors.ts'
import type { EngineOptions, EngineReader, EngineShare, EngineWriter } from './engine.ts'
import { checkTuning } from './settings.ts'

/**
 * Opens (and creates where there is none) the database of `options.directory` for its one writer.
 * Engines are imported here and not at the top, so that a missing librocksdb matters only to who uses RocksDB.
 * Errors: `setting_unsupported`, `engine_corrupt`, `engine_io`, `engine_unavailable`, `no_space`, `locked`.
 */
export async function openWriter(options: EngineOptions): Promise<EngineWriter> {
  checkTuning(options.kind, options.tuning)
  switch (options.kind) {
    case 'SQLite':
      return (await import('./sqlite/writer.ts')).openSqliteWriter(options)
    case 'LMDB':
      return (await import('./lmdb/writer.ts')).openLmdbWriter(options)
    case 'RocksDB':
      return (await import('./rocksdb/writer.ts')).openRocksWriter(options)
    default:
      throw unknownEngine(options.kind)
  }
}

/** Opens a reader beside the writer whose `share` this is; any thread may. Close readers before the writer. */
export async function openReader(share: EngineShare): Promise<EngineReader> {
  switch (share.kind) {
    case 'SQLite':
      return (await import('./sqlite/reader.ts')).openSqliteReader(share)
    case 'LMDB':
      return (await import('./lmdb/reader.ts')).openLmdbReader(share)
    case 'RocksDB':
      return (await import('./rocksdb/reader.ts')).openRocksReader(share)
    default:
      throw unknownEngine(share.kind)
  }
}

/**
 * Keeps an engine's library in the process, from before a thread opens it. Node unloads an addon with the last thread that has it; where only a passing thread had it, what
 * the addon left to the end of that thread (destructors, work in the pool) could run in memory that is gone. A library that cannot be loaded is the thread's to report.
 */
export async function holdEngine(kind: EngineOptions['kind']): Promise<void> {
  try {
    if (kind === 'LMDB') await import('./lmdb/reader.ts')
    else if (kind === 'RocksDB') await import('./rocksdb/reader.ts')
    // this addon is loaded by the first database
    else new (await import('better-sqlite3')).default(':memory:').close()
  } catch {
    // said above
  }
}

function unknownEngine(kind: never): KvidxError {
  return new KvidxError('setting_unsupported', `engine is ${String(kind)}: allowed are SQLite, LMDB, RocksDB`, {
    field: 'engine',
  })
}
