import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { open } from 'lmdb'
import { BinaryFile, recordsOf } from './binary.ts'
import type { RawDatabase } from './raw-database.ts'
import type { Loop, LoopMaker } from './workload.ts'

type OpenRaw = (directory: string) => RawDatabase

/** The bindings' own loops, written as their documents show it, with the same durability and the same fields. */
export const RAW_LOOPS: readonly LoopMaker[] = [
  { engine: 'SQLite', name: 'raw', open: async directory => loopOf(rawSqlite, directory) },
  { engine: 'LMDB', name: 'raw', open: async directory => loopOf(rawLmdb, directory) },
  {
    engine: 'RocksDB',
    name: 'raw',
    open: async directory => loopOf((await import('./raw-rocksdb.ts')).rawRocksdb, directory),
  },
]

function loopOf(openRaw: OpenRaw, directory: string): Loop {
  const database = openRaw(directory)
  return {
    insert: async (keys, data, batch) => database.insert(keys, data, batch),
    overwrite: async (keys, data, batch) => database.overwrite(keys, data, batch),
    get: keys => database.get(keys),
    scan() {
      let bytes = 0
      database.scan((_key, _term, _cmd, data) => {
        bytes += data.length
      })
      return bytes
    },
    async exported() {
      const file = new BinaryFile()
      database.scan((key, term, cmd, data) => file.add(key, term, cmd, data))
      return file.bytes
    },
    async imported(records, _count, batch) {
      const target = join(directory, 'imported')
      mkdirSync(target)
      const fresh = openRaw(target)
      try {
        let keys: bigint[] = []
        for (const { key, data } of recordsOf(records)) {
          keys.push(key)
          if (keys.length < batch) continue
          fresh.insert(keys, data, batch)
          keys = []
        }
      } finally {
        fresh.close()
      }
    },
    close: async () => database.close(),
  }
}

function rawSqlite(directory: string): RawDatabase {
  const database = new Database(join(directory, 'raw.db'))
  database.pragma('page_size = 8192')
  database.pragma('journal_mode = WAL')
  database.pragma('synchronous = FULL')
  database.pragma('cache_size = -16384')
  database.pragma('wal_autocheckpoint = 32768')
  database.exec('CREATE TABLE log (id INTEGER PRIMARY KEY, created INTEGER, term INTEGER, cmd INTEGER, data BLOB)')
  const insert = database.prepare('INSERT INTO log VALUES (?, 0, ?, ?, ?)')
  const replace = database.prepare('INSERT OR REPLACE INTO log VALUES (?, 0, ?, ?, ?)')
  const get = database
    .prepare<[bigint], { data: Buffer }>('SELECT term, cmd, data FROM log WHERE id = ?')
    .safeIntegers()
  const scan = database
    .prepare<[], { id: bigint; term: bigint; cmd: bigint; data: Buffer }>(
      'SELECT id, term, cmd, data FROM log ORDER BY id',
    )
    .safeIntegers()
  const batchOf = (statement: typeof insert) =>
    database.transaction((keys: readonly bigint[], data: Uint8Array) => {
      for (const key of keys) statement.run(BigInt.asIntN(64, key), 1, 2, data)
    })
  const loop = (body: ReturnType<typeof batchOf>) => (keys: readonly bigint[], data: Uint8Array, batch: number) => {
    for (let start = 0; start < keys.length; start += batch) body(keys.slice(start, start + batch), data)
  }
  return {
    insert: loop(batchOf(insert)),
    overwrite: loop(batchOf(replace)),
    get(keys) {
      let bytes = 0
      for (const key of keys) bytes += get.get(key)?.data.length ?? 0
      return bytes
    },
    scan(visit) {
      for (const { id, term, cmd, data } of scan.iterate()) visit(id, term, cmd, data)
    },
    close: () => void database.close(),
  }
}

function rawLmdb(directory: string): RawDatabase {
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
  const put = (keys: readonly bigint[], data: Uint8Array, batch: number): void => {
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
  }
  return {
    insert: put,
    overwrite: put,
    get(keys) {
      let bytes = 0
      for (const key of keys) bytes += (root.getBinary(keyOf(key))?.length ?? 16) - 16
      return bytes
    },
    scan(visit) {
      for (const { key, value } of root.getRange({ start: Buffer.alloc(8) })) {
        const bytes = value as Buffer
        visit(
          (key as Buffer).readBigUInt64BE(0),
          bytes.readBigUInt64LE(0),
          bytes.readBigUInt64LE(8),
          bytes.subarray(16),
        )
      }
    },
    close: () => void root.close(),
  }
}
