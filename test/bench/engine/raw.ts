import { join } from 'node:path'
import Database from 'better-sqlite3'
import { open } from 'lmdb'
import type { Loop, LoopMaker } from './workload.ts'

/** The bindings' own loops, written as their documents show it, with the same durability and the same fields. */
export const RAW_LOOPS: readonly LoopMaker[] = [
  { engine: 'SQLite', name: 'raw', open: async directory => rawSqlite(directory) },
  { engine: 'LMDB', name: 'raw', open: async directory => rawLmdb(directory) },
  {
    engine: 'RocksDB',
    name: 'raw',
    open: async directory => (await import('./raw-rocksdb.ts')).rawRocksdb(directory),
  },
]

function rawSqlite(directory: string): Loop {
  const database = new Database(join(directory, 'raw.db'))
  database.pragma('page_size = 8192')
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = FULL')
  database.pragma('cache_size = -16384')
  database.pragma('wal_autocheckpoint = 32768')
  database.exec('CREATE TABLE log (id INTEGER PRIMARY KEY, created INTEGER, term INTEGER, cmd INTEGER, data BLOB)')
  const insert = database.prepare('INSERT INTO log VALUES (?, 0, ?, ?, ?)')
  const get = database
    .prepare<[bigint], { data: Buffer }>('SELECT term, cmd, data FROM log WHERE id = ?')
    .safeIntegers()
  const scan = database.prepare<[], { data: Buffer }>('SELECT id, term, cmd, data FROM log ORDER BY id').safeIntegers()
  const insertBatch = database.transaction((keys: readonly bigint[], data: Uint8Array) => {
    for (const key of keys) insert.run(BigInt.asIntN(64, key), 1, 2, data)
  })
  return {
    insert(keys, data, batch) {
      for (let start = 0; start < keys.length; start += batch) insertBatch(keys.slice(start, start + batch), data)
    },
    get(keys) {
      let bytes = 0
      for (const key of keys) bytes += get.get(key)?.data.length ?? 0
      return bytes
    },
    scan() {
      let bytes = 0
      for (const row of scan.iterate()) bytes += row.data.length
      return bytes
    },
    close: () => void database.close(),
  }
}

function rawLmdb(directory: string): Loop {
  const root = open<Buffer, Uint8Array>(join(directory, 'raw.lmdb'), {
    noSubdir: false,
    overlappingSync: false,
    keyEncoding: 'binary',
    encoding: 'binary',
    mapSize: 1 << 30,
  })
  const keyOf = (key: bigint): Buffer => {
    const bytes = Buffer.allocUnsafe(8)
    bytes.writeBigUInt64BE(key)
    return bytes
  }
  return {
    insert(keys, data, batch) {
      for (let start = 0; start < keys.length; start += batch)
        root.transactionSync(() => {
          for (const key of keys.slice(start, start + batch)) {
            const value = Buffer.allocUnsafe(16 + data.length)
            value.writeBigUInt64LE(1n, 0)
            value.writeBigUInt64LE(2n, 8)
            value.set(data, 16)
            root.putSync(keyOf(key), value)
          }
        })
    },
    get(keys) {
      let bytes = 0
      for (const key of keys) bytes += (root.getBinary(keyOf(key))?.length ?? 16) - 16
      return bytes
    },
    scan() {
      let bytes = 0
      for (const { value } of root.getRange({ start: Buffer.alloc(8) })) bytes += value.length - 16
      return bytes
    },
    close: () => void root.close(),
  }
}
