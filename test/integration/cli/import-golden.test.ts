import { createHash } from 'node:crypto'
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'
import { rocksdbIsThere } from '../engine/native.ts'
import { kvidx } from './harness.ts'

const GOLDEN = join(import.meta.dirname, '../../fixtures/kvidxkit')
const golden = JSON.parse(readFileSync(join(GOLDEN, 'golden.json'), 'utf8')) as {
  readonly count: number
  readonly digest: string
  readonly countBelow2p63: number
  readonly digestBelow2p63: string
}

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex')
const ENGINES = ['SQLite', 'LMDB', ...(rocksdbIsThere ? (['RocksDB'] as const) : [])] as const

/** Names and hashes of everything beside and below a path. */
function contents(path: string): string[] {
  const entries = readdirSync(dirname(path), { recursive: true, withFileTypes: true })
  return entries
    .filter(entry => entry.isFile())
    .map(entry => `${entry.name} ${sha256(readFileSync(join(entry.parentPath, entry.name)))}`)
    .sort()
}

/** What kvidxkit's own data comes to in a database of ours, by way of the command that a person would type. */
describe.each(ENGINES)("kvidxkit's data in a database on %s", engine => {
  const open = async () => {
    const { sidecar } = await sidecarHere({ engine })
    const server = ['--server', await sidecar.serving]
    const run = (...args: string[]) => kvidx([...args, ...server])
    /** The digest of golden.json over what can be seen. */
    const visible = async () => {
      const { out } = await run('scan', '--output', 'json')
      const lines = out
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as Record<string, string>)
      const records = lines.filter(line => line.end === undefined)
      const sums = records.map(({ key, term, cmd, data = '' }) => {
        const bytes = Buffer.from(data, 'base64')
        return `${key} ${term} ${cmd} ${bytes.length} ${sha256(bytes)}\n`
      })
      return { count: records.length, digest: sha256(sums.join('')) }
    }
    return { run, visible, database: sidecar.database }
  }
  const whole = { count: golden.count, digest: golden.digest }

  test.each([
    ['lmdb/export.bin', whole],
    ['lmdb/export.json', whole],
    ['lmdb/export.csv', whole],
    ['sqlite3/export.from2p63.bin', whole],
    ['sqlite3/export.bin', { count: golden.countBelow2p63, digest: golden.digestBelow2p63 }],
    ['sqlite3/export.json', { count: golden.countBelow2p63, digest: golden.digestBelow2p63 }],
    ['sqlite3/export.csv', { count: golden.countBelow2p63, digest: golden.digestBelow2p63 }],
  ])('%s comes in whole', async (file, expected) => {
    const { run, visible } = await open()
    expect(await run('import', join(GOLDEN, file))).toMatchObject({ code: 0, notes: '' })
    expect(await visible()).toEqual(expected)
  })

  test.each([
    'sqlite3/golden.sqlite3',
    'sqlite3/hot/golden.sqlite3',
    'lmdb/golden.lmdb',
    ...(rocksdbIsThere ? ['rocksdb/golden.rocks'] : []),
  ])('%s comes in as it lies there, with its expiries, and is left as it was', async path => {
    const { run, database } = await open()
    const copy = join(temporaryDirectory(), 'golden')
    cpSync(join(GOLDEN, path), copy, { recursive: true })
    if (path.includes('hot')) copyFileSync(join(GOLDEN, `${path}-wal`), `${copy}-wal`)
    const before = contents(copy)
    const imported = await run('import', copy, '--output', 'json')
    expect([imported.notes, imported.code]).toEqual(['', 0])
    expect(JSON.parse(imported.out)).toMatchObject({ imported: '45', orphanExpiries: 1 })
    expect([Number(database.state.count), Number(database.state.expiring)]).toEqual([45, 6])
    // key 11 expired in 2001
    expect(JSON.parse((await run('count', '--output', 'json')).out)).toMatchObject({ count: '44' })
    expect((await run('get', '11')).code).toBe(3)
    expect((await run('export')).bytes.readBigUInt64LE(16)).toBe(44n)
    expect(contents(copy)).toEqual(before)
  })
})

describe('an import of what kvidxkit wrote', () => {
  test('may be compressed, and a directory of something else is refused with what is possible', async () => {
    const { sidecar } = await sidecarHere({})
    const server = ['--server', await sidecar.serving]
    const scratch = temporaryDirectory()
    const packed = join(scratch, 'export.bin.gz')
    writeFileSync(packed, gzipSync(readFileSync(join(GOLDEN, 'lmdb/export.bin'))))
    expect((await kvidx(['import', packed, ...server])).out).toMatch(/^imported +45$/m)
    const other = join(scratch, 'other')
    mkdirSync(other)
    const refused = await kvidx(['import', other, ...server])
    expect(refused.code).toBe(2)
    expect(refused.notes).toContain('a kvidxkit database (SQLite, RocksDB, LMDB)')
  })
})
