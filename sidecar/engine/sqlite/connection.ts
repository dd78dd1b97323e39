import { closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import type { EngineOptions, EngineTuning, SyncMode } from '../engine.ts'
import { fileSize } from '../files.ts'

export type Connection = Database.Database

/** kvidxkit's own page size. */
const DEFAULT_PAGE_SIZE = 8192
const DEFAULT_CACHE_SIZE = 32 << 20
const DEFAULT_BUSY_TIMEOUT_MS = 30_000
const POINT_PATIENCE_MS = 250
/** A snapshot scans; what it read is not read again, so it needs little. */
const SNAPSHOT_CACHE_SIZE = 4 << 20
/**
 * Maintenance checkpoints long before this. It is here so that the WAL stays bounded when maintenance cannot run: the commit
 * that crosses it copies pages (passively: it waits for nobody).
 */
const AUTO_CHECKPOINT_BYTES = 256 << 20
/** The first version with the fix for the WAL-reset race that could corrupt a database. */
const OLDEST_SQLITE = [3, 51, 3] as const

const SYNCHRONOUS: Readonly<Record<SyncMode, string>> = { Full: 'FULL', Normal: 'NORMAL', Off: 'OFF' }

export function databaseFile(directory: string): string {
  return join(directory, 'main.db')
}

export function sqliteVersion(connection: Connection): string {
  const version = connection.prepare<[], string>('SELECT sqlite_version()').pluck().get() ?? ''
  const parts = version.split('.').map(Number)
  for (const [index, least] of OLDEST_SQLITE.entries()) {
    const part = parts[index] ?? 0
    if (part > least) break
    if (part < least)
      throw new KvidxError('engine_unavailable', `SQLite ${version} is too old: ${OLDEST_SQLITE.join('.')} is needed`)
  }
  return version
}

/** The writer's connection: pragmas set, tables there. A new file takes the tuned page size and incremental auto-vacuum. */
export function connectWriter(options: EngineOptions): Connection {
  const { directory, tuning } = options
  const file = databaseFile(directory)
  const isNew = fileSize(file) === 0
  // SQLite would make it readable to everybody; its other files take the mode of this one.
  if (!existsSync(file)) closeSync(openSync(file, 'wx', 0o600))
  const connection = new Database(file, { timeout: tuning.busyTimeout ?? DEFAULT_BUSY_TIMEOUT_MS })
  try {
    sqliteVersion(connection)
    if (isNew) {
      connection.pragma(`page_size = ${tuning.pageSize ?? DEFAULT_PAGE_SIZE}`)
      connection.pragma('auto_vacuum = INCREMENTAL')
    }
    setJournalMode(connection, tuning)
    connection.pragma(`synchronous = ${SYNCHRONOUS[tuning.syncMode]}`)
    setCache(connection, tuning, (tuning.cacheSize ?? DEFAULT_CACHE_SIZE) / 2)
    const pageSize = Number(connection.pragma('page_size', { simple: true }))
    connection.pragma(`wal_autocheckpoint = ${Math.ceil(AUTO_CHECKPOINT_BYTES / pageSize)}`)
    connection.pragma('trusted_schema = OFF')
    createTables(connection)
    return connection
  } catch (thrown) {
    connection.close()
    throw thrown
  }
}

/** A connection for point reads (`point`) or for one snapshot at a time. */
export function connectReader(options: EngineOptions, purpose: 'point' | 'snapshot'): Connection {
  const { directory, tuning } = options
  const file = databaseFile(directory)
  if (!existsSync(file)) throw new KvidxError('engine_io', `There is no database ${file}: open its writer first`)
  const patience = tuning.busyTimeout ?? DEFAULT_BUSY_TIMEOUT_MS
  // Without a WAL a commit keeps readers out; a point read then gives up soon, because its thread serves others too.
  const timeout = purpose === 'point' && !hasWal(tuning) ? Math.min(patience, POINT_PATIENCE_MS) : patience
  const connection = new Database(file, { readonly: true, timeout })
  try {
    const cache = purpose === 'point' ? (tuning.cacheSize ?? DEFAULT_CACHE_SIZE) / 2 : SNAPSHOT_CACHE_SIZE
    setCache(connection, tuning, cache)
    connection.pragma('trusted_schema = OFF')
    return connection
  } catch (thrown) {
    connection.close()
    throw thrown
  }
}

/** Only with a WAL do readers and the writer not wait for each other. */
export function hasWal(tuning: EngineTuning): boolean {
  return (tuning.journalMode ?? 'WAL') === 'WAL'
}

/** A second read-write connection for copying the WAL back from a thread that is not the writer's. */
export function connectCheckpointer(options: EngineOptions): Connection {
  const connection = new Database(databaseFile(options.directory), { fileMustExist: true, timeout: 0 })
  connection.pragma(`synchronous = ${SYNCHRONOUS[options.tuning.syncMode]}`)
  connection.pragma('wal_autocheckpoint = 0')
  return connection
}

function setJournalMode(connection: Connection, tuning: EngineTuning): void {
  const wanted = (tuning.journalMode ?? 'WAL').toLowerCase()
  const mode = connection.pragma(`journal_mode = ${wanted}`, { simple: true })
  if (mode !== wanted)
    throw new KvidxError(
      'setting_unsupported',
      `tuning.journalMode is ${tuning.journalMode ?? 'WAL'}: this file system or file allows only ${String(mode)}`,
      { field: 'tuning.journalMode', allowed: String(mode) },
    )
}

function setCache(connection: Connection, tuning: EngineTuning, bytes: number): void {
  connection.pragma(`cache_size = -${Math.max(1024, Math.round(bytes / 1024))}`)
  if (tuning.mmapSize !== undefined) connection.pragma(`mmap_size = ${tuning.mmapSize}`)
}

/** kvidxkit's tables letter by letter, so that its own CREATE IF NOT EXISTS finds them; ours beside them. */
const TABLES = [
  'CREATE TABLE IF NOT EXISTS controlBlock (id INTEGER PRIMARY KEY, what TEXT, how TEXT)',
  'CREATE INDEX IF NOT EXISTS controlBlock_what_idx ON controlBlock (what)',
  'CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, created INTEGER, term INTEGER, cmd INTEGER, data BLOB)',
  'CREATE TABLE IF NOT EXISTS _kvidx_ttl (id INTEGER PRIMARY KEY, expires_at INTEGER NOT NULL)',
  'CREATE INDEX IF NOT EXISTS _kvidx_ttl_expires ON _kvidx_ttl(expires_at)',
  'CREATE TABLE IF NOT EXISTS _kvidx_meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID',
  'CREATE TABLE IF NOT EXISTS _kvidx_changes (first INTEGER PRIMARY KEY, last INTEGER, frame BLOB)',
]

function createTables(connection: Connection): void {
  const present = connection.prepare<[], string>("SELECT name FROM pragma_table_info('log') ORDER BY cid").pluck().all()
  const needed = ['id', 'created', 'term', 'cmd', 'data']
  if (present.length > 0 && !needed.every(column => present.includes(column)))
    throw new KvidxError(
      'engine_corrupt',
      `main.db has a table log with the columns ${present.join(', ')}: kvidxkit's has ${needed.join(', ')}`,
      { foreign: true },
    )
  connection.transaction(() => {
    for (const statement of TABLES) connection.exec(statement)
  })()
}
