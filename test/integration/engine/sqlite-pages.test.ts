import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type EngineWriter, EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openWriter } from '../../../sidecar/engine/open.ts'
import { PagePacker } from '../../../sidecar/engine/sqlite/page-pack.ts'
import type { SqliteView } from '../../../sidecar/engine/sqlite/view.ts'
import { type DatabaseFiles, WalMoment } from '../../../sidecar/engine/sqlite/wal-pages.ts'
import { noise, record } from './records.ts'

let root: string
let writer: EngineWriter
let connection: Database.Database

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'kvidx-pages-'))
  mkdirSync(join(root, 'db'))
  writer = await openWriter({ kind: 'SQLite', directory: join(root, 'db'), tuning: { syncMode: 'Off' } })
  connection = new Database(join(root, 'db/main.db'), { readonly: true })
})
afterEach(() => {
  connection.close()
  writer.close()
  rmSync(root, { recursive: true })
})

/** Packs everything from pages; a row that was asked of SQLite fails. */
function packFromPages(): { keys: bigint[]; data: string[] } {
  const files = writer.share.files as DatabaseFiles
  const view = {
    expiring: false,
    scan() {
      throw new Error('SQLite was asked for a row')
    },
  } as unknown as SqliteView
  connection.exec('BEGIN')
  connection.prepare('SELECT count(*) FROM _kvidx_meta').get()
  try {
    const packer = new PagePacker(connection, view, files, WalMoment.read(files) as WalMoment)
    const target = new Uint8Array(8 << 20)
    const { bytes, next } = packer.pack(EVERY_KEY, undefined, target)
    expect(next).toBeUndefined()
    const keys: bigint[] = []
    const data: string[] = []
    const packed = Buffer.from(target.buffer, 0, bytes)
    for (let at = 0; at < bytes; ) {
      const length = Number(packed.readBigUInt64LE(at + 24))
      keys.push(packed.readBigUInt64LE(at))
      data.push(packed.toString('hex', at + 32, at + 32 + length))
      at += 32 + length
    }
    return { keys, data }
  } finally {
    connection.exec('ROLLBACK')
  }
}

const keys = Array.from({ length: 3000 }, (_, index) => BigInt(index * 5))
const dataOf = (key: bigint): Uint8Array => noise(Number(key % 300n), Number(key))
const expected = { keys, data: keys.map(key => Buffer.from(dataOf(key)).toString('hex')) }

function fill(some: readonly bigint[]): void {
  writer.transact(transaction => {
    for (const key of some) transaction.insert(record(key, dataOf(key)))
  })
}

describe('ordinary rows are read from their pages and not through SQLite', () => {
  test('from the log alone', () => {
    fill(keys)
    expect(packFromPages()).toEqual(expected)
  })

  test('from the main file alone', () => {
    fill(keys)
    expect(writer.checkpoint('truncate')).toBe(0)
    expect(packFromPages()).toEqual(expected)
  })

  test('from the main file of a database that was just opened and has an empty log', async () => {
    fill(keys)
    connection.close()
    writer.close()
    writer = await openWriter({ kind: 'SQLite', directory: join(root, 'db'), tuning: { syncMode: 'Off' } })
    connection = new Database(join(root, 'db/main.db'), { readonly: true })
    expect(packFromPages()).toEqual(expected)
  })

  test('from both, with several thousand frames in the log, some of them copied back', () => {
    fill(keys.filter((_, index) => index % 2 === 0))
    writer.checkpoint('truncate')
    connection.exec('BEGIN')
    connection.prepare('SELECT count(*) FROM log').get()
    for (const [index, key] of keys.entries()) if (index % 2 === 1) fill([key])
    // the reader keeps the checkpoint from going further than to its own frame
    writer.checkpoint('passive')
    connection.exec('ROLLBACK')
    fill([])
    expect(packFromPages()).toEqual(expected)
    writer.checkpoint('passive')
    expect(packFromPages()).toEqual(expected)
  })
})

test('a page that is none of a table is left to SQLite from there on', () => {
  fill(keys)
  const files = writer.share.files as DatabaseFiles
  const asked: { start: bigint }[] = []
  const view = { expiring: false, scan: (range: { start: bigint }) => asked.push(range) } as unknown as SqliteView
  connection.exec('BEGIN')
  connection.prepare('SELECT count(*) FROM log').get()
  // an index in the place of the table
  const elsewhere = new Proxy(connection, {
    get: (target, name) =>
      name === 'prepare'
        ? (sql: string) => target.prepare(sql.replace("type = 'table' AND name = 'log'", "name = '_kvidx_ttl_expires'"))
        : Reflect.get(target, name).bind(target),
  })
  const packer = new PagePacker(elsewhere, view, files, WalMoment.read(files) as WalMoment)
  const range = { start: 7n, end: 1n << 40n }
  expect(packer.pack(range, undefined, new Uint8Array(1000))).toMatchObject({ bytes: 0, records: 0 })
  expect(asked).toEqual([range])
  connection.exec('ROLLBACK')
})
