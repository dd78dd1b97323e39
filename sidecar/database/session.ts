import type { EngineKind, EngineOptions, EngineReader } from '../engine/engine.ts'
import { openReader } from '../engine/open.ts'
import type { DatabaseConfig } from './config.ts'
import { Readers } from './readers.ts'
import { Writer } from './writer.ts'

/** Threads for scans, exports and checks. Two cores are what most databases have. */
const READER_THREADS = 2

/** One opening of the engine: the writer's thread, the readers' threads, and the reader for point reads in this thread. */
export interface Session {
  readonly writer: Writer
  readonly readers: Readers
  readonly points: EngineReader
  close(): Promise<void>
}

export function engineOptions(config: DatabaseConfig, directory: string): EngineOptions {
  return { kind: config.engine, directory, tuning: config.tuning }
}

/** Errors: those of the engine. @param suspected the files may be damaged: an engine that trusts its files is not let near them unchecked */
export async function openSession(config: DatabaseConfig, directory: string, suspected = false): Promise<Session> {
  const writer = await Writer.open({
    options: { ...engineOptions(config, directory), ...(suspected && { suspected }) },
    limits: config.limits,
    log: config.changeLog,
  })
  let readers: Readers | undefined
  let points: EngineReader | undefined
  // readers first: RocksDB must not be closed under them
  const close = async () => {
    points?.close()
    await readers?.close()
    await writer.close()
  }
  try {
    readers = new Readers(writer.share, READER_THREADS)
    points = await openReader(writer.share)
    return { writer, readers, points, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** File or directory of an engine below the database's directory. */
export const ENGINE_FILE: Readonly<Record<EngineKind, string>> = {
  SQLite: 'main.db',
  LMDB: 'main.lmdb',
  RocksDB: 'main.rocks',
}
