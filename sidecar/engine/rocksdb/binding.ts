import koffi, { type LibraryHandle } from 'koffi'
import { KvidxError } from '../../../src/common/errors.ts'
import { rocksLibraryPath } from '../native/library.ts'

/**
 * The part of RocksDB's C API (7.8) that is used. Every pointer is a plain number, which makes a call cost some 70 ns instead of
 * microseconds. A wrong width here corrupts memory silently: `int` and `double` stand where the C header has them.
 */
const SIGNATURES = {
  // database
  rocksdb_open_column_families: ['void*', 'void*', 'void*', 'int', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_open_for_read_only_column_families: [
    'void*',
    'void*',
    'void*',
    'int',
    'void*',
    'void*',
    'void*',
    'uchar',
    'void*',
  ],
  rocksdb_list_column_families: ['void*', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_list_column_families_destroy: ['void', 'void*', 'size_t'],
  rocksdb_column_family_handle_destroy: ['void', 'void*'],
  rocksdb_cancel_all_background_work: ['void', 'void*', 'uchar'],
  rocksdb_close: ['void', 'void*'],
  rocksdb_free: ['void', 'void*'],
  // reading
  rocksdb_get_pinned_cf: ['void*', 'void*', 'void*', 'void*', 'void*', 'size_t', 'void*'],
  rocksdb_pinnableslice_value: ['void*', 'void*', 'void*'],
  rocksdb_pinnableslice_destroy: ['void', 'void*'],
  rocksdb_get_latest_sequence_number: ['uint64', 'void*'],
  rocksdb_create_snapshot: ['void*', 'void*'],
  rocksdb_release_snapshot: ['void', 'void*', 'void*'],
  rocksdb_create_iterator_cf: ['void*', 'void*', 'void*', 'void*'],
  rocksdb_iter_destroy: ['void', 'void*'],
  rocksdb_iter_valid: ['uchar', 'void*'],
  rocksdb_iter_seek_to_first: ['void', 'void*'],
  rocksdb_iter_seek_to_last: ['void', 'void*'],
  rocksdb_iter_seek: ['void', 'void*', 'void*', 'size_t'],
  rocksdb_iter_seek_for_prev: ['void', 'void*', 'void*', 'size_t'],
  rocksdb_iter_next: ['void', 'void*'],
  rocksdb_iter_prev: ['void', 'void*'],
  rocksdb_iter_key: ['void*', 'void*', 'void*'],
  rocksdb_iter_value: ['void*', 'void*', 'void*'],
  rocksdb_iter_get_error: ['void', 'void*', 'void*'],
  rocksdb_readoptions_create: ['void*'],
  rocksdb_readoptions_destroy: ['void', 'void*'],
  rocksdb_readoptions_set_snapshot: ['void', 'void*', 'void*'],
  rocksdb_readoptions_set_verify_checksums: ['void', 'void*', 'uchar'],
  rocksdb_readoptions_set_fill_cache: ['void', 'void*', 'uchar'],
  rocksdb_readoptions_set_iterate_upper_bound: ['void', 'void*', 'void*', 'size_t'],
  rocksdb_readoptions_set_iterate_lower_bound: ['void', 'void*', 'void*', 'size_t'],
  // writing
  rocksdb_writebatch_create: ['void*'],
  rocksdb_writebatch_destroy: ['void', 'void*'],
  rocksdb_writebatch_clear: ['void', 'void*'],
  rocksdb_writebatch_count: ['int', 'void*'],
  rocksdb_writebatch_put_cf: ['void', 'void*', 'void*', 'void*', 'size_t', 'void*', 'size_t'],
  rocksdb_writebatch_delete_cf: ['void', 'void*', 'void*', 'void*', 'size_t'],
  rocksdb_writebatch_delete_range_cf: ['void', 'void*', 'void*', 'void*', 'size_t', 'void*', 'size_t'],
  rocksdb_write: ['void', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_writeoptions_create: ['void*'],
  rocksdb_writeoptions_destroy: ['void', 'void*'],
  rocksdb_writeoptions_set_sync: ['void', 'void*', 'uchar'],
  // upkeep
  rocksdb_flush_wal: ['void', 'void*', 'uchar', 'void*'],
  rocksdb_flush_cf: ['void', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_flushoptions_create: ['void*'],
  rocksdb_flushoptions_destroy: ['void', 'void*'],
  rocksdb_flushoptions_set_wait: ['void', 'void*', 'uchar'],
  rocksdb_compact_range_cf_opt: ['void', 'void*', 'void*', 'void*', 'void*', 'size_t', 'void*', 'size_t'],
  rocksdb_suggest_compact_range_cf: ['void', 'void*', 'void*', 'void*', 'size_t', 'void*', 'size_t', 'void*'],
  rocksdb_compactoptions_create: ['void*'],
  rocksdb_compactoptions_destroy: ['void', 'void*'],
  rocksdb_compactoptions_set_bottommost_level_compaction: ['void', 'void*', 'uchar'],
  rocksdb_compactoptions_set_exclusive_manual_compaction: ['void', 'void*', 'uchar'],
  rocksdb_set_options_cf: ['void', 'void*', 'void*', 'int', 'void*', 'void*', 'void*'],
  rocksdb_checkpoint_object_create: ['void*', 'void*', 'void*'],
  rocksdb_checkpoint_create: ['void', 'void*', 'void*', 'uint64', 'void*'],
  rocksdb_checkpoint_object_destroy: ['void', 'void*'],
  rocksdb_property_int_cf: ['int', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_approximate_sizes_cf: ['void', 'void*', 'void*', 'int', 'void*', 'void*', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_livefiles: ['void*', 'void*'],
  rocksdb_livefiles_count: ['int', 'void*'],
  rocksdb_livefiles_column_family_name: ['void*', 'void*', 'int'],
  rocksdb_livefiles_level: ['int', 'void*', 'int'],
  rocksdb_livefiles_size: ['size_t', 'void*', 'int'],
  rocksdb_livefiles_smallestkey: ['void*', 'void*', 'int', 'void*'],
  rocksdb_livefiles_destroy: ['void', 'void*'],
  // options
  rocksdb_options_create: ['void*'],
  rocksdb_options_destroy: ['void', 'void*'],
  rocksdb_get_options_from_string: ['void', 'void*', 'void*', 'void*', 'void*'],
  rocksdb_options_set_block_based_table_factory: ['void', 'void*', 'void*'],
  rocksdb_block_based_options_create: ['void*'],
  rocksdb_block_based_options_destroy: ['void', 'void*'],
  rocksdb_block_based_options_set_block_size: ['void', 'void*', 'size_t'],
  rocksdb_block_based_options_set_block_cache: ['void', 'void*', 'void*'],
  rocksdb_block_based_options_set_filter_policy: ['void', 'void*', 'void*'],
  rocksdb_block_based_options_set_format_version: ['void', 'void*', 'int'],
  rocksdb_block_based_options_set_cache_index_and_filter_blocks: ['void', 'void*', 'uchar'],
  rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority: ['void', 'void*', 'uchar'],
  rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache: ['void', 'void*', 'uchar'],
  rocksdb_filterpolicy_create_bloom_full: ['void*', 'double'],
  rocksdb_block_based_options_set_index_type: ['void', 'void*', 'int'],
  rocksdb_block_based_options_set_partition_filters: ['void', 'void*', 'uchar'],
  rocksdb_block_based_options_set_metadata_block_size: ['void', 'void*', 'uint64'],
  rocksdb_block_based_options_set_pin_top_level_index_and_filter: ['void', 'void*', 'uchar'],
  rocksdb_lru_cache_options_create: ['void*'],
  rocksdb_lru_cache_options_destroy: ['void', 'void*'],
  rocksdb_lru_cache_options_set_capacity: ['void', 'void*', 'size_t'],
  rocksdb_lru_cache_options_set_num_shard_bits: ['void', 'void*', 'int'],
  rocksdb_cache_create_lru_opts: ['void*', 'void*'],
  rocksdb_cache_destroy: ['void', 'void*'],
} as const satisfies Record<string, readonly [result: NativeType, ...parameters: NativeType[]]>

type NativeType = 'void' | 'void*' | 'size_t' | 'uint64' | 'int' | 'uchar' | 'double'

type Parameters<S extends readonly unknown[]> = S extends readonly [unknown, ...infer P]
  ? { [I in keyof P]: number }
  : never

type Result<S extends readonly unknown[]> = S[0] extends 'void' ? undefined : number

/** The functions of the library under their C names; addresses are numbers, 0 is NULL. */
export type RocksLibrary = {
  readonly [Name in keyof typeof SIGNATURES]: (
    ...parameters: Parameters<(typeof SIGNATURES)[Name]>
  ) => Result<(typeof SIGNATURES)[Name]>
}

const KOFFI_TYPES: Readonly<Record<NativeType, string>> = {
  void: 'void',
  'void*': 'uintptr_t',
  size_t: 'size_t',
  uint64: 'uint64_t',
  int: 'int',
  uchar: 'uint8_t',
  double: 'double',
}

/** Versions whose C API has these signatures and whose files are what `docs/formats.md` and kvidxkit expect. */
export const ROCKSDB_VERSION = '7.8'

let loaded: RocksLibrary | undefined

/** The library, loaded once a thread. Error: `engine_unavailable`, which says what to install. */
export function rocksLibrary(): RocksLibrary {
  loaded ??= bind(rocksLibraryPath())
  return loaded
}

function bind(path: string): RocksLibrary {
  let library: LibraryHandle
  try {
    library = koffi.load(path)
  } catch (error) {
    throw new KvidxError(
      'engine_unavailable',
      `RocksDB's library ${path} cannot be loaded: ${text(error)}`,
      { path },
      error,
    )
  }
  const functions: Record<string, unknown> = {}
  for (const [name, [result, ...parameters]] of Object.entries(SIGNATURES)) {
    try {
      functions[name] = library.func(
        name,
        KOFFI_TYPES[result],
        parameters.map(parameter => KOFFI_TYPES[parameter]),
      )
    } catch (error) {
      throw new KvidxError(
        'engine_unavailable',
        `RocksDB's library ${path} has no function ${name}; version ${ROCKSDB_VERSION} is needed`,
        { path },
        error,
      )
    }
  }
  return functions as RocksLibrary
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
