import { Block, copyNative } from '../../../sidecar/engine/native/memory.ts'
import { rocksLibrary } from '../../../sidecar/engine/rocksdb/binding.ts'
import { closeFamilies } from '../../../sidecar/engine/rocksdb/families.ts'
import { openDatabase } from '../../../sidecar/engine/rocksdb/open.ts'
import type { RawDatabase } from './raw-database.ts'

/** Byte offsets in the one block that all calls share. */
const ERROR = 0
const LENGTH = 8
const KEY = 16
const VALUE = 64
const HEADER = 24

/** The shortest loops that koffi allows over the C functions: one column family, no checks, nothing decoded but keys. */
export function rawRocksdb(directory: string): RawDatabase {
  const opened = openDatabase({ kind: 'RocksDB', directory, tuning: { syncMode: 'Full' } })
  const rocks = rocksLibrary()
  const { database, records } = opened.handles
  const memory = new Block(1 << 16)
  const lengths = new Uint32Array(memory.bytes.buffer)
  const { address } = memory
  const readOptions = rocks.rocksdb_readoptions_create()
  const writeOptions = rocks.rocksdb_writeoptions_create()
  rocks.rocksdb_writeoptions_set_sync(writeOptions, 1)
  const batch = rocks.rocksdb_writebatch_create()
  const put = (keys: readonly bigint[], data: Uint8Array, size: number): void => {
    memory.words[VALUE / 8] = 1n
    memory.words[VALUE / 8 + 1] = 2n
    memory.words[VALUE / 8 + 2] = 0n
    for (let start = 0; start < keys.length; start += size) {
      for (const key of keys.slice(start, start + size)) {
        memory.data.setBigUint64(KEY, key)
        memory.bytes.set(data, VALUE + HEADER)
        rocks.rocksdb_writebatch_put_cf(batch, records, address + KEY, 8, address + VALUE, HEADER + data.length)
      }
      rocks.rocksdb_write(database, writeOptions, batch, address + ERROR)
      rocks.rocksdb_writebatch_clear(batch)
    }
  }
  return {
    insert: put,
    overwrite: put,
    get(keys) {
      let bytes = 0
      for (const key of keys) {
        memory.data.setBigUint64(KEY, key)
        const slice = rocks.rocksdb_get_pinned_cf(database, readOptions, records, address + KEY, 8, address + ERROR)
        if (slice === 0) continue
        const value = rocks.rocksdb_pinnableslice_value(slice, address + LENGTH)
        const length = lengths[LENGTH / 4] ?? 0
        copyNative(address + VALUE, value, length)
        rocks.rocksdb_pinnableslice_destroy(slice)
        bytes += length - HEADER
      }
      return bytes
    },
    scan(visit) {
      const iterator = rocks.rocksdb_create_iterator_cf(database, readOptions, records)
      rocks.rocksdb_iter_seek_to_first(iterator)
      for (; rocks.rocksdb_iter_valid(iterator) !== 0; rocks.rocksdb_iter_next(iterator)) {
        copyNative(address + KEY, rocks.rocksdb_iter_key(iterator, address + LENGTH), 8)
        const value = rocks.rocksdb_iter_value(iterator, address + LENGTH)
        const length = lengths[LENGTH / 4] ?? 0
        copyNative(address + VALUE, value, length)
        const { data, words, bytes } = memory
        visit(
          data.getBigUint64(KEY),
          words[VALUE / 8] ?? 0n,
          words[VALUE / 8 + 1] ?? 0n,
          bytes.subarray(VALUE + HEADER, VALUE + length),
        )
      }
      rocks.rocksdb_iter_destroy(iterator)
    },
    close() {
      rocks.rocksdb_readoptions_destroy(readOptions)
      rocks.rocksdb_writeoptions_destroy(writeOptions)
      rocks.rocksdb_writebatch_destroy(batch)
      closeFamilies(rocks, opened)
    },
  }
}
