import { KvidxError } from '../../../src/common/errors.ts'
import type { Progress } from '../engine.ts'
import { type Address, Block, copyOut, cString } from '../native/memory.ts'
import { Pointers } from '../native/pointers.ts'
import { families } from './figures.ts'
import type { Family } from './options.ts'
import type { Session } from './session.ts'

/** A part of a column family's keys with about `bytes` in its table files. Bounds inclusive; absent: open. */
export interface Slice {
  readonly family: Address
  readonly first: Uint8Array | undefined
  readonly last: Uint8Array | undefined
  readonly bytes: number
}

/** kForceOptimized: rewrites the lowest level too, but no file twice. */
const BOTTOMMOST_FORCE_OPTIMIZED = 3

/** As `families` orders them. */
const NAMES: readonly Family[] = ['records', 'expiry', 'changes', 'meta']

/** Cuts the database at the borders of its table files, so that one slice touches few files. */
export function slices(session: Session, sliceBytes: number): Slice[] {
  const files = tableFiles(session)
  const result: Slice[] = []
  families(session).forEach((family, index) => {
    const mine = files.filter(file => file.family === NAMES[index])
    mine.sort((a, b) => Buffer.compare(a.smallest, b.smallest))
    let first: Uint8Array | undefined
    let bytes = 0
    for (const file of mine) {
      if (bytes >= sliceBytes) {
        const last = before(file.smallest)
        if (last) {
          result.push({ family, first, last, bytes })
          first = file.smallest
          bytes = 0
        }
      }
      bytes += file.bytes
    }
    if (bytes > 0) result.push({ family, first, last: undefined, bytes })
  })
  return result
}

/** Rewrites everything, slice by slice; asks `progress` (bytes) in between. Error: `cancelled`. */
export function compactEverything(session: Session, progress: Progress): void {
  const { library } = session
  const options = library.rocksdb_compactoptions_create()
  try {
    library.rocksdb_compactoptions_set_bottommost_level_compaction(options, BOTTOMMOST_FORCE_OPTIMIZED)
    // Others may compact beside it: a database under load would stop writing otherwise.
    library.rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0)
    const work = slices(session, 64 << 20)
    const total = work.reduce((sum, slice) => sum + slice.bytes, 0)
    let done = 0
    for (const slice of work) {
      if (progress(done, total)) throw new KvidxError('cancelled', 'the compaction was cancelled')
      withBounds(slice, (first, firstLength, last, lastLength) =>
        library.rocksdb_compact_range_cf_opt(
          session.handles.database,
          slice.family,
          options,
          first,
          firstLength,
          last,
          lastLength,
        ),
      )
      done += slice.bytes
    }
    progress(total, total)
  } finally {
    library.rocksdb_compactoptions_destroy(options)
  }
}

/** Marks the slice's files for compaction in RocksDB's background threads and returns at once. */
export function suggestCompaction(session: Session, slice: Slice): void {
  withBounds(slice, (first, firstLength, last, lastLength) =>
    session.library.rocksdb_suggest_compact_range_cf(
      session.handles.database,
      slice.family,
      first,
      firstLength,
      last,
      lastLength,
      session.errorSlot,
    ),
  )
  session.check('compact')
}

/** Whether the family has tables that were flushed and not compacted since. */
export function hasFlushedTables(session: Session, family: Address): boolean {
  const name = NAMES[families(session).indexOf(family)]
  return tableFiles(session).some(file => file.family === name && file.level === 0)
}

/** How many flushed tables start a compaction of them; anything but the usual is for a moment only. */
export function setCompactionTrigger(session: Session, family: Address, tables: number): void {
  const names = new Pointers(['level0_file_num_compaction_trigger'])
  const values = new Pointers([String(tables)])
  const { library, handles, errorSlot } = session
  library.rocksdb_set_options_cf(handles.database, family, 1, names.address, values.address, errorSlot)
  names.free()
  values.free()
  session.check('set options')
}

/** Compactions and flushes that run or are due in the background. */
export function compactionBusy(session: Session): boolean {
  return families(session).some(family => BUSY.some(name => session.property(family, name) > 0))
}

const BUSY = [
  'rocksdb.num-running-compactions',
  'rocksdb.compaction-pending',
  'rocksdb.num-running-flushes',
  'rocksdb.mem-table-flush-pending',
]

function withBounds(
  slice: Slice,
  use: (first: Address, firstLength: number, last: Address, lastLength: number) => void,
): void {
  const { first, last } = slice
  const block = new Block((first?.length ?? 0) + (last?.length ?? 0) + 8)
  if (first) block.bytes.set(first)
  if (last) block.bytes.set(last, first?.length ?? 0)
  const lastAddress = block.address + (first?.length ?? 0)
  use(first ? block.address : 0, first?.length ?? 0, last ? lastAddress : 0, last?.length ?? 0)
  block.free()
}

interface TableFile {
  readonly family: string
  readonly level: number
  readonly smallest: Uint8Array
  readonly bytes: number
}

function tableFiles({ library, handles }: Session): TableFile[] {
  const list = library.rocksdb_livefiles(handles.database)
  const length = new Block(8)
  const files: TableFile[] = []
  const count = library.rocksdb_livefiles_count(list)
  for (let index = 0; index < count; index++) {
    const smallest = library.rocksdb_livefiles_smallestkey(list, index, length.address)
    files.push({
      family: cString(library.rocksdb_livefiles_column_family_name(list, index)),
      level: library.rocksdb_livefiles_level(list, index),
      smallest: copyOut(smallest, Number(length.words[0])),
      bytes: library.rocksdb_livefiles_size(list, index),
    })
  }
  library.rocksdb_livefiles_destroy(list)
  length.free()
  return files
}

/** The key before `key` among keys of its length; undefined when there is none. */
function before(key: Uint8Array): Uint8Array | undefined {
  const result = key.slice()
  for (let index = result.length - 1; index >= 0; index--) {
    const byte = result[index] ?? 0
    result[index] = (byte + 255) & 255
    if (byte > 0) return result
  }
  return undefined
}
