import { createHash } from 'node:crypto'
import { closeSync, copyFileSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EngineTuning } from '../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'
import { engineContract } from './contract.ts'
import { everything, expiries, kept, keysOf, noise, record } from './records.ts'

describe('SQLite', () => {
  engineContract({
    kind: 'SQLite',
    tuning: { syncMode: 'Full' },
    foreign: { mapSize: 1 << 30, compression: 'Zstd' },
    compactsInPlace: true,
    damage(directory) {
      // Flips bits of the cell pointer array of a page in the middle: the B-tree itself, not a value.
      const file = openSync(join(directory, 'main.db'), 'r+')
      writeSync(file, Uint8Array.of(0xff, 0xff, 0xff, 0xff), 0, 4, 20 * 8192 + 8)
      closeSync(file)
    },
  })
})

const GOLDEN = new URL('../../fixtures/kvidxkit/', import.meta.url)

interface Golden {
  readonly digest: string
  readonly records: readonly { readonly key: string; readonly expireAtMs: string | null }[]
}

const golden: Golden = JSON.parse(readFileSync(new URL('golden.json', GOLDEN), 'utf8'))

describe('SQLite files', () => {
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kvidx-sqlite-'))
  })

  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  const open = (tuning: Partial<EngineTuning> = {}) =>
    openWriter({ kind: 'SQLite', directory, tuning: { syncMode: 'Full', ...tuning } })

  const pragma = (name: string): unknown => {
    const connection = new Database(join(directory, 'main.db'), { readonly: true })
    try {
      return connection.pragma(name, { simple: true })
    } finally {
      connection.close()
    }
  }

  for (const [name, files] of [
    ['closed cleanly', { 'sqlite3/golden.sqlite3': 'main.db' }],
    [
      'copied while open, data in its WAL',
      {
        'sqlite3/hot/golden.sqlite3': 'main.db',
        'sqlite3/hot/golden.sqlite3-wal': 'main.db-wal',
      },
    ],
  ] as const)
    test(`a database of kvidxkit, ${name}, opens as it is with all records and expiries`, async () => {
      for (const [from, to] of Object.entries(files)) copyFileSync(new URL(from, GOLDEN), join(directory, to))
      const writer = await open()
      const records = everything(writer.view)
      const hash = createHash('sha256')
      for (const { key, term, cmd, data } of records)
        hash.update(`${key} ${term} ${cmd} ${data.length} ${createHash('sha256').update(data).digest('hex')}\n`)
      expect(hash.digest('hex')).toBe(golden.digest)
      expect(records.map(item => [String(item.key), item.expiresAt === 0n ? null : String(item.expiresAt)])).toEqual(
        golden.records.map(item => [item.key, item.expireAtMs]),
      )
      expect(expiries(writer.view).length).toBe(7)
      expect(writer.view.get(500n)).toBeUndefined()
      // The orphan goes by a removal of its key and expiry, and nothing else does.
      writer.transact(transaction => transaction.remove({ ...record(500n), expiresAt: 4102444800500n }))
      expect(expiries(writer.view).length).toBe(6)
      expect(keysOf(writer.view).length).toBe(45)
      writer.close()
      expect(pragma('auto_vacuum')).toBe(0)
      expect(pragma('integrity_check')).toBe('ok')
    })

  test("a new database has kvidxkit's tables letter by letter and its page size", async () => {
    copyFileSync(new URL('sqlite3/golden.sqlite3', GOLDEN), join(directory, 'theirs.db'))
    ;(await open()).close()
    const schema = (file: string): unknown[] => {
      const connection = new Database(join(directory, file), { readonly: true })
      const rows = connection
        .prepare(
          "SELECT name, sql FROM sqlite_schema WHERE name NOT IN ('_kvidx_meta', '_kvidx_changes') ORDER BY name",
        )
        .all()
      connection.close()
      return rows
    }
    expect(schema('main.db')).toEqual(schema('theirs.db'))
    expect([pragma('page_size'), pragma('auto_vacuum'), pragma('journal_mode')]).toEqual([8192, 2, 'wal'])
    expect(statSync(join(directory, 'main.db')).mode & 0o777).toBe(0o600)
  })

  test('what is written is what kvidxkit would have written: signed integers, created 0', async () => {
    const writer = await open()
    writer.transact(transaction => {
      transaction.insert({ ...record(1n << 63n, 'high', (1n << 64n) - 1n), term: 1n << 63n, cmd: 5n })
    })
    writer.close()
    const connection = new Database(join(directory, 'main.db'))
    expect(connection.prepare('SELECT * FROM log').safeIntegers().all()).toEqual([
      { id: -(1n << 63n), created: 0n, term: -(1n << 63n), cmd: 5n, data: Buffer.from('high') },
    ])
    expect(connection.prepare('SELECT * FROM _kvidx_ttl').safeIntegers().all()).toEqual([
      { id: -(1n << 63n), expires_at: -1n },
    ])
    connection.close()
  })

  test('settings take effect', async () => {
    const writer = await open({
      pageSize: 4096,
      journalMode: 'Truncate',
      syncMode: 'Normal',
      cacheSize: 64 << 20,
      mmapSize: 1 << 28,
      busyTimeout: 1234,
    })
    expect(writer.figures().pageSize).toBe(4096)
    writer.transact(transaction => transaction.insert(record(1n)))
    writer.close()
    expect(pragma('journal_mode')).toBe('delete')
    const again = await open({ pageSize: 16384 })
    expect([again.figures().pageSize, keysOf(again.view)]).toEqual([4096, [1n]])
    again.close()
  })

  for (const journalMode of ['Delete', 'Truncate', 'Persist'] as const)
    test(`with the rollback journal (${journalMode}) reads and writes take turns`, async () => {
      const writer = await open({ journalMode, busyTimeout: 200 })
      const reader = await openReader(writer.share)
      for (let key = 0n; key < 20n; key++) {
        writer.transact(transaction => transaction.insert(record(key)))
        for (let read = 0; read < 3; read++) expect(reader.getWithMeta(key, 'x').record).toBeDefined()
      }
      const snapshot = reader.snapshot()
      expect(() => writer.transact(transaction => transaction.insert(record(20n)))).toThrow(
        expect.objectContaining({ code: 'locked' }),
      )
      snapshot.release()
      writer.transact(transaction => transaction.insert(record(20n)))
      expect(keysOf(writer.view).length).toBe(21)
      reader.close()
      writer.close()
    })

  test('bad values of settings are refused by name', async () => {
    for (const [field, value] of Object.entries({
      pageSize: 1000,
      cacheSize: 1,
      busyTimeout: -1,
      mmapSize: 1.5,
      journalMode: 'Memory',
    }))
      await expect(open({ [field]: value })).rejects.toMatchObject({
        code: 'setting_unsupported',
        details: { field: `tuning.${field}` },
      })
  })

  test('reads that ended do not hold the WAL: it starts again from its beginning', async () => {
    const writer = await open({ syncMode: 'Off' })
    const reader = await openReader(writer.share)
    writer.transact(transaction => transaction.insert(record(0n)))
    const write = (): void => {
      for (let round = 0; round < 20; round++)
        writer.transact(transaction => {
          transaction.replace(kept(transaction.get(0n)!), record(0n, noise(100_000)))
        })
      reader.getWithMeta(0n, 'x')
      reader.getWithMeta(1n, 'x')
      reader.getMeta('x')
      const snapshot = reader.snapshot()
      snapshot.scan({ start: 0n, end: 5n }, false, () => false)
      snapshot.scanLog(0n, () => false)
      snapshot.release()
      expect(writer.checkpoint('passive')).toBe(0)
    }
    write()
    const size = statSync(join(directory, 'main.db-wal')).size
    for (let round = 0; round < 5; round++) write()
    expect(statSync(join(directory, 'main.db-wal')).size).toBeLessThan(size * 1.5)
    writer.checkpoint('truncate')
    expect(statSync(join(directory, 'main.db-wal')).size).toBe(0)
    reader.close()
    writer.close()
  })

  test('point reads of one turn share a transaction, see every commit, and let the WAL go when the turn ends', async () => {
    const writer = await open()
    const reader = await openReader(writer.share)
    for (let key = 0n; key < 5n; key++) {
      writer.transact(transaction => {
        transaction.insert(record(key, 'x', key === 3n ? 99n : 0n))
        transaction.putMeta('state', Uint8Array.of(Number(key)))
      })
      for (let read = 0; read < 3; read++) {
        const { record: found, meta } = reader.getWithMeta(key, 'state')
        expect([found?.expiresAt, meta?.[0]]).toEqual([key === 3n ? 99n : 0n, Number(key)])
        expect(reader.getWithMeta(key + 1n, 'state').record).toBeUndefined()
        expect(reader.getWithMeta(key, 'other').meta).toBeUndefined()
      }
    }
    reader.getWithMeta(0n, 'state')
    reader.getWithMeta(0n, 'state')
    await new Promise(resolve => setImmediate(resolve))
    expect(writer.checkpoint('truncate')).toBe(0)
    expect(statSync(join(directory, 'main.db-wal')).size).toBe(0)
    reader.close()
    writer.close()
  })

  test('a reader copies the WAL back beside the writer, up to what an older snapshot still needs', async () => {
    const writer = await open()
    const reader = await openReader(writer.share)
    writer.transact(transaction => transaction.insert(record(0n)))
    const snapshot = reader.snapshot()
    writer.transact(transaction => transaction.insert(record(1n, noise(100_000))))
    expect(reader.checkpoint?.()).toBeGreaterThan(100_000)
    snapshot.release()
    expect(reader.checkpoint?.()).toBe(0)
    expect(writer.checkpoint('passive')).toBe(0)
    expect(keysOf(writer.view)).toEqual([0n, 1n])
    reader.close()
    writer.close()
  })

  test('a truncating checkpoint does not wait for a reader', async () => {
    const writer = await open()
    const reader = await openReader(writer.share)
    writer.transact(transaction => transaction.insert(record(0n)))
    const snapshot = reader.snapshot()
    writer.transact(transaction => transaction.insert(record(1n)))
    const start = performance.now()
    expect(writer.checkpoint('truncate')).toBeGreaterThan(0)
    expect(performance.now() - start).toBeLessThan(1000)
    snapshot.release()
    expect(writer.checkpoint('truncate')).toBe(0)
    reader.close()
    writer.close()
  })

  test('incremental vacuum gives pages back in slices within its budget', async () => {
    const writer = await open({ syncMode: 'Off' })
    writer.transact(transaction => {
      for (let key = 0n; key < 4000n; key++) transaction.insert(record(key, noise(4000, Number(key) + 1)))
    })
    writer.transact(transaction => transaction.removeRange({ start: 0n, end: 3000n }))
    writer.checkpoint('truncate')
    const before = writer.figures()
    expect(before.fragmentation).toBeGreaterThan(0.5)
    let slices = 1
    while (!writer.reclaim(2)) slices++
    writer.checkpoint('truncate')
    const after = writer.figures()
    expect(slices).toBeGreaterThan(1)
    expect([after.freeBytes, after.fileBytes < before.fileBytes / 2]).toEqual([0, true])
    expect(keysOf(writer.view).length).toBe(999)
    writer.close()
  })

  test('a file that is no database is refused as corrupt', async () => {
    const file = openSync(join(directory, 'main.db'), 'w')
    writeSync(file, noise(10_000))
    closeSync(file)
    await expect(open()).rejects.toMatchObject({ code: 'engine_corrupt' })
  })

  test('a table log of another shape is refused, naming its columns', async () => {
    const connection = new Database(join(directory, 'main.db'))
    connection.exec('CREATE TABLE log (line TEXT)')
    connection.close()
    await expect(open()).rejects.toMatchObject({ code: 'engine_corrupt', message: expect.stringContaining('line') })
  })
})
