import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import type { RecordSource } from '../../../sidecar/format/source/record-source.ts'
import { inspectSqliteFile, openSqliteFile } from '../../../sidecar/format/source/sqlite-file.ts'
import { FIXTURES, golden, goldenDigest, sha256 } from '../../unit/format/golden.ts'

const NOW = 1_800_000_000_000n

let directory: string
let scratch: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'format-sqlite-'))
  scratch = mkdtempSync(join(tmpdir(), 'format-scratch-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
  rmSync(scratch, { recursive: true, force: true })
})

function copyOf(path: string): string {
  cpSync(fileURLToPath(new URL(path, FIXTURES)), directory, { recursive: true })
  return join(directory, 'golden.sqlite3')
}

function hashOf(path: string): string {
  return sha256(readFileSync(path))
}

async function readAll(source: RecordSource): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  for await (const batch of source.batches()) records.push(...batch)
  return records
}

describe.each([
  ['the cleanly closed database', 'sqlite3'],
  ['the hot copy with its WAL', 'sqlite3/hot'],
] as const)('%s that kvidxkit wrote', (_, folder) => {
  test('gives 45 records in unsigned key order with their 6 expiries, and reports the orphan of key 500', async () => {
    const source = await openSqliteFile(copyOf(folder), { scratch })
    expect(source.count).toBe(45)
    const records = await readAll(source)
    expect(records.length).toBe(golden.count)
    expect(goldenDigest(records)).toBe(golden.digest)
    expect(records.map(r => r.key)).toEqual(golden.records.map(r => BigInt(r.key)))
    expect(records.map(r => r.expiresAt)).toEqual(golden.records.map(r => BigInt(r.expireAtMs ?? 0)))
    expect(source.report()).toEqual({
      kind: 'sqlite',
      records: 45,
      expiring: 6,
      orphanExpiries: 1,
      orphanKeys: [500n],
    })
    await source.close()
    await source.close()
    expect(readdirSync(scratch)).toEqual([])
  })

  test('is inspected: 45 stored, 44 of them visible', async () => {
    expect(await inspectSqliteFile(copyOf(folder), NOW, { scratch })).toMatchObject({
      isKvidxkit: true,
      hasExpiries: true,
      managed: false,
      otherTables: [],
      count: 45,
      minKey: 0n,
      maxKey: 2n ** 64n - 1n,
      dataBytes: BigInt(golden.records.reduce((sum, r) => sum + r.length, 0)),
      expiring: 6,
      expired: 1,
      orphanExpiries: 1,
      orphanKeys: [500n],
      zeroExpiries: 0,
      oddValues: 0,
      pageSize: 8192,
    })
  })

  test('stays as it was, byte for byte, when it is read by way of a copy', async () => {
    const path = copyOf(folder)
    rmSync(join(directory, 'hot'), { recursive: true, force: true })
    const before = readdirSync(directory).map(name => [name, hashOf(join(directory, name))])
    chmodSync(path, 0o400)
    const source = await openSqliteFile(path, { scratch })
    await readAll(source)
    await source.close()
    expect(readdirSync(directory).map(name => [name, hashOf(join(directory, name))])).toEqual(before)
  })
})

describe('other SQLite files', () => {
  function make(name: string, ...statements: string[]): string {
    const path = join(directory, name)
    const connection = new Database(path)
    for (const statement of statements) connection.exec(statement)
    connection.close()
    return path
  }
  const LOG = 'CREATE TABLE log (id INTEGER PRIMARY KEY, created INTEGER, term INTEGER, cmd INTEGER, data BLOB)'
  const TTL = 'CREATE TABLE _kvidx_ttl (id INTEGER PRIMARY KEY, expires_at INTEGER NOT NULL)'

  test('a database of somebody else is described by inspection and refused as a source', async () => {
    const path = make('other.db', 'CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)')
    expect(await inspectSqliteFile(path, NOW)).toMatchObject({
      isKvidxkit: false,
      problem: 'it has no table log',
      otherTables: ['users'],
      count: 0,
    })
    await expect(openSqliteFile(path)).rejects.toMatchObject({ code: 'invalid_body' })
  })

  test.each([
    [
      'other columns',
      'CREATE TABLE log (id INTEGER PRIMARY KEY, line TEXT)',
      /columns id, line where kvidxkit's has id, created/,
    ],
    [
      'a key that is not the row id',
      'CREATE TABLE log (id INT PRIMARY KEY, created, term, cmd, data)',
      /not INTEGER PRIMARY KEY/,
    ],
  ])('a table log with %s is not kvidxkit', async (_, sql, problem) => {
    const inspection = await inspectSqliteFile(make('x.db', sql), NOW)
    expect(inspection.isKvidxkit).toBe(false)
    expect(inspection.problem).toMatch(problem)
  })

  test('a database without table of expiries is read, an empty one too', async () => {
    const path = make('plain.db', LOG)
    const empty = await openSqliteFile(path)
    expect(await readAll(empty)).toEqual([])
    await empty.close()
    make('plain.db', "INSERT INTO log VALUES (-1, 0, -2, 3, NULL), (7, 0, 1, 1, x'00ff')")
    const source = await openSqliteFile(path)
    expect(await readAll(source)).toEqual([
      { key: 7n, term: 1n, cmd: 1n, data: Buffer.from([0, 255]), expiresAt: 0n },
      { key: 2n ** 64n - 1n, term: 2n ** 64n - 2n, cmd: 3n, data: new Uint8Array(0), expiresAt: 0n },
    ])
    await source.close()
  })

  test('values that kvidxkit never writes are counted and read as its column accessors read them', async () => {
    const path = make(
      'odd.db',
      LOG,
      TTL,
      "INSERT INTO log VALUES (1, 0, NULL, 'x', 'text'), (2, 0, 2.5, 3, 4), (3, 0, 1, 1, x'')",
      'INSERT INTO _kvidx_ttl VALUES (1, 0), (2, -1)',
    )
    expect(await inspectSqliteFile(path, NOW)).toMatchObject({ oddValues: 2, zeroExpiries: 1, expiring: 2, expired: 1 })
    const source = await openSqliteFile(path)
    const records = await readAll(source)
    await source.close()
    expect(records.map(r => ({ ...r, data: Buffer.from(r.data).toString() }))).toEqual([
      { key: 1n, term: 0n, cmd: 0n, data: 'text', expiresAt: 1n },
      { key: 2n, term: 2n, cmd: 3n, data: '4', expiresAt: 2n ** 64n - 1n },
      { key: 3n, term: 1n, cmd: 1n, data: '', expiresAt: 0n },
    ])
  })

  test('many records come in bounded batches and the reading can be cancelled', async () => {
    const path = make(
      'many.db',
      LOG,
      'INSERT INTO log SELECT value, 0, 1, 2, zeroblob(100) FROM generate_series(1, 5000)'.replace(
        'generate_series(1, 5000)',
        '(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 5000) SELECT value FROM n)',
      ),
    )
    const source = await openSqliteFile(path, { scratch })
    const sizes: number[] = []
    for await (const batch of source.batches()) sizes.push(batch.length)
    expect(sizes).toEqual([1000, 1000, 1000, 1000, 1000])
    await source.close()
    const controller = new AbortController()
    const again = await openSqliteFile(path, { scratch })
    const read = async () => {
      for await (const _ of again.batches(controller.signal)) controller.abort()
    }
    await expect(read()).rejects.toMatchObject({ code: 'cancelled' })
    expect(again.report().records).toBe(1000)
    await again.close()
  })

  test.each([
    ['an empty file', ''],
    ['a text', 'hello, this is not a database at all'],
    ['half a header', 'SQLite form'],
  ])('%s is no SQLite database', async (_, content) => {
    const path = join(directory, 'x')
    writeFileSync(path, content)
    await expect(openSqliteFile(path, { scratch })).rejects.toMatchObject({ code: 'invalid_body' })
    expect(readdirSync(scratch)).toEqual([])
  })

  test('a damaged one is `engine_corrupt`, a missing one `engine_io`', async () => {
    const path = copyOf('sqlite3')
    const bytes = readFileSync(path)
    bytes.fill(0xa5, 8192, Math.min(bytes.length, 8192 * 40))
    writeFileSync(path, bytes)
    const read = async () => {
      const source = await openSqliteFile(path, { scratch })
      try {
        await readAll(source)
      } finally {
        await source.close()
      }
    }
    await expect(read()).rejects.toMatchObject({ code: 'engine_corrupt' })
    await expect(openSqliteFile(join(directory, 'none'), { scratch })).rejects.toMatchObject({ code: 'engine_io' })
    expect(readdirSync(scratch)).toEqual([])
    expect(statSync(path).size).toBe(bytes.length)
  })
})
