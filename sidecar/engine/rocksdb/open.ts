import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'
import type { EngineOptions } from '../engine.ts'
import { type Address, Block, cString, wordsAt } from '../native/memory.ts'
import { ROCKSDB_VERSION, type RocksLibrary, rocksLibrary } from './binding.ts'
import { rocksErrorCode, rocksFailure } from './failure.ts'
import { Gate } from './gate.ts'
import { FAMILIES, OpenOptions } from './options.ts'
import type { RocksHandles } from './session.ts'

/** The database's directory inside `/data/db`. */
export const DIRECTORY = 'main.rocks'

export interface OpenDatabase {
  readonly handles: RocksHandles
  /** Handles of all column families, to be destroyed before the database is closed. */
  readonly families: readonly Address[]
  /** "7.8.3" */
  readonly version: string
}

/** Opens or creates `<directory>/main.rocks`. Errors: `locked`, `engine_corrupt`, `no_space`, `setting_unsupported`, `engine_unavailable`, `engine_io`. */
export function openDatabase({ directory, tuning }: EngineOptions): OpenDatabase {
  const library = rocksLibrary()
  const path = join(directory, DIRECTORY)
  checkFamilies(library, path)
  const opened = openFamilies(library, path, options(library, tuning))
  const [, records = 0, expiry = 0, changes = 0, meta = 0] = opened.families
  const version = writtenVersion(path)
  const handles = { database: opened.database, records, expiry, changes, meta, gate: Gate.allocate() }
  const result = { handles, families: opened.families, version }
  if (version.startsWith(`${ROCKSDB_VERSION}.`)) return result
  closeDatabase(library, result)
  throw new KvidxError(
    'engine_unavailable',
    `the RocksDB library is version ${version}; ${ROCKSDB_VERSION} is needed`,
    { version },
  )
}

/** Nothing may use the database any more: see Gate. */
export function closeDatabase(library: RocksLibrary, { handles, families }: OpenDatabase): void {
  library.rocksdb_cancel_all_background_work(handles.database, 1)
  for (const family of families) library.rocksdb_column_family_handle_destroy(family)
  library.rocksdb_close(handles.database)
}

/** Tries what is asked for; without a wish LZ4, or no compression where the library lacks it. */
function* options(library: RocksLibrary, tuning: EngineOptions['tuning']): Generator<OpenOptions> {
  if (tuning.compression !== undefined) {
    yield new OpenOptions(library, tuning, tuning.compression)
    return
  }
  yield new OpenOptions(library, tuning, 'LZ4')
  yield new OpenOptions(library, tuning, 'None')
}

function openFamilies(
  library: RocksLibrary,
  path: string,
  candidates: Iterable<OpenOptions>,
): { database: Address; families: Address[] } {
  let failure: KvidxError | undefined
  for (const candidate of candidates) {
    const names = new Pointers(FAMILIES.map(name => Buffer.from(`${name}\0`)))
    const wishes = new Pointers(candidate.families)
    const slots = new Block(8 * FAMILIES.length)
    const error = new Block(8)
    const name = cPath(path)
    try {
      const database = library.rocksdb_open_column_families(
        candidate.database,
        name.address,
        FAMILIES.length,
        names.address,
        wishes.address,
        slots.address,
        error.address,
      )
      const message = takeMessage(library, error)
      if (message === undefined) return { database, families: Array.from(slots.words, Number) }
      failure = rocksFailure(message, `open ${path}`)
      if (rocksErrorCode(message) !== 'setting_unsupported') break
    } finally {
      for (const memory of [names, wishes, slots, error, name]) memory.free()
      candidate.free()
    }
  }
  throw failure ?? new KvidxError('internal', 'RocksDB: no options to open with')
}

/** A database of another program, or of a newer version of ours, is not touched. */
function checkFamilies(library: RocksLibrary, path: string): void {
  if (!existsSync(join(path, 'CURRENT'))) return
  const options = library.rocksdb_options_create()
  const memory = new Block(16)
  const name = cPath(path)
  const list = library.rocksdb_list_column_families(options, name.address, memory.address + 8, memory.address)
  const count = Number(memory.words[1])
  const message = takeMessage(library, memory)
  library.rocksdb_options_destroy(options)
  name.free()
  memory.free()
  if (message !== undefined) throw rocksFailure(message, `open ${path}`)
  const found = stringsAt(list, count)
  library.rocksdb_list_column_families_destroy(list, count)
  const known: readonly string[] = FAMILIES
  const strange = found.filter(family => !known.includes(family))
  // Fewer families are a creation that was cut short, unless there is data: kvidxkit's directories are imported, never opened.
  if (strange.length === 0 && (found.length === known.length || isEmptyCreation(path))) return
  throw new KvidxError(
    'engine_corrupt',
    `${path} is not a database of this program: its column families are ${found.join(', ')}, expected ${known.join(', ')}`,
    { families: found },
  )
}

function isEmptyCreation(path: string): boolean {
  return !readdirSync(path).some(file => /\.(sst|log)$/.test(file) && statSync(join(path, file)).size > 0)
}

function stringsAt(list: Address, count: number): string[] {
  return Array.from(wordsAt(list, count), address => cString(Number(address)))
}

function takeMessage(library: RocksLibrary, slot: Block): string | undefined {
  const address = Number(slot.words[0])
  if (address === 0) return undefined
  const message = cString(address)
  library.rocksdb_free(address)
  return message
}

function cPath(path: string): Block {
  const text = Buffer.from(`${path}\0`)
  const block = new Block(text.length)
  block.bytes.set(text)
  return block
}

/** RocksDB writes its version into the OPTIONS file at each open; its C API does not tell. */
function writtenVersion(path: string): string {
  const newest = readdirSync(path)
    .filter(file => /^OPTIONS-\d+$/.test(file))
    .sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)))
    .at(-1)
  if (newest === undefined) return 'unknown'
  return /^\s*rocksdb_version=(\S+)/m.exec(readFileSync(join(path, newest), 'utf8'))?.[1] ?? 'unknown'
}

/** An array of pointers, to texts of its own or to given addresses. */
class Pointers {
  readonly #block: Block

  constructor(items: readonly (Uint8Array | Address)[]) {
    const texts = items.reduce<number>((sum, item) => sum + (typeof item === 'number' ? 0 : item.length), 0)
    this.#block = new Block(items.length * 8 + texts)
    let next = items.length * 8
    items.forEach((item, index) => {
      this.#block.words[index] = BigInt(typeof item === 'number' ? item : this.#block.address + next)
      if (typeof item === 'number') return
      this.#block.bytes.set(item, next)
      next += item.length
    })
  }

  get address(): Address {
    return this.#block.address
  }

  free(): void {
    this.#block.free()
  }
}
