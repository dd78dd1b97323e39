import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import pino from 'pino'
import { afterAll, describe, expect, test } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { changesOf, FrameSplitter, readFrameHeader } from '../../../sidecar/database/frame.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { Operation } from '../../../sidecar/database/operation.ts'
import { type EngineKind, EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { systemClock } from '../../../src/common/clock.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']
const root = mkdtempSync(join(tmpdir(), 'kvidx-local-'))
const never = new AbortController().signal
const opened = new Set<LocalDatabase>()
afterAll(async () => {
  for (const database of opened) await database.close()
  rmSync(root, { recursive: true })
})

let volumes = 0
async function open(
  engine: EngineKind,
  directory = join(root, `${volumes++}`),
  limits = databaseConfig({ name: 'orders', engine, dataDirectory: directory }).limits,
): Promise<LocalDatabase> {
  const { mkdirSync } = await import('node:fs')
  mkdirSync(directory, { recursive: true })
  const database = new LocalDatabase(
    databaseConfig({ name: 'orders', engine, dataDirectory: directory, limits }),
    systemClock,
    pino({ level: 'silent' }),
  )
  await database.open(never)
  opened.add(database)
  return database
}

const SMALL = { maxDataBytes: 200_000, atomicBytes: 300_000, atomicRecords: 1000 }
const put = (key: bigint, text: string): Operation => ({ op: 'put', key, term: 1n, cmd: 2n, data: Buffer.from(text) })
const golden = readFileSync(new URL('../../fixtures/kvidxkit/lmdb/export.bin', import.meta.url))

async function* pieces(file: Buffer, size = 30_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < file.length; at += size) yield file.subarray(at, at + size)
}

async function exported(database: LocalDatabase): Promise<Buffer> {
  const stream = await database.scan(
    { range: EVERY_KEY, descending: false, values: true, format: 'binary', stored: true },
    never,
  )
  const chunks: Uint8Array[] = []
  for await (const chunk of stream.chunks) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe.each(ENGINES)('a database on one volume, %s', engine => {
  test('gives kvidxkit its own export back, byte by byte', async () => {
    const database = await open(engine)
    const result = await database.import(
      pieces(golden),
      { format: 'binary', onDuplicate: 'fail', clear: false, atomic: true },
      never,
    )
    expect(result).toMatchObject({ read: 45, imported: 45 })
    expect((await exported(database)).equals(golden)).toBe(true)
  })

  test.each([
    ['json', ['lmdb/export.json']],
    ['csv', ['lmdb/export.csv']],
    // SQLite's own export loses keys from 2^63 on: they are in the other file
    ['binary', ['sqlite3/export.bin', 'sqlite3/export.from2p63.bin']],
  ] as const)('imports %s that kvidxkit wrote (%s): 45 records, byte by byte its BINARY', async (format, files) => {
    const database = await open(engine)
    for (const file of files) {
      const bytes = readFileSync(new URL(`../../fixtures/kvidxkit/${file}`, import.meta.url))
      await database.import(pieces(bytes), { format, onDuplicate: 'skip', clear: false, atomic: true }, never)
    }
    expect(database.state.count).toBe(45n)
    expect((await exported(database)).equals(golden)).toBe(true)
  })

  test('replaces everything at once with clear, keeps the old database in quarantine and begins an epoch', async () => {
    const directory = join(root, `clear-${engine}`)
    const database = await open(engine, directory)
    await database.write({ operations: [put(1n, 'old'), put(2n, 'old')] })
    const before = database.state
    await database.import(pieces(golden), { format: 'binary', onDuplicate: 'fail', clear: true, atomic: true }, never)
    expect(database.state.count).toBe(45n)
    // the import is a change that no log holds
    expect(database.state.position).toEqual({ epoch: before.position.epoch + 1n, seq: before.position.seq + 1n })
    expect(database.epochs.at(-1)).toMatchObject({
      reason: 'imported',
      parentEpoch: before.position.epoch,
      forkSeq: before.position.seq,
    })
    expect(readdirSync(join(directory, 'quarantine'))).toHaveLength(1)
    expect(readdirSync(join(directory, 'staging'))).toEqual([])
  })

  test('keeps what it had when an import with clear breaks off', async () => {
    const database = await open(engine)
    await database.write({ operations: [put(1n, 'kept')] })
    const before = database.state
    const cut = golden.subarray(0, golden.length - 10)
    await expect(
      database.import(pieces(cut), { format: 'binary', onDuplicate: 'fail', clear: true, atomic: true }, never),
    ).rejects.toMatchObject({ code: 'invalid_body' })
    expect(database.state).toEqual(before)
    expect(Buffer.from(database.get(1n).record?.data ?? []).toString()).toBe('kept')
  })

  test('imports into data all or nothing, and says which record stood in the way', async () => {
    const database = await open(engine)
    await database.write({ operations: [put(30n, 'mine')] })
    const options = { format: 'binary', clear: false, atomic: true } as const
    await expect(database.import(pieces(golden), { ...options, onDuplicate: 'fail' }, never)).rejects.toMatchObject({
      code: 'duplicate_key',
      details: { key: '30' },
    })
    expect(database.state.count).toBe(1n)
    expect(await database.import(pieces(golden), { ...options, onDuplicate: 'skip' }, never)).toMatchObject({
      imported: 44,
      skipped: 1,
    })
    expect(Buffer.from(database.get(30n).record?.data ?? []).toString()).toBe('mine')
    expect(await database.import(pieces(golden), { ...options, onDuplicate: 'replace' }, never)).toMatchObject({
      imported: 45,
      replaced: 45,
    })
    expect((await exported(database)).equals(golden)).toBe(true)
  })

  test('counts as imported what it wrote, also where a key stands twice in the file', async () => {
    const line = (key: number) => `{"key":"${key}","term":"0","cmd":"0","data":"eA=="}\n`
    const file = Buffer.from([1, 2, 3, 2, 1].map(line).join(''))
    const options = { format: 'ndjson', onDuplicate: 'replace', clear: false, atomic: true } as const
    const staged = await open(engine)
    expect(await staged.import(pieces(file), options, never)).toMatchObject({ read: 5, imported: 5, replaced: 2 })
    const filled = await open(engine)
    await filled.write({ operations: [put(9n, 'mine')] })
    expect(await filled.import(pieces(file), options, never)).toMatchObject({ read: 5, imported: 5, replaced: 2 })
    expect(staged.state.count).toBe(3n)
    expect(filled.state.count).toBe(4n)
  })

  test.each(['ndjson', 'binary'] as const)(
    'ends a stream of %s whose files are replaced under it with not_ready, not with an error of the engine',
    async format => {
      const database = await open(engine)
      for (let key = 0n; key < 60n; key++)
        await database.write({ operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: Buffer.alloc(150_000) }] })
      const range = { range: EVERY_KEY, descending: false, values: true, stored: false }
      const { chunks } = await database.scan({ ...range, format }, never)
      const reading = chunks[Symbol.asyncIterator]()
      await reading.next()
      const options = { format: 'binary', onDuplicate: 'fail', clear: true, atomic: true } as const
      await database.import(pieces(golden), options, never)
      const rest = async () => {
        while (!(await reading.next()).done);
      }
      await expect(rest()).rejects.toMatchObject({ code: 'not_ready' })
      expect((await exported(database)).equals(golden)).toBe(true)
    },
  )

  test('feeds every acknowledged commit in order, and follows', async () => {
    const database = await open(engine)
    const stop = new AbortController()
    const seen: bigint[] = []
    const keys: bigint[] = []
    const reading = (async () => {
      const splitter = new FrameSplitter()
      for await (const chunk of database.changes({ epoch: 1n, seq: 0n }, true, stop.signal))
        for (const frame of splitter.push(chunk)) {
          const header = readFrameHeader(frame)
          seen.push(header.firstSeq, header.lastSeq)
          for (const change of changesOf(frame)) if (change.kind === 'put') keys.push(change.record.key)
          if (header.lastSeq === 30n) stop.abort()
        }
    })()
    for (let i = 0n; i < 10n; i++)
      await database.write({ operations: [put(i, 'a'), put(i + 100n, 'b'), put(i + 200n, 'c')] })
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' })
    expect(keys).toHaveLength(30)
    // gapless: each commit begins where the last one ended
    for (let i = 2; i < seen.length; i += 2) expect(seen[i]).toBe((seen[i - 1] as bigint) + 1n)
    expect(seen[0]).toBe(1n)
  })

  test('answers small changes of a large record with the position of the commit that each was in', async () => {
    const database = await open(engine, undefined, SMALL)
    const data = Buffer.alloc(100_000)
    await database.write({ operations: [{ op: 'put', key: 1n, term: 0n, cmd: 0n, data }] })
    const append: Operation = { op: 'append', key: 1n, term: 0n, cmd: 0n, data: Buffer.from('x') }
    const results = await Promise.all(Array.from({ length: 10 }, () => database.write({ operations: [append] })))
    const commits: bigint[] = []
    const splitter = new FrameSplitter()
    for await (const chunk of database.changes({ epoch: 1n, seq: 1n }, false, never))
      for (const frame of splitter.push(chunk)) {
        const { firstSeq, lastSeq } = readFrameHeader(frame)
        for (let seq = firstSeq; seq <= lastSeq; seq++) commits.push(lastSeq)
        expect(frame.length).toBeLessThan(SMALL.atomicBytes + 101_000)
      }
    expect(new Set(commits).size).toBeGreaterThan(1)
    expect(results.map(result => result.position.seq)).toEqual(commits)
    expect(database.get(1n).record?.data.byteLength).toBe(data.length + 10)
  })

  test('cuts slices of an import of large records so that each is a commit within the limit', async () => {
    const database = await open(engine, undefined, SMALL)
    const lines = Array.from({ length: 8 }, (_, key) => `${key},1,1,${'x'.repeat(key === 3 ? 200_000 : 90_000)}\n`)
    const options = { format: 'csv', onDuplicate: 'fail', clear: false, atomic: false } as const
    await database.write({ operations: [put(99n, 'a')] })
    const file = Buffer.from(`key,term,cmd,data\n${lines.join('')}`)
    expect(await database.import(pieces(file), options, never)).toMatchObject({ imported: 8 })
  })

  test('refuses to feed from another branch or a trimmed position', async () => {
    const database = await open(engine)
    await database.write({ operations: [put(1n, 'a')] })
    await database.import(pieces(golden), { format: 'binary', onDuplicate: 'fail', clear: true, atomic: true }, never)
    const first = (epoch: bigint, seq: bigint) =>
      database.changes({ epoch, seq }, false, never)[Symbol.asyncIterator]().next()
    await expect(first(1n, 0n)).rejects.toMatchObject({ code: 'log_trimmed' })
    await expect(first(7n, 1n)).rejects.toMatchObject({ code: 'conflict' })
    await expect(first(2n, 99n)).rejects.toMatchObject({ code: 'conflict' })
  })

  test('holds writes during a freeze and lets them go with its end, by thaw or by time', async () => {
    const database = await open(engine)
    await database.write({ operations: [put(1n, 'before')] })
    const { token, position } = await database.freeze(5000)
    let written = false
    const write = database.write({ operations: [put(2n, 'during')] }).then(() => {
      written = true
    })
    await new Promise(resolve => setTimeout(resolve, 150))
    expect(written).toBe(false)
    expect(database.state.position).toEqual(position)
    expect(Buffer.from(database.get(1n).record?.data ?? []).toString()).toBe('before')
    expect(await database.thaw(token)).toEqual({ withinLease: true })
    await write
    await database.freeze(100)
    await database.write({ operations: [put(3n, 'after the lease')] })
    expect(database.state.count).toBe(3n)
  })

  test('changes nothing during a freeze: expired records stay until it ends', async () => {
    const database = await open(engine)
    const gone = { op: 'put', key: 1n, term: 0n, cmd: 0n, data: Buffer.from('x'), expiry: { at: 5n } } as const
    await database.write({ operations: [gone] })
    const { token, position } = await database.freeze(5000)
    const { writer } = database.session()
    const expire = { until: 10n, limit: 10, budgetMs: 100 }
    expect(await writer.call('expire', expire)).toEqual({ removed: 0, more: false })
    expect(database.state).toMatchObject({ position, count: 1n })
    expect(await database.thaw(token)).toEqual({ withinLease: true })
    expect(await writer.call('expire', expire)).toEqual({ removed: 1, more: false })
  })

  test('a write that a freeze holds back is not lost to an import into the empty database', async () => {
    const database = await open(engine)
    await database.freeze(10_000)
    const write = database.write({ operations: [put(1n, 'held back')] })
    const body = Readable.from([Buffer.from('{"key":"2","term":"0","cmd":"0","data":""}\n')])
    const options = { format: 'ndjson', onDuplicate: 'fail', clear: false, atomic: true } as const
    const imported = database.import(body, options, never)
    await expect(imported).rejects.toMatchObject({ code: 'conflict' })
    await write
    expect(Buffer.from(database.get(1n).record?.data ?? []).toString()).toBe('held back')
  })

  test('removes a range above the atomic limit in slices, each a commit', async () => {
    const database = await open(engine)
    for (let batch = 0n; batch < 5n; batch++)
      await database.write({ operations: Array.from({ length: 5000 }, (_, i) => put(batch * 5000n + BigInt(i), 'x')) })
    expect(await database.removeRangeSliced({ start: 10n, end: 24_989n })).toMatchObject({ removed: 24_980 })
    expect(database.state.count).toBe(20n)
    expect((await database.count(EVERY_KEY, never)).count).toBe(20)
  })

  test('removes no further slice of a range once nobody waits for it', async () => {
    const database = await open(engine)
    for (let batch = 0n; batch < 5n; batch++)
      await database.write({ operations: Array.from({ length: 5000 }, (_, i) => put(batch * 5000n + BigInt(i), 'x')) })
    const gone = new AbortController()
    const removed = database.removeRangeSliced(EVERY_KEY, gone.signal)
    // the first slice is on its way
    gone.abort(new Error('gone'))
    await expect(removed).rejects.toThrow('gone')
    const left = database.state.count
    expect(left).toBeGreaterThan(0n)
    expect(left).toBeLessThan(25_000n)
  })

  test('comes back after a clean end as it was, without a new epoch', async () => {
    const directory = join(root, `again-${engine}`)
    let database = await open(engine, directory)
    await database.write({
      operations: [
        put(5n, 'stays'),
        { op: 'put', key: 6n, term: 0n, cmd: 0n, data: Buffer.from('goes'), expiry: { at: 5n } },
      ],
    })
    const before = database.state
    await database.close()
    opened.delete(database)
    database = await open(engine, directory)
    expect(database.report).toMatchObject({ lastEnd: 'clean', checkDue: false, foreignWrites: false })
    expect(database.state).toEqual(before)
    // expired: stored, counted, and not visible
    expect(database.get(6n).record).toBeUndefined()
    expect((await database.count(EVERY_KEY, never)).count).toBe(1)
  })
})
