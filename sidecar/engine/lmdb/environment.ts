import { closeSync, existsSync, mkdirSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import * as binding from 'lmdb'
import { KvidxError } from '../../../src/common/errors.ts'
import type { EngineFigures, EngineTuning, Key } from '../engine.ts'
import { fileSize, syncPath } from '../files.ts'
import {
  BYTE_VALUES,
  EXPIRY_ENCODER,
  type Expiry,
  FRAME_HEADS,
  FRAME_VALUES,
  type FrameValue,
  KEY_ENCODER,
  RAW_KEYS,
  RAW_VALUES,
  RECORD_HEADS,
  RECORD_VALUES,
  type RecordValue,
} from './codec.ts'
import { guarded } from './errors.ts'
import { Residency } from './residency.ts'

/** What the map starts with where nothing is said; it costs address space, not memory. */
const DEFAULT_MAP_SIZE = 1 << 30
/** Read transactions of all threads together. */
const MAX_READERS = 512
const MAGIC = 0xbeefc0de
/** The data format of the binding's LMDB (1.0 line). kvidxkit's files have format 1, and opening one of those ends the process. */
const DATA_FORMAT = 2

/** A read transaction that stays as it is until `done()`. */
export interface ReadTransaction {
  done(): void
}

interface ReadOptions {
  readonly transaction?: ReadTransaction
}

interface RangeOptions<K> extends ReadOptions {
  readonly start: K
  readonly end: K
  readonly inclusiveEnd: true
  readonly reverse?: boolean
  readonly limit?: number
}

interface StoreStats {
  readonly entryCount: number
  readonly treeBranchPageCount: number
  readonly treeLeafPageCount: number
  readonly overflowPages: number
}

interface EnvironmentStats extends StoreStats {
  readonly root: StoreStats & { readonly pageSize: number }
  readonly free: StoreStats
  readonly lastPageNumber: number
  readonly mapSize: number
}

/** What is used of the binding's database class: its own types know neither bigint keys nor the calls in a transaction. */
export interface Store<K, V> {
  get(key: K, options?: ReadOptions): V | undefined
  putSync(key: K, value: V, options?: { readonly noOverwrite?: boolean; readonly append?: boolean }): boolean
  removeSync(key: K): boolean
  clearSync(): void
  getRange(options: RangeOptions<K>): Iterable<{ readonly key: K; readonly value: V }>
  getKeys(options: RangeOptions<K>): Iterable<K>
  getKeysCount(options: RangeOptions<K>): number
  getStats(): EnvironmentStats
}

/** Keys are given as numbers and come back as halves. */
export interface RawStore {
  getRange(options: RangeOptions<Key>): Iterable<{
    readonly key: { readonly high: number; readonly low: number }
    readonly value: { readonly bytes: Uint8Array; readonly view: DataView }
  }>
}

interface Root extends Store<string, unknown> {
  openDB(name: string, options: object): unknown
  transactionSync<T>(body: () => T): T
  useReadTransaction(): ReadTransaction
  resetReadTxn(): void
  close(): Promise<void>
  readonly env: { sync(): void }
}

/** The open environment with its four databases. */
export interface Environment {
  readonly root: Root
  readonly residency: Residency
  readonly records: Store<Key, RecordValue>
  readonly expiries: Store<Expiry, Uint8Array>
  readonly metadata: Store<string, Uint8Array>
  readonly changes: Store<Key, FrameValue>
  /** The same trees, read without their data. */
  readonly recordHeads: Store<Key, { readonly expiresAt: bigint }>
  readonly rawRecords: RawStore
  readonly frameHeads: Store<Key, { readonly lastSeq: bigint; readonly frameBytes: number }>
}

export function environmentDirectory(directory: string): string {
  return join(directory, 'main.lmdb')
}

export function dataFile(directory: string): string {
  return join(environmentDirectory(directory), 'data.mdb')
}

/** The version of the LMDB that the binding is built with. */
export function lmdbVersion(): string {
  // Exported, but not to be found in the binding's types.
  const { version } = binding as unknown as { version: { major: number; minor: number; patch: number } }
  return `${version.major}.${version.minor}.${version.patch}`
}

/** Opens the environment; `writable` creates what is missing. Threads of a process share one map. */
export function openEnvironment(directory: string, tuning: EngineTuning, writable: boolean): Environment {
  const path = environmentDirectory(directory)
  const file = dataFile(directory)
  if (writable) mkdirSync(path, { recursive: true, mode: 0o700 })
  else if (!existsSync(file)) throw new KvidxError('engine_io', `There is no database ${file}: open its writer first`)
  checkFormat(file)
  return guarded('open the database', () => {
    const root = binding.open(path, {
      noSubdir: false,
      maxDbs: 8,
      maxReaders: MAX_READERS,
      mapSize: Math.max(tuning.mapSize ?? DEFAULT_MAP_SIZE, fileSize(file)),
      encoding: 'binary',
      // A commit must be on the disk before it returns and before any reader sees it.
      overlappingSync: false,
      noMetaSync: tuning.syncMode === 'Normal',
      noSync: tuning.syncMode === 'Off',
      readOnly: !writable,
      // Not to be found in the binding's types: the files are ours alone.
      ...{ permissionsMode: 0o600 },
    }) as unknown as Root
    const store = <K, V>(name: string, options: object): Store<K, V> => root.openDB(name, options) as Store<K, V>
    const environment: Environment = {
      root,
      residency: new Residency(file),
      records: store('records', { keyEncoder: KEY_ENCODER, encoder: RECORD_VALUES }),
      expiries: store('expiries', { keyEncoder: EXPIRY_ENCODER, encoder: BYTE_VALUES }),
      metadata: store('metadata', { encoder: BYTE_VALUES }),
      changes: store('changes', { keyEncoder: KEY_ENCODER, encoder: FRAME_VALUES }),
      recordHeads: store('records', { keyEncoder: KEY_ENCODER, encoder: RECORD_HEADS }),
      rawRecords: store('records', { keyEncoder: RAW_KEYS, encoder: RAW_VALUES }) as unknown as RawStore,
      frameHeads: store('changes', { keyEncoder: KEY_ENCODER, encoder: FRAME_HEADS }),
    }
    if (writable && tuning.syncMode !== 'Off') {
      syncPath(path)
      syncPath(directory)
    }
    return environment
  })
}

/** Pages in use and in the file, from the trees' own counts. */
export function pageUse(environment: Environment): { pageSize: number; pages: number; free: number; mapSize: number } {
  const records = environment.records.getStats()
  const stats: readonly StoreStats[] = [
    records.root,
    records.free,
    records,
    environment.expiries.getStats(),
    environment.metadata.getStats(),
    environment.changes.getStats(),
  ]
  // Two meta pages belong to no tree.
  let used = 2
  for (const tree of stats) used += tree.treeBranchPageCount + tree.treeLeafPageCount + tree.overflowPages
  const pages = records.lastPageNumber + 1
  return { pageSize: records.root.pageSize, pages, free: Math.max(0, pages - used), mapSize: records.mapSize }
}

export function lmdbFigures(environment: Environment, directory: string): EngineFigures {
  return guarded('read its figures', () => {
    environment.root.resetReadTxn()
    const { pageSize, pages, free, mapSize } = pageUse(environment)
    return {
      fileBytes: fileSize(dataFile(directory)) + fileSize(join(environmentDirectory(directory), 'lock.mdb')),
      freeBytes: free * pageSize,
      fragmentation: free / pages,
      mapBytes: mapSize,
      pageSize,
    }
  })
}

/** Refuses what is no LMDB file of our data format; engine_corrupt, with `foreign: true` for kvidxkit's. An empty or missing file passes. */
export function checkFormat(file: string): void {
  if (fileSize(file) === 0) return
  const header = Buffer.alloc(32)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, header, 0, header.length, 0)
  } finally {
    closeSync(descriptor)
  }
  // Format 1 has its magic at 16, format 2 at 24.
  if (header.readUInt32LE(24) === MAGIC && header.readUInt32LE(28) === DATA_FORMAT) return
  const old = header.readUInt32LE(16) === MAGIC
  throw new KvidxError(
    'engine_corrupt',
    old
      ? `${file} has LMDB data format ${header.readUInt32LE(20)}, as kvidxkit writes it: it can be imported, not opened`
      : `${file} is not an LMDB file of data format ${DATA_FORMAT}`,
    { foreign: old },
  )
}
