import { KvidxError } from '../../../src/common/errors.ts'
import { type Address, Block, cString, wordsAt } from '../native/memory.ts'
import { cText, Pointers } from '../native/pointers.ts'
import type { RocksLibrary } from './binding.ts'
import { rocksFailure } from './failure.ts'

export interface OpenFamilies {
  readonly database: Address
  /** Handles in the order of the names; they are destroyed before the database is closed. */
  readonly families: readonly Address[]
}

export interface OpenWish {
  readonly path: string
  readonly names: readonly string[]
  /** Options of the database, and of each column family in the order of the names. They stay the caller's. */
  readonly database: Address
  readonly families: readonly Address[]
  readonly readOnly?: true
}

/** Errors: what RocksDB says, as rocksFailure has it. */
export function openFamilies(library: RocksLibrary, wish: OpenWish): OpenFamilies {
  const path = cText(wish.path)
  const names = new Pointers(wish.names)
  const options = new Pointers(wish.families)
  const handles = new Block(8 * wish.names.length)
  const error = new Block(8)
  const count = wish.names.length
  try {
    const database = wish.readOnly
      ? library.rocksdb_open_for_read_only_column_families(
          wish.database,
          path.address,
          count,
          names.address,
          options.address,
          handles.address,
          0,
          error.address,
        )
      : library.rocksdb_open_column_families(
          wish.database,
          path.address,
          count,
          names.address,
          options.address,
          handles.address,
          error.address,
        )
    check(library, error, `open ${wish.path}`)
    if (database === 0) throw new KvidxError('engine_io', `RocksDB opened nothing at ${wish.path}`)
    return { database, families: Array.from(handles.words, Number) }
  } finally {
    for (const memory of [path, names, options, handles, error]) memory.free()
  }
}

/** Nothing may use the database any more. */
export function closeFamilies(library: RocksLibrary, { database, families }: OpenFamilies): void {
  library.rocksdb_cancel_all_background_work(database, 1)
  for (const family of families) library.rocksdb_column_family_handle_destroy(family)
  library.rocksdb_close(database)
}

/** The names in the database's manifest; the database need not be closed. */
export function listFamilies(library: RocksLibrary, path: string): string[] {
  const options = library.rocksdb_options_create()
  const result = new Block(16)
  const name = cText(path)
  try {
    const list = library.rocksdb_list_column_families(options, name.address, result.address + 8, result.address)
    check(library, result, `open ${path}`)
    const count = Number(result.words[1])
    const found = Array.from(wordsAt(list, count), address => cString(Number(address)))
    library.rocksdb_list_column_families_destroy(list, count)
    return found
  } finally {
    library.rocksdb_options_destroy(options)
    name.free()
    result.free()
  }
}

/** Throws the message whose address the first word of `slot` holds, if any. */
export function check(library: RocksLibrary, slot: Block, doing: string): void {
  const address = Number(slot.words[0])
  if (address === 0) return
  slot.words[0] = 0n
  const message = cString(address)
  library.rocksdb_free(address)
  throw rocksFailure(message, doing)
}
