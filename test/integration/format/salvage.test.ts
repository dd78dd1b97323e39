import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { digestOfRecord, formatDigest, reduceDigest } from '../../../sidecar/database/digest.ts'
import { EMPTY_STATE, encodeState, META } from '../../../sidecar/database/state.ts'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { openSqliteWriter } from '../../../sidecar/engine/sqlite/writer.ts'
import { type SalvageOptions, salvageSqlite } from '../../../sidecar/format/salvage.ts'
import { FIXTURES, golden, goldenDigest } from '../../unit/format/golden.ts'

const SIGN = 1n << 63n

let directory: string
/** A database as the engine makes it: small pages for a deep tree, both signs of row ids, large values, removed records, expiries, counters. */
let pristine: Buffer
let pageSize: number
let records: Map<bigint, StoredRecord>
let removedKeys: Set<bigint>
/** What stands on each page, by SQLite's own account. */
let pages: Map<number, { name: string; type: string; cells: number }>
/** The pages of each record: its leaf and its overflow pages. */
let pagesOf: Map<bigint, Set<number>>

/** A small generator with a seed: the damage of a run can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0
  return below => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'format-salvage-'))
  const next = random(7)
  const all: StoredRecord[] = Array.from({ length: 560 }, (_, i) => {
    const key = BigInt(i) * 7n + (i % 2 === 0 ? 0n : SIGN - 3000n)
    const length = i % 37 === 0 ? 3000 + next(3000) : next(200)
    const data = Buffer.from(Array.from({ length }, () => next(256)))
    return { key, term: BigInt(i), cmd: BigInt(next(1 << 30)), data, expiresAt: i % 5 === 0 ? BigInt(4e12 + i) : 0n }
  })
  const writer = openSqliteWriter({ kind: 'SQLite', directory, tuning: { syncMode: 'Off', pageSize: 1024 } })
  writer.transact(transaction => {
    for (const record of all) transaction.insert(record)
  })
  const kept = all.filter((_, i) => i < 190 || i >= 300)
  removedKeys = new Set(all.slice(190, 300).map(r => r.key))
  writer.transact(transaction => {
    for (const record of all.slice(190, 300)) transaction.remove(record)
    transaction.putMeta(
      META.state,
      encodeState({
        ...EMPTY_STATE,
        count: BigInt(kept.length),
        dataBytes: BigInt(kept.reduce((sum, r) => sum + r.data.length, 0)),
        digest: reduceDigest(kept.reduce((sum, r) => sum + digestOfRecord(r), 0n)),
      }),
    )
  })
  writer.checkpoint('truncate')
  writer.close()
  const path = join(directory, 'main.db')
  pristine = readFileSync(path)
  records = new Map(kept.map(record => [record.key, record]))
  const connection = new Database(path)
  pageSize = Number(connection.pragma('page_size', { simple: true }))
  const rows = connection.prepare('SELECT pageno, name, pagetype, ncell FROM dbstat').all() as {
    pageno: number
    name: string
    pagetype: string
    ncell: number
  }[]
  pages = new Map(rows.map(row => [row.pageno, { name: row.name, type: row.pagetype, cells: row.ncell }]))
  pagesOf = mapRecords(connection)
  connection.close()
})

afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Joins dbstat's paths with the keys in order: the leaves of a table, in order of their path, hold the rows in order. */
function mapRecords(connection: Database.Database): Map<bigint, Set<number>> {
  const rows = connection
    .prepare("SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = 'log' ORDER BY path")
    .all() as { path: string; pageno: number; pagetype: string; ncell: number }[]
  const ids = connection.prepare<[], bigint>('SELECT id FROM log ORDER BY id').pluck().safeIntegers().all()
  const result = new Map<bigint, Set<number>>()
  const leaves = rows.filter(row => row.pagetype === 'leaf')
  // a parent's path is shorter than a child's, and its last child is named last: the order of paths is that of keys
  let at = 0
  for (const leaf of leaves) {
    const overflows = rows.filter(row => row.pagetype === 'overflow' && row.path.startsWith(`${leaf.path}`))
    for (let cell = 0; cell < leaf.ncell; cell++) {
      const mine = overflows.filter(row => row.path.startsWith(`${leaf.path}${cell.toString(16).padStart(3, '0')}+`))
      result.set(BigInt.asUintN(64, ids[at++] as bigint), new Set([leaf.pageno, ...mine.map(row => row.pageno)]))
    }
  }
  expect(at).toBe(ids.length)
  return result
}

function salvage(bytes: Buffer, options: SalvageOptions = {}) {
  const path = join(directory, 'damaged.db')
  writeFileSync(path, bytes)
  return salvageFile(path, options)
}

function salvageFile(path: string, options: SalvageOptions = {}) {
  const found = new Map<bigint, StoredRecord>()
  const doubts = new Map<bigint, string>()
  const report = salvageSqlite(path, options, (record, doubt) => {
    if (found.has(record.key)) return false
    found.set(record.key, { ...record, data: Buffer.from(record.data) })
    if (doubt !== undefined) doubts.set(record.key, doubt)
    return true
  })
  expect(report.recovered).toBe(found.size)
  return { report, found, doubts }
}

const damage = (edit: (bytes: Buffer) => void) => {
  const bytes = Buffer.from(pristine)
  edit(bytes)
  return bytes
}
const page = (number: number) => [(number - 1) * pageSize, number * pageSize] as const
const same = (a: StoredRecord | undefined, b: StoredRecord | undefined) =>
  a !== undefined &&
  b !== undefined &&
  a.term === b.term &&
  a.cmd === b.cmd &&
  a.expiresAt === b.expiresAt &&
  Buffer.compare(a.data, b.data) === 0

test('the database for these tests has what can break: two levels of interior pages, overflow chains, free pages', () => {
  const types = [...pages.values()].filter(p => p.name === 'log').map(p => p.type)
  expect(types.filter(type => type === 'internal').length).toBeGreaterThanOrEqual(3)
  expect(types.filter(type => type === 'overflow').length).toBeGreaterThan(30)
  expect(pristine.readUInt32BE(36)).toBeGreaterThan(10)
  expect([...pagesOf.values()].reduce((most, set) => Math.max(most, set.size), 0)).toBeGreaterThan(5)
})

test('an undamaged database is recovered completely', () => {
  const { report, found, doubts } = salvage(pristine)
  expect(report).toMatchObject({
    verdict: 'complete',
    missing: 0n,
    schemaRead: true,
    freeListRead: true,
    pageSize: 1024,
    hotJournal: false,
  })
  expect(report.lostRanges.count + report.lostRecords.count + report.damagedPages.count + doubts.size).toBe(0)
  expect(found.size).toBe(records.size)
  for (const [key, record] of records) expect(same(found.get(key), record)).toBe(true)
})

describe.each([
  ['zeros', (bytes: Buffer, from: number, to: number) => bytes.fill(0, from, to)],
  [
    'noise',
    (bytes: Buffer, from: number, to: number) => {
      const next = random(from)
      for (let i = from; i < to; i++) bytes[i] = next(256)
    },
  ],
] as const)('one page overwritten with %s, for every page of the file', (_, overwrite) => {
  test('costs what stood on it and nothing else, and the report says what', () => {
    const total = pristine.length / pageSize
    const verdicts = { complete: 0, incomplete: 0, altered: 0, unverified: 0 }
    for (let number = 1; number <= total; number++) {
      const { report, found } = salvage(damage(bytes => overwrite(bytes, ...page(number))))
      verdicts[report.verdict]++
      const what = pages.get(number)
      const context = `page ${number}: ${what?.name} ${what?.type}, ${report.verdict}`
      for (const [key, record] of records) {
        if (pagesOf.get(key)?.has(number)) continue
        // an expiry may be lost with its own pages; the report then says where
        const expiryLost = report.expiries.lostRanges.first.some(range => key >= range.start && key <= range.end)
        const got = found.get(key)
        const expected = expiryLost && got !== undefined ? { ...record, expiresAt: got.expiresAt } : record
        if (!same(got, expected)) expect.unreachable(`${context}: ${key} is on other pages, but was not recovered`)
      }
      const lost = [...records.keys()].filter(key => !found.has(key))
      for (const key of lost) {
        const named =
          report.lostRecords.first.some(record => record.key === key) ||
          report.lostRanges.first.some(range => key >= range.start && key <= range.end)
        if (!named) expect.unreachable(`${context}: ${key} is lost without a word`)
      }
      if (report.expected !== undefined)
        expect(`${context}: ${report.missing}`).toBe(
          `${context}: ${lost.length - (found.size - (records.size - lost.length))}`,
        )
      if (what?.name === 'log' && what.type === 'leaf')
        expect(`${context}: ${lost.length}`).toBe(`${context}: ${what.cells}`)
      if (what?.name === 'log' && what.type === 'internal') expect(`${context}: ${lost.length}`).toBe(`${context}: 0`)
    }
    expect(verdicts.complete).toBeGreaterThan(10)
    expect(verdicts.incomplete).toBeGreaterThan(100)
  })
})

test('200 seeded scatterings of damaged bytes: records of undamaged pages are all recovered, and `complete` is never said of anything else', () => {
  let incomplete = 0
  for (let seed = 1; seed <= 200; seed++) {
    const next = random(seed * 7919)
    const touched = new Set<number>()
    const bytes = damage(all => {
      for (let i = 0, count = 1 + next(30); i < count; i++) {
        // past the first page and the pointer map: what they cost has its own test
        const at = pageSize * 2 + next(all.length - pageSize * 2)
        const flip = 1 << next(8)
        all[at] = (all[at] as number) ^ flip
        touched.add(Math.floor(at / pageSize) + 1)
      }
    })
    const { report, found } = salvage(bytes)
    const identical = found.size === records.size && [...records].every(([key, record]) => same(found.get(key), record))
    expect(`${seed}: ${report.verdict === 'complete'}`).toBe(
      `${seed}: ${report.expected !== undefined && identical && report.digest === report.expected.digest}`,
    )
    if (report.verdict !== 'complete') incomplete++
    // interior pages, expiries and the list of free pages have effects beyond their own page
    const plain = [...touched].every(
      number => ['leaf', 'overflow'].includes(pages.get(number)?.type ?? '') && pages.get(number)?.name === 'log',
    )
    if (!plain) continue
    for (const [key, record] of records) {
      const mine = pagesOf.get(key) as Set<number>
      if ([...mine].some(number => touched.has(number))) continue
      if (!same(found.get(key), record))
        expect.unreachable(`seed ${seed}: ${key} is on sound pages, but was not recovered`)
    }
  }
  expect(incomplete).toBeGreaterThan(130)
})

test('a file cut off at any page gives what is left and says how much is missing', () => {
  const total = pristine.length / pageSize
  for (let kept = 1; kept < total; kept += 9) {
    const { report, found } = salvage(pristine.subarray(0, kept * pageSize + (kept % 2) * 100))
    for (const [key, record] of records) {
      if ([...(pagesOf.get(key) ?? [])].every(number => number <= kept) && report.schemaRead && report.freeListRead) {
        if (!same({ ...(found.get(key) as StoredRecord), expiresAt: record.expiresAt }, record))
          expect.unreachable(`${kept}: ${key}`)
      }
    }
    if (report.expected !== undefined) expect(report.missing).toBe(BigInt(records.size - found.size))
  }
})

test('records that were removed do not come back, whatever page is damaged', () => {
  for (const [number, { name, type }] of pages) {
    if (name !== 'log' || type === 'overflow') continue
    const { found } = salvage(damage(bytes => bytes.fill(0, ...page(number))))
    for (const key of found.keys()) if (removedKeys.has(key)) expect.unreachable(`page ${number}: ${key} came back`)
  }
})

test('without the first page every record is found by searching all pages, and handed over as doubtful', () => {
  const { report, found, doubts } = salvage(damage(bytes => bytes.fill(0, 0, pageSize)))
  expect(report).toMatchObject({ schemaRead: false, freeListRead: false, pageSize: 1024 })
  for (const [key, record] of records) expect(same(found.get(key), record)).toBe(true)
  expect(doubts.size).toBe(found.size)
  expect(report.expected?.count).toBe(BigInt(records.size))
})

test('one damaged row id does not cost its neighbours, and its record comes back as doubtful', () => {
  const leaf = [...pages].find(([, p]) => p.name === 'log' && p.type === 'leaf' && p.cells > 4)?.[0] as number
  const [start] = page(leaf)
  const keys = [...pagesOf].filter(([, set]) => set.has(leaf)).map(([key]) => key)
  const cell = start + pristine.readUInt16BE(start + 8 + 2 * 2)
  // payload length of one or two bytes, then the row id: its first byte is made larger
  const idAt = cell + ((pristine[cell] as number) < 0x80 ? 1 : 2)
  const { report, found, doubts } = salvage(damage(bytes => bytes.writeUInt8((bytes[idAt] as number) ^ 0x40, idAt)))
  expect(keys.filter(key => !found.has(key)).length).toBe(1)
  expect(doubts.size).toBe(1)
  expect(report.verdict).toBe('altered')
  expect(report.doubtful.first[0]).toMatchObject({ taken: true, reason: 'its key is out of order on its page' })
  expect(report.lostRanges.count).toBe(1)
})

test('a changed value is noticed by the digest, though nothing is missing', () => {
  const [key, set] = [...pagesOf].find(([, s]) => s.size > 3) as [bigint, Set<number>]
  const overflow = [...set][1] as number
  const { report, found } = salvage(
    damage(bytes => bytes.fill(0x77, (overflow - 1) * pageSize + 100, (overflow - 1) * pageSize + 120)),
  )
  expect(report.verdict).toBe('altered')
  expect(report.missing).toBe(0n)
  expect(same(found.get(key), records.get(key))).toBe(false)
})

test('expiries come from the index where their table is damaged', () => {
  const leaves = [...pages].filter(([, p]) => p.name === '_kvidx_ttl' && p.type === 'leaf').map(([number]) => number)
  expect(leaves.length).toBeGreaterThan(1)
  const { report } = salvage(
    damage(bytes => {
      for (const leaf of leaves) bytes.fill(0, ...page(leaf))
    }),
  )
  expect(report.verdict).toBe('complete')
  expect(report.expiries.lostRanges.count).toBe(0)
})

test('where table and index of the expiries are damaged, the report names the keys whose expiry is lost', () => {
  const broken = [...pages]
    .filter(([, p]) => p.name.startsWith('_kvidx_ttl') && p.type === 'leaf')
    .map(([number]) => number)
  const { report, found } = salvage(
    damage(bytes => {
      for (const leaf of broken) bytes.fill(0, ...page(leaf))
    }),
  )
  expect(report).toMatchObject({ verdict: 'altered', missing: 0n })
  for (const [key, record] of records) {
    if (found.get(key)?.expiresAt === record.expiresAt) continue
    expect(report.expiries.lostRanges.first.some(range => key >= range.start && key <= range.end)).toBe(true)
  }
})

describe('databases of kvidxkit', () => {
  test.each(['sqlite3', 'sqlite3/hot'])('%s gives its 45 records and 6 expiries', folder => {
    const copy = join(directory, folder.replace('/', '-'))
    cpSync(fileURLToPath(new URL(folder, FIXTURES)), copy, { recursive: true })
    const { report, found } = salvageFile(join(copy, 'golden.sqlite3'))
    expect(goldenDigest([...found.values()])).toBe(golden.digest)
    for (const { key, expireAtMs } of golden.records) {
      expect(found.get(BigInt(key))?.expiresAt).toBe(BigInt(expireAtMs ?? 0))
    }
    expect(report.verdict).toBe('unverified')
    expect(report.expiries.read).toBe(7)
    expect(formatDigest(report.digest)).toMatch(/^[0-9a-f]{32}$/)
  })

  test('a damaged frame ends its WAL as it does for SQLite, and the frames behind it are counted as lost', () => {
    const copy = mkdtempSync(join(directory, 'wal-'))
    cpSync(fileURLToPath(new URL('sqlite3/hot', FIXTURES)), copy, { recursive: true })
    const path = join(copy, 'golden.sqlite3')
    const wal = readFileSync(`${path}-wal`)
    const frames = Math.floor((wal.length - 32) / (24 + 8192))
    wal[32 + (frames - 5) * (24 + 8192) + 500] = (wal[32 + (frames - 5) * (24 + 8192) + 500] as number) ^ 1
    writeFileSync(`${path}-wal`, wal)
    const { report, found } = salvageFile(path)
    expect(report.wal?.problem).toMatch(/checksum of frame/)
    expect(report.wal?.lostFrames).toBeGreaterThanOrEqual(1)
    const connection = new Database(path)
    expect(found.size).toBe(connection.prepare('SELECT count(*) FROM log').pluck().get())
    connection.close()
  })
})

test('what was salvaged goes into a new database by the engine itself, doubtful records only where their key is free', () => {
  const path = join(directory, 'source.db')
  const leaf = [...pages].find(([, p]) => p.name === 'log' && p.type === 'leaf')?.[0] as number
  writeFileSync(
    path,
    damage(bytes => bytes.fill(0, ...page(leaf))),
  )
  const target = mkdtempSync(join(directory, 'target-'))
  const writer = openSqliteWriter({ kind: 'SQLite', directory: target, tuning: { syncMode: 'Off' } })
  const report = writer.transact(transaction => salvageSqlite(path, {}, record => transaction.insert(record)))
  let count = 0
  let digest = 0n
  writer.view.scan({ start: 0n, end: 2n ** 64n - 1n }, false, record => {
    count++
    digest += digestOfRecord(record)
    if (!same(record, records.get(record.key))) expect.unreachable(`${record.key}`)
  })
  writer.close()
  expect(count).toBe(report.recovered)
  expect(reduceDigest(digest)).toBe(report.digest)
  expect(report).toMatchObject({ verdict: 'incomplete', missing: BigInt(pages.get(leaf)?.cells ?? 0) })
})

test('what is no database at all gives an empty report, and a missing file an error', () => {
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(100_000), Buffer.from('hello'), Buffer.alloc(50_000, 0x0d)]) {
    const { report, found } = salvage(bytes)
    expect(found.size).toBe(0)
    expect(report.verdict).toBe('unverified')
  }
  expect(() => salvageFile(join(directory, 'none.db'))).toThrow(expect.objectContaining({ code: 'engine_io' }))
})

test('it can be cancelled', () => {
  expect(() => salvage(pristine, { progress: () => true })).toThrow(expect.objectContaining({ code: 'cancelled' }))
})

test('the file is not changed', () => {
  const path = join(directory, 'kept.db')
  writeFileSync(path, pristine)
  truncateSync(path, pristine.length - 5000)
  const before = readFileSync(path)
  salvageFile(path)
  expect(readFileSync(path).equals(before)).toBe(true)
})
