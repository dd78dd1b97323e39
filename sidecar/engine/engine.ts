/**
 * What every storage engine gives to the database core. The core knows positions, digests, the change log and
 * conditions; an engine knows only ordered records, an expiry index, named metadata and a log of opaque frames, all
 * changed in one transaction.
 *
 * Everything here is synchronous: the writer lives in a worker thread of its own, point reads are memory-speed, and
 * whatever takes long runs in a reader thread.
 */

/** Engines by their name in `spec.engine`. */
export type EngineKind = 'SQLite' | 'LMDB' | 'RocksDB'

/** 0 and 2^64-1 are ordinary keys; order is unsigned on every engine. */
export type Key = bigint

/** One record as it is stored, whether its expiry has passed or not. */
export interface StoredRecord {
  /** 0 … 2^64-1 */
  readonly key: Key
  /** 0 … 2^64-1, the user's */
  readonly term: bigint
  /** 0 … 2^64-1, the user's */
  readonly cmd: bigint
  /** The value. Borrowed: valid until the next call on the same view, so copy what is kept. */
  readonly data: Uint8Array
  /** Unix milliseconds, 1 … 2^64-1; 0n: never expires. */
  readonly expiresAt: bigint
}

/** Both bounds are inclusive; `start > end` is an empty range. */
export interface KeyRange {
  readonly start: Key
  readonly end: Key
}

export const EVERY_KEY: KeyRange = { start: 0n, end: 0xffff_ffff_ffff_ffffn }

/** `false` ends the walk, anything else goes on. */
export type Visit<T> = (item: T) => unknown

/** One frame of the change log: an encoded commit (docs/formats.md), opaque to the engine. */
export interface LogFrame {
  readonly firstSeq: bigint
  readonly lastSeq: bigint
  readonly frame: Uint8Array
}

/** Records that were packed one behind the other. */
export interface Packed {
  /** Bytes of the target that were used. */
  readonly bytes: number
  readonly records: number
  /** The first key that was not looked at, because there was no room left or the call had lasted long enough; undefined: the range is through. */
  readonly next: Key | undefined
  /** Bytes that the record of `next` needs, when nothing else stopped it. */
  readonly needed: number
}

/** A consistent view of the whole database. */
export interface ReadView {
  get(key: Key): StoredRecord | undefined
  /** Visits records of the range in key order (`descending`: from the end). Returns the number visited. */
  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number
  /** Visits at most `limit` expiring keys with expiresAt <= `until`, ordered by (expiresAt, key). */
  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number
  getMeta(name: string): Uint8Array | undefined
  /** Visits log frames whose lastSeq >= `fromSeq`, ascending. */
  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number
}

/**
 * A write transaction that reads its own writes. Callers say what is stored now (`old`), because they had to read it
 * for the digest anyway; an engine uses it to keep its expiry index without a second look-up. A wrong `old` corrupts the index.
 */
export interface WriteTransaction extends ReadView {
  /** Stores the record if its key is absent and returns true; otherwise changes nothing and returns false. */
  insert(record: StoredRecord): boolean
  /** Stores the record in the place of `old`. */
  replace(old: StoredRecord, record: StoredRecord): void
  remove(old: StoredRecord): void
  /** Removes records and expiries of the range without reading them. */
  removeRange(range: KeyRange): void
  putMeta(name: string, value: Uint8Array): void
  removeMeta(name: string): void
  appendLog(frame: LogFrame): void
  /** Removes whole frames with lastSeq <= `throughSeq`. Returns bytes of frames removed. */
  trimLog(throughSeq: bigint): number
}

/** When is a commit durable: design section 3. */
export const SYNC_MODES = ['Full', 'Normal', 'Off'] as const
export type SyncMode = (typeof SYNC_MODES)[number]

/** Settings that an engine is opened with; an engine refuses what it does not have (`setting_unsupported`). */
export interface EngineTuning {
  readonly syncMode: SyncMode
  /** bytes */
  readonly cacheSize?: number
  /** SQLite only */
  readonly journalMode?: 'WAL' | 'Delete' | 'Truncate' | 'Persist'
  /** SQLite only, milliseconds */
  readonly busyTimeout?: number
  /** SQLite only, bytes; 0 turns memory mapping off */
  readonly mmapSize?: number
  /** SQLite only, bytes, a power of two from 512 to 65536; only a new database takes it */
  readonly pageSize?: number
  /** LMDB only, bytes: what the map starts with */
  readonly mapSize?: number
  /** LMDB only, bytes: how far the map may grow while the database runs */
  readonly mapSizeLimit?: number
  /** RocksDB only */
  readonly compression?: 'None' | 'Snappy' | 'LZ4' | 'Zstd'
}

export interface EngineOptions {
  readonly kind: EngineKind
  /** The directory `/data/db`: holds `main.db`, `main.lmdb/` or `main.rocks/`. It exists. */
  readonly directory: string
  readonly tuning: EngineTuning
  /** The files may be damaged. An engine whose library would not survive that looks at them first (`engine_corrupt`). */
  readonly suspected?: boolean
}

/** What another thread needs to open a reader beside the writer: plain data that crosses postMessage. */
export interface EngineShare {
  readonly kind: EngineKind
  readonly options: EngineOptions
  /** RocksDB: addresses of the open database and its column families. */
  readonly handles?: Readonly<Record<string, number>>
  /** SQLite with a WAL: descriptors of its files, which live as long as the writer. */
  readonly files?: { readonly main: number; readonly wal: number; readonly shm: number }
  /** SQLite, LMDB: counts commits, so that a reader in another thread knows whether what it holds is of the last one. */
  readonly commits?: SharedArrayBuffer
}

/** Sizes in bytes; what an engine cannot know is undefined, never 0. */
export interface EngineFigures {
  /** All files of the database, WAL included. */
  readonly fileBytes: number
  /** SQLite WAL, RocksDB WAL. */
  readonly walBytes?: number
  /** SQLite: the main file once the WAL is in it. */
  readonly targetBytes?: number
  /** What the engine can reuse before the files must grow. */
  readonly freeBytes: number
  /** free / file, 0 … 1 */
  readonly fragmentation: number
  /** LMDB */
  readonly mapBytes?: number
  readonly pageSize?: number
}

/** Result of the engine's own check; an empty list of problems means sound. */
export interface IntegrityReport {
  readonly problems: readonly string[]
}

/** Progress of long work: returns true when it should stop (cancelled). `done` and `total` are in the same unit. */
export type Progress = (done: number, total: number) => boolean

export interface EngineWriter {
  readonly share: EngineShare
  /** The version of the engine's library, e.g. "SQLite 3.54.1". */
  readonly version: string
  /**
   * Runs `body` in one atomic transaction and returns when it is as durable as `syncMode` says. If `body` throws, nothing
   * has changed. Errors: `no_space` (ENOSPC, MDB_MAP_FULL at the limit), `engine_io`, `engine_corrupt`.
   * @param repeatable `body` may run a second time after one that found no space
   */
  transact<T>(body: (transaction: WriteTransaction) => T, repeatable?: boolean): T
  /** A view outside a transaction; sees the last commit. */
  readonly view: ReadView
  /** Makes all commits so far durable, whatever the sync mode (used before shipping). */
  flush(): void
  /** SQLite: WAL checkpoint; LMDB, RocksDB: flush. Returns bytes still in the WAL. `truncate` also cuts the file, if no reader holds it. */
  checkpoint(mode: 'passive' | 'truncate'): number
  /**
   * Gives unused space back, in one slice of about `budgetMs`. Returns true when nothing is left to do.
   * SQLite: incremental vacuum; RocksDB: compaction of the range; LMDB: nothing (compaction is a copy, see compactInto).
   */
  reclaim(budgetMs: number): boolean
  /** Writes a compact copy beside the database (SQLite VACUUM INTO, LMDB compacting copy, RocksDB checkpoint). The target must not exist. */
  compactInto(directory: string, progress: Progress): void
  /**
   * Full rewrite in place (SQLite VACUUM, RocksDB full compaction). LMDB: `setting_unsupported`, see compactInto. Where it gives a promise the writer must be left alone until that
   * settles, and this thread is free to look for a cancellation. @param scratch directory for what is needed meanwhile
   */
  compact(progress: Progress, scratch: string): void | Promise<void>
  figures(): EngineFigures
  close(): void
}

/** Reads beside the writer, from any thread. A reader sees only what is durable (with Full). */
export interface EngineReader {
  /** The record and the metadata `name`, both of one moment. The data is a copy. */
  getWithMeta(key: Key, name: string): { record: StoredRecord | undefined; meta: Uint8Array | undefined }
  getMeta(name: string): Uint8Array | undefined
  /** A view that stays as it is while writes go on. Release it; at most a few at once. */
  snapshot(): EngineSnapshot
  /**
   * The engine's own structural check (SQLite integrity_check, RocksDB checksums, LMDB page walk). It may have the thread to itself to its end;
   * what was asked of the thread meanwhile is only seen by `progress`.
   */
  checkIntegrity(progress: Progress): Promise<IntegrityReport>
  /**
   * SQLite: copies what it can of the WAL into the main file from this thread, while writes go on beside it; a checkpoint by the
   * writer then finds little to do. Returns the bytes left to copy. Other engines have no such work.
   */
  checkpoint?(): number
  figures(): EngineFigures
  close(): void
}

export interface EngineSnapshot extends ReadView {
  /** Counts without decoding data. */
  count(range: KeyRange): number
  /**
   * Writes records in key order as kvidxkit's BINARY export has them (docs/formats.md, section 5), without making objects of them: what reads a
   * whole database costs a fraction of a scan. Expired records are left out; `visibleAt` undefined takes all.
   */
  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed
  release(): void
}
