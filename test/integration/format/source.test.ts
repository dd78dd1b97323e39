import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import type { RecordSource } from '../../../sidecar/format/source/record-source.ts'
import { openSource } from '../../../sidecar/format/source/source.ts'
import { FIXTURES, golden, goldenDigest } from '../../unit/format/golden.ts'
import { describeWithRocksdb } from '../engine/native.ts'

const maxDataBytes = 64 * 1024 * 1024
const path = (name: string) => fileURLToPath(new URL(name, FIXTURES))

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'format-source-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

async function drain(source: RecordSource): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  try {
    for await (const batch of source.batches()) records.push(...batch)
  } finally {
    await source.close()
  }
  return records
}

async function* stream(bytes: Uint8Array, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

test.each([
  ['binary', 'lmdb/export.bin'],
  ['json', 'lmdb/export.json'],
  ['csv', 'lmdb/export.csv'],
  ['sqlite', 'sqlite3/golden.sqlite3'],
] as const)('%s is recognised by its content and gives the golden records', async (kind, name) => {
  // a name that tells nothing
  const file = join(directory, 'data')
  cpSync(path(name), file)
  const source = await openSource(file, { maxDataBytes, scratch: directory })
  expect(source.kind).toBe(kind)
  const records = await drain(source)
  expect(goldenDigest(records)).toBe(golden.digest)
  expect(source.report()).toMatchObject({ kind, records: 45 })
})

test('a directory of LMDB is recognised by what lies in it', async () => {
  const source = await openSource(path('lmdb/golden.lmdb'), { maxDataBytes, scratch: directory })
  expect(source.kind).toBe('lmdb')
  expect(goldenDigest(await drain(source))).toBe(golden.digest)
  expect(source.report()).toMatchObject({ expiring: 6, orphanExpiries: 1, orphanKeys: [500n] })
})

describeWithRocksdb('with the library of RocksDB', () => {
  test('a directory of RocksDB is recognised by what lies in it', async () => {
    const source = await openSource(path('rocksdb/golden.rocks'), { maxDataBytes, scratch: directory })
    expect(source.kind).toBe('rocksdb')
    expect(goldenDigest(await drain(source))).toBe(golden.digest)
    expect(source.report()).toMatchObject({ expiring: 6, orphanExpiries: 1, orphanKeys: [500n] })
  })
})

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('an export packed with %s is unpacked, from a file and from a stream', async (_, pack) => {
  const packed = pack(readFileSync(path('lmdb/export.bin')))
  const file = join(directory, 'packed')
  writeFileSync(file, packed)
  expect(goldenDigest(await drain(await openSource(file, { maxDataBytes })))).toBe(golden.digest)
  expect(goldenDigest(await drain(await openSource(stream(packed, 1009), { maxDataBytes })))).toBe(golden.digest)
})

test.each([
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const)('every part of %s files that were put together is read', async (_, pack) => {
  const lines = Array.from({ length: 5 }, (_, i) => pack(Buffer.from(`{"key":"${i}","data":""}\n`)))
  const packed = Buffer.concat([...lines, pack(Buffer.from('{"end":true,"count":"5","position":"1.1"}\n'))])
  for (const size of [7, packed.length])
    expect((await drain(await openSource(stream(packed, size), { maxDataBytes }))).length).toBe(5)
})

test.each([
  ['gzip', gzipSync],
  // Node writes no checksum unless told to, zstd's own program does
  ['zstd', (bytes: Uint8Array) => zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })],
] as const)('damaged or cut %s data is refused', async (_, pack) => {
  const packed = pack(readFileSync(path('lmdb/export.csv')))
  const cut = packed.subarray(0, packed.length - 1000)
  await expect(openSource(stream(cut, 5000), { maxDataBytes }).then(drain)).rejects.toMatchObject({
    code: 'invalid_body',
  })
  const damaged = Buffer.from(packed)
  damaged.fill(0x55, 2000, 2400)
  await expect(openSource(stream(damaged, 5000), { maxDataBytes }).then(drain)).rejects.toMatchObject({
    code: 'invalid_body',
  })
})

test('a stream that comes in single bytes is recognised', async () => {
  const bytes = Buffer.from('\uFEFF"key","data"\r\n"1","x"\r\n')
  const source = await openSource(stream(bytes, 1), { maxDataBytes })
  expect(source.kind).toBe('csv')
  expect((await drain(source)).length).toBe(1)
})

test('NDJSON and JSON are told apart', async () => {
  const lines = Buffer.from('{"key":"1","data":""}\n{"end":true,"count":"1","position":"1.1"}\n')
  expect((await drain(await openSource(stream(lines, 9), { maxDataBytes }))).length).toBe(1)
  const document = Buffer.from('{ "version": 1, "format": "kvidx-json", "entries": [] }')
  const source = await openSource(stream(document, 9), { maxDataBytes })
  expect(source.kind).toBe('json')
  expect(await drain(source)).toEqual([])
})

test('what is not known, or not what was expected, is refused with the possibilities named', async () => {
  await expect(openSource(stream(Buffer.from('hello'), 5), { maxDataBytes })).rejects.toThrow(
    /not of a known kind; expected a kvidxkit export/,
  )
  await expect(openSource(stream(Buffer.alloc(0), 5), { maxDataBytes })).rejects.toMatchObject({ code: 'invalid_body' })
  await expect(openSource(path('lmdb/export.csv'), { maxDataBytes, expected: 'binary' })).rejects.toThrow(
    /is csv; expected binary/,
  )
  mkdirSync(join(directory, 'empty'))
  await expect(openSource(join(directory, 'empty'), { maxDataBytes })).rejects.toMatchObject({ code: 'invalid_body' })
  await expect(openSource(join(directory, 'none'), { maxDataBytes })).rejects.toMatchObject({ code: 'engine_io' })
  const sqlite = stream(readFileSync(path('sqlite3/golden.sqlite3')), 4096)
  await expect(openSource(sqlite, { maxDataBytes })).rejects.toThrow(/give the path/)
})

test('closing a source early ends the stream behind it', async () => {
  let ended = false
  async function* endless() {
    try {
      yield Buffer.from('key,data\n')
      for (let i = 0; ; i++) yield Buffer.from(`${i},x\n`.repeat(100))
    } finally {
      ended = true
    }
  }
  const source = await openSource(endless(), { maxDataBytes })
  expect(ended).toBe(false)
  await source.close()
  expect(ended).toBe(true)
})
