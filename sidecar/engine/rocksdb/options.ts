import type { EngineTuning } from '../engine.ts'
import { type Address, Block } from '../native/memory.ts'
import { cText } from '../native/pointers.ts'
import type { RocksLibrary } from './binding.ts'
import { check } from './families.ts'
import { scaleOf } from './scale.ts'

const MIB = 1 << 20

/** bytes; what `cacheSize` is when nobody says: the guide's smallest */
export const DEFAULT_CACHE_SIZE = 32 * MIB

/** kTwoLevelIndexSearch */
const TWO_LEVEL_INDEX = 2

const COMPRESSION = {
  None: 'kNoCompression',
  Snappy: 'kSnappyCompression',
  LZ4: 'kLZ4Compression',
  Zstd: 'kZSTD',
} as const

/** The column families, in the order of their handles. `default` must exist and stays empty. */
export const FAMILIES = ['default', 'records', 'expiry', 'changes', 'meta'] as const
export type Family = (typeof FAMILIES)[number]

/**
 * What the database as a whole is opened with. Memory is bounded by the block cache, at most 96 MiB of write buffers, and table readers for 512
 * open files.
 */
function databaseOptions(tuning: EngineTuning, scale: number): string {
  return settings({
    create_if_missing: true,
    create_missing_column_families: true,
    max_open_files: 512,
    max_background_jobs: 2,
    db_write_buffer_size: 96 * MIB * scale,
    // The metadata's buffer never fills by itself, and a WAL stays as long as one family has unflushed data in it.
    max_total_wal_size: 128 * MIB * scale,
    max_log_file_size: 1 * MIB,
    keep_log_file_num: 2,
    info_log_level: 'WARN_LEVEL',
    stats_dump_period_sec: 0,
    stats_persist_period_sec: 0,
    bytes_per_sync: 1 * MIB,
    wal_bytes_per_sync: tuning.syncMode === 'Normal' ? 1 * MIB : 0,
    // A commit that was being written when the power failed must not keep the database from opening.
    wal_recovery_mode: 'kPointInTimeRecovery',
    paranoid_checks: true,
    // A start on a full volume must not need room for tables: what the log holds may stay there.
    avoid_flush_during_recovery: true,
    // A log that is allocated ahead takes as much as the ballast of a small volume gives back.
    allow_fallocate: scale === 1,
  })
}

function familyOptions(family: Family, compression: keyof typeof COMPRESSION, scale: number): string {
  const large = family === 'records' || family === 'changes'
  return settings({
    compression: COMPRESSION[compression],
    write_buffer_size: (large ? 32 : 4) * MIB * scale,
    max_write_buffer_number: 3,
    target_file_size_base: (large ? 32 : 8) * MIB * scale,
    max_bytes_for_level_base: (large ? 128 : 32) * MIB * scale,
    level_compaction_dynamic_level_bytes: true,
    // Inserting asks for keys that are mostly absent: the memtable answers from its own filter.
    memtable_prefix_bloom_size_ratio: family === 'records' ? 0.05 : 0,
    memtable_whole_key_filtering: family === 'records',
  })
}

function settings(values: Readonly<Record<string, string | number | boolean>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}=${value};`)
    .join('')
}

/** Option objects of the C API, one a column family in the order of FAMILIES; free them after opening. */
export class OpenOptions {
  readonly database: Address
  readonly families: readonly Address[]
  readonly #library: RocksLibrary

  /** @param volumeBytes size of the file system that the database lies on */
  constructor(library: RocksLibrary, tuning: EngineTuning, compression: keyof typeof COMPRESSION, volumeBytes: number) {
    const scale = scaleOf(volumeBytes)
    this.#library = library
    const cache = blockCache(library, tuning.cacheSize ?? DEFAULT_CACHE_SIZE)
    this.database = parse(library, databaseOptions(tuning, scale))
    this.families = FAMILIES.map(family => {
      const options = parse(library, familyOptions(family, compression, scale))
      const table = library.rocksdb_block_based_options_create()
      library.rocksdb_block_based_options_set_block_cache(table, cache)
      library.rocksdb_block_based_options_set_block_size(table, family === 'changes' ? 32 << 10 : 4 << 10)
      // What kvidxkit's RocksDB 7.8.3 reads; newer ones write 6.
      library.rocksdb_block_based_options_set_format_version(table, 5)
      // Index and filter count as cache, otherwise memory grows with the number of files.
      library.rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1)
      library.rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1)
      library.rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1)
      library.rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1)
      library.rocksdb_block_based_options_set_index_type(table, TWO_LEVEL_INDEX)
      library.rocksdb_block_based_options_set_metadata_block_size(table, 4 << 10)
      if (family === 'records') {
        // One filter for a whole table would be megabytes that go in and out of a small cache at every look-up.
        library.rocksdb_block_based_options_set_partition_filters(table, 1)
        // The table takes the policy over.
        library.rocksdb_block_based_options_set_filter_policy(table, library.rocksdb_filterpolicy_create_bloom_full(10))
      }
      library.rocksdb_options_set_block_based_table_factory(options, table)
      library.rocksdb_block_based_options_destroy(table)
      return options
    })
    // The tables share it; this gives up only our own reference.
    library.rocksdb_cache_destroy(cache)
  }

  free(): void {
    for (const options of this.families) this.#library.rocksdb_options_destroy(options)
    this.#library.rocksdb_options_destroy(this.database)
  }
}

/**
 * Cut into as few parts as keeps each at 16 MiB or more: RocksDB's own 512 KiB are less than what one large record or index needs, and no more than
 * a handful of threads read.
 */
function blockCache(library: RocksLibrary, bytes: number): Address {
  const options = library.rocksdb_lru_cache_options_create()
  library.rocksdb_lru_cache_options_set_capacity(options, bytes)
  library.rocksdb_lru_cache_options_set_num_shard_bits(
    options,
    Math.max(0, Math.min(6, Math.floor(Math.log2(bytes / (16 * MIB))))),
  )
  const cache = library.rocksdb_cache_create_lru_opts(options)
  library.rocksdb_lru_cache_options_destroy(options)
  return cache
}

function parse(library: RocksLibrary, text: string): Address {
  const base = library.rocksdb_options_create()
  const parsed = library.rocksdb_options_create()
  const error = new Block(8)
  const wish = cText(text)
  try {
    library.rocksdb_get_options_from_string(base, wish.address, parsed, error.address)
    check(library, error, 'options')
    return parsed
  } catch (thrown) {
    library.rocksdb_options_destroy(parsed)
    throw thrown
  } finally {
    library.rocksdb_options_destroy(base)
    wish.free()
    error.free()
  }
}
