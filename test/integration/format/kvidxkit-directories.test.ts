import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { openLmdbDirectory } from '../../../sidecar/format/source/lmdb-directory.ts'
import type { RecordSource } from '../../../sidecar/format/source/record-source.ts'
import { openRocksdbDirectory } from '../../../sidecar/format/source/rocksdb-directory.ts'
import { describeWithRocksdb } from '../engine/native.ts'

const FIXTURES = join(import.meta.dirname, '../../fixtures/kvidxkit')
const GOLDEN = JSON.parse(readFileSync(join(FIXTURES, 'golden.json'), 'utf8')) as {
  digest: string
  records: { key: string; term: string; cmd: string; length: number; sha256: string; expireAtMs: string | null }[]
}

let root: string
let scratch: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kvidx-directories-'))
  scratch = join(root, 'scratch')
  mkdirSync(scratch)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

async function readAll(source: RecordSource): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  try {
    for await (const batch of source.batches()) records.push(...batch)
  } finally {
    await source.close()
  }
  return records
}

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex')

async function expectGolden(source: RecordSource): Promise<void> {
  const records = await readAll(source)
  expect(
    records.map(({ key, term, cmd, data, expiresAt }) => ({
      key: String(key),
      term: String(term),
      cmd: String(cmd),
      length: data.length,
      sha256: sha256(data),
      expireAtMs: expiresAt === 0n ? null : String(expiresAt),
    })),
  ).toEqual(
    GOLDEN.records.map(({ key, term, cmd, length, sha256, expireAtMs }) => ({
      key,
      term,
      cmd,
      length,
      sha256,
      expireAtMs,
    })),
  )
  const lines = records.map(({ key, term, cmd, data }) => `${key} ${term} ${cmd} ${data.length} ${sha256(data)}\n`)
  expect(sha256(lines.join(''))).toBe(GOLDEN.digest)
  expect(source.report()).toEqual({
    kind: source.kind,
    records: 45,
    expiring: 6,
    orphanExpiries: 1,
    orphanKeys: [500n],
  })
}

/** Names, sizes and contents: to see that nothing was written. */
function contents(directory: string): string[] {
  return readdirSync(directory)
    .sort()
    .map(name => `${name} ${sha256(readFileSync(join(directory, name)))}`)
}

describeWithRocksdb('a kvidxkit RocksDB directory', () => {
  const golden = join(FIXTURES, 'rocksdb/golden.rocks')

  test('gives its 45 records with 6 expiries, reports the orphan of key 500, and is left as it was', async () => {
    const before = contents(golden)
    await expectGolden(await openRocksdbDirectory(golden, { scratch }))
    expect(contents(golden)).toEqual(before)
    expect(readdirSync(scratch)).toEqual([])
  })

  test('can be closed half-way, also while a batch is on its way', async () => {
    const source = await openRocksdbDirectory(golden, { scratch })
    for await (const batch of source.batches()) {
      expect(batch.length).toBeGreaterThan(0)
      break
    }
    await source.close()
    await source.close()
    expect(readdirSync(scratch)).toEqual([])
  })

  test('with a damaged manifest is an error of the engine', async () => {
    const copy = join(root, 'damaged')
    cpSync(golden, copy, { recursive: true })
    writeFileSync(join(copy, 'MANIFEST-000005'), 'not a manifest at all')
    await expect(openRocksdbDirectory(copy, { scratch })).rejects.toMatchObject({ code: 'engine_corrupt' })
    expect(readdirSync(scratch)).toEqual([])
  })

  test('of another program is refused', async () => {
    const { openRocksWriter } = await import('../../../sidecar/engine/rocksdb/writer.ts')
    openRocksWriter({ kind: 'RocksDB', directory: root, tuning: { syncMode: 'Off' } }).close()
    await expect(openRocksdbDirectory(join(root, 'main.rocks'), { scratch })).rejects.toMatchObject({
      code: 'invalid_body',
      message: expect.stringContaining('column families'),
    })
  })

  test('is never opened as a database of ours', async () => {
    const { openRocksWriter } = await import('../../../sidecar/engine/rocksdb/writer.ts')
    cpSync(golden, join(root, 'main.rocks'), { recursive: true })
    const before = contents(join(root, 'main.rocks'))
    expect(() => openRocksWriter({ kind: 'RocksDB', directory: root, tuning: { syncMode: 'Off' } })).toThrow(
      expect.objectContaining({ code: 'engine_corrupt' }),
    )
    expect(contents(join(root, 'main.rocks'))).toEqual(before)
  })
})

describe('a kvidxkit LMDB directory', () => {
  const golden = join(FIXTURES, 'lmdb/golden.lmdb')

  function damagedCopy(change: (data: Buffer, path: string) => void): string {
    const copy = join(root, 'damaged')
    mkdirSync(copy, { recursive: true })
    const path = join(copy, 'data.mdb')
    const data = readFileSync(join(golden, 'data.mdb'))
    change(data, path)
    return copy
  }

  test('gives its 45 records with 6 expiries and reports the orphan of key 500', async () => {
    const before = contents(golden)
    const source = await openLmdbDirectory(golden)
    expect(source.count).toBe(45)
    await expectGolden(source)
    expect(contents(golden)).toEqual(before)
  })

  test('that is cut short is damaged, wherever the cut is', async () => {
    const size = readFileSync(join(golden, 'data.mdb')).length
    for (const length of [0, 10, 4096, 8192, 50_000, Math.floor(size / 2), size - 4096]) {
      const copy = damagedCopy((data, path) => {
        writeFileSync(path, data)
        truncateSync(path, length)
      })
      await expect(openLmdbDirectory(copy).then(readAll), `cut at ${length}`).rejects.toMatchObject({
        code: 'engine_corrupt',
      })
    }
  })

  test('with bits of its tree pages flipped gives an error or records, never a crash or an endless walk', async () => {
    const data = readFileSync(join(golden, 'data.mdb'))
    const trees = Array.from({ length: data.length / 4096 }, (_, page) => page * 4096).filter(
      page => data.readUInt16LE(page + 10) === 1 || data.readUInt16LE(page + 10) === 2,
    )
    expect(trees.length).toBeGreaterThan(3)
    let refused = 0
    for (const page of trees) {
      for (let at = 0; at < 120; at += 7) {
        const copy = damagedCopy((bytes, path) => {
          bytes[page + at] = (bytes[page + at] ?? 0) ^ (1 << (at % 8))
          writeFileSync(path, bytes)
        })
        try {
          expect((await readAll(await openLmdbDirectory(copy))).length).toBeLessThanOrEqual(45)
        } catch (error) {
          expect(error).toMatchObject({ code: 'engine_corrupt' })
          refused++
        }
      }
    }
    expect(refused).toBeGreaterThan(10)
  })

  test('of another format version is refused by its number', async () => {
    const copy = damagedCopy((bytes, path) => {
      bytes.writeUInt32LE(2, 20)
      writeFileSync(path, bytes)
    })
    await expect(openLmdbDirectory(copy)).rejects.toMatchObject({
      code: 'invalid_body',
      message: expect.stringContaining('format 2'),
    })
  })

  test('without a data file is an error that names the path', async () => {
    await expect(openLmdbDirectory(root)).rejects.toMatchObject({
      code: 'engine_io',
      message: expect.stringContaining(root),
    })
  })
})
