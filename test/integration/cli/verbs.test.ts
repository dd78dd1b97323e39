import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { KvidxError } from '../../../src/common/errors.ts'
import { type Running, startAll, startForTest } from '../server/harness.ts'
import { kvidx, type Ran } from './harness.ts'

const golden = new URL('../../fixtures/kvidxkit/lmdb/export.bin', import.meta.url)

describe('the verbs', () => {
  let running: Running
  const run = (...args: string[]): Promise<Ran> => kvidx([...args, '--server', running.url])
  const scratch = (): string => {
    const directory = mkdtempSync(join(tmpdir(), 'cli-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    return directory
  }
  beforeAll(async () => {
    running = await startAll()
  })
  afterAll(() => running.close())
  beforeEach(async () => {
    await running.database.removeRangeSliced({ start: 0n, end: (1n << 64n) - 1n })
  })

  test('put, get and delete', async () => {
    const put = await run('put', '42', 'hello', '--term', '3', '--ttl', '1h')
    expect([put.code, put.notes]).toEqual([0, ''])
    expect(put.out).toMatch(/^created {3}true\netag {6}[0-9a-f]{32}\nposition {2}1\.\d+\n$/)
    const got = await run('get', '0x2a')
    expect([got.code, got.out, got.notes]).toEqual([0, 'hello', ''])
    expect(JSON.parse((await run('get', '42', '--output', 'json')).out)).toMatchObject({
      key: '42',
      term: '3',
      data: 'aGVsbG8=',
    })
    expect((await run('get', '42', '--output', 'table')).out).toMatch(/term {6}3\n[\s\S]*data {6}hello\n/)
    const again = await run('put', '42', 'more', '--output', 'json')
    expect(JSON.parse(again.out)).toMatchObject({ created: false, etag: expect.any(String) })
    expect((await run('delete', '42')).code).toBe(0)
    const gone = await run('get', '42')
    expect([gone.code, gone.out]).toEqual([3, ''])
    expect(gone.notes).toBe('kvidx: there is no record 42\n')
  })

  test('data goes in and out as it is, by pipe and by file', async () => {
    const bytes = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index & 255))
    expect((await kvidx(['put', '1', '--server', running.url], { input: bytes })).code).toBe(0)
    expect((await run('get', '1')).bytes.equals(bytes)).toBe(true)
    const directory = scratch()
    const file = join(directory, 'data')
    await run('get', '1', '--file', file)
    expect(readFileSync(file).equals(bytes)).toBe(true)
    await run('put', '2', '--file', file)
    expect((await run('get', '2')).bytes.equals(bytes)).toBe(true)
    expect((await run('put', '3', '--file', join(directory, 'absent'))).code).toBe(2)
    expect((await run('put', '3', 'x', '--file', file)).code).toBe(2)
    expect((await run('get', '9', '--file', join(directory, 'none'))).code).toBe(3)
    const nowhere = await run('export', join(directory, 'no', 'such.bin'))
    expect([nowhere.code, nowhere.notes]).toEqual([
      2,
      expect.stringContaining('cannot be written: there is no such directory'),
    ])
    expect((await run('export', directory)).notes).toContain('it is a directory')
    expect(readdirSync(directory)).toEqual(['data'])
  })

  test('conditions end with their own exit code', async () => {
    expect((await run('put', '1', 'a', '--if-present')).code).toBe(4)
    const { etag } = JSON.parse((await run('put', '1', 'a', '--if-absent', '--term', '5', '--output', 'json')).out)
    expect((await run('put', '1', 'b', '--if-absent')).code).toBe(4)
    expect((await run('put', '1', 'b', '--if-match', etag, '--if-term', '5')).code).toBe(0)
    expect((await run('put', '1', 'c', '--if-match', `"${etag}"`)).code).toBe(4)
    expect((await run('delete', '1', '--if-match', etag)).code).toBe(4)
    expect((await run('get', '1')).out).toBe('b')
  })

  test('scan, count and stats', async () => {
    for (const key of ['1', '2', '18446744073709551615']) await run('put', key, `v${key}`)
    await run('put', '3', '--ttl', '1h', '--file', '-')
    const table = (await run('scan')).out.split('\n')
    expect(table[0]).toMatch(/^KEY +TERM +CMD +EXPIRES +DATA$/)
    expect(table[1]).toMatch(/^1 +0 +0 +never +v1$/)
    expect(table[3]).toMatch(/^3 +0 +0 +20\d\d-/)
    const json = (await run('scan', '--desc', '--limit', '2', '--keys-only', '--output', 'json')).out.trim().split('\n')
    expect(json.map(line => JSON.parse(line).key)).toEqual(['18446744073709551615', '3', undefined])
    expect(JSON.parse(json[2] as string).end).toBe(true)
    expect((await run('count')).out).toBe('4\n')
    expect((await run('count', '--start', '1', '--end', '3', '--start-exclusive', '--end-exclusive')).out).toBe('1\n')
    const stats = await run('stats')
    expect(stats.out).toMatch(/^records {8}4$/m)
    expect(stats.out).toMatch(/^last key {7}18446744073709551615$/m)
    expect(JSON.parse((await run('stats', '--output', 'json')).out).count).toBe('4')
  })

  test('delete of a range needs bounds or --all, and slices where one commit is too little', async () => {
    for (const key of ['1', '2', '3']) await run('put', key, 'x')
    expect((await run('delete')).code).toBe(2)
    expect((await run('delete', '1', '--all')).code).toBe(2)
    expect((await run('delete', '--start', '2', '--end', '2')).out).toMatch(/^removed {3}1$/m)
    const operations = Array.from({ length: 800 }, (_, key) => ({
      op: 'put' as const,
      key: BigInt(key),
      term: 0n,
      cmd: 0n,
      data: new Uint8Array(0),
    }))
    await running.database.write({ operations })
    await running.database.write({
      operations: operations.map(operation => ({ ...operation, key: operation.key + 1000n })),
    })
    const refused = await run('delete', '--all')
    expect(refused.code).toBe(2)
    expect(refused.notes).toContain('try again with --no-atomic')
    expect((await run('delete', '--all', '--no-atomic')).out).toMatch(/^removed {3}1600$/m)
  })

  test("kvidxkit's file comes in and goes out byte for byte", async () => {
    const directory = scratch()
    const out = join(directory, 'out.bin')
    const imported = await run('import', golden.pathname)
    expect(imported.out).toMatch(/^imported {2}45$/m)
    expect((await run('export', out)).out).toMatch(/^\d+ bytes in .*out\.bin, position 1?\d*\.\d+\n$/)
    expect(readFileSync(out).equals(readFileSync(golden))).toBe(true)
    expect((await run('export')).bytes.equals(readFileSync(golden))).toBe(true)
    expect((await run('export', '--format', 'csv', '--start', '10', '--end', '11')).out.split('\n')).toHaveLength(4)
    const again = await run('import', golden.pathname)
    expect(again.code).toBe(4)
    expect((await run('import', golden.pathname, '--on-duplicate', 'skip')).out).toMatch(/^skipped {3}45$/m)
  })

  test('an import in slices that ends early does not say that nothing was changed', async () => {
    const file = join(scratch(), 'slices.ndjson')
    const lines = Array.from({ length: 100_001 }, (_, key) => `{"key":"${key}","term":"0","cmd":"0","data":""}\n`)
    writeFileSync(file, [...lines, lines[0]].join(''))
    // a database with data: an empty one is filled as a whole
    await run('put', '200000', 'x')
    const cut = await run('import', file, '--no-atomic')
    expect([cut.code, cut.notes]).toEqual([4, expect.stringMatching(/; [1-9]\d* records before were imported\n$/)])
    expect(Number((await run('count')).out)).toBeGreaterThan(1)
  })

  test('an export goes into a pipe that has a name, and does not take its place', async () => {
    await run('put', '1', 'one')
    const pipe = join(scratch(), 'pipe')
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0)
    const read = readFile(pipe, 'utf8')
    expect((await run('export', pipe, '--format', 'ndjson')).code).toBe(0)
    expect(await read).toContain('"key":"1"')
    expect(statSync(pipe).isFIFO()).toBe(true)
  })

  test('a damaged file is refused and says where; a name that tells nothing needs --format', async () => {
    const directory = scratch()
    const bad = join(directory, 'bad.ndjson')
    writeFileSync(bad, '{"key":"1","term":"0","cmd":"0","data":""}\nnonsense\n')
    const refused = await run('import', bad)
    expect(refused.code).toBe(2)
    expect(refused.notes).toContain('nothing was changed (line 2)')
    const file = join(directory, 'file')
    writeFileSync(file, 'x')
    expect((await run('import', file)).notes).toContain('--format')
    for (const args of [
      ['import', join(directory, 'absent')],
      ['put', '1', '--file', join(directory, 'absent')],
      ['count', '--token-file', join(directory, 'absent')],
    ])
      expect(await run(...args)).toMatchObject({
        code: 2,
        notes: expect.stringMatching(/^kvidx: (--[a-z-]+: )?\S+\/absent cannot be read: there is no such file\n$/),
      })
    const piped = await kvidx(['import', '-', '--format', 'csv', '--server', running.url], {
      input: 'key,term,cmd,data\n5,0,0,a\n',
    })
    expect(piped.out).toMatch(/^imported {2}1$/m)
    expect((await run('get', '5')).out).toBe('a')
  })

  test('changes are printed, and followed until the server ends', async () => {
    const { position } = JSON.parse((await run('stats', '--output', 'json')).out)
    await run('put', '7', 'seven')
    await run('delete', '7')
    await run('put', '8', 'eight')
    await run('delete', '--start', '1', '--end', '9')
    const table = (await run('changes', '--since', position)).out.trim().split('\n')
    expect(table).toHaveLength(5)
    expect(table[1]).toMatch(/^\d+\.\d+ +20\S+ +put +7 +seven$/)
    expect(table[2]).toMatch(/delete +7$/)
    expect(table[4]).toMatch(/deleteRange +1-9 +1 records$/)
    const json = (await run('changes', '--since', position, '--output', 'json')).out.trim().split('\n')
    expect(json.map(line => JSON.parse(line).op)).toEqual(['put', 'delete', 'put', 'deleteRange', undefined])
    expect((await run('changes', '--since', '99.0')).code).toBe(1)
    expect((await run('changes', '--since', 'x')).code).toBe(2)
  })

  test('values that the server refuses are wrong usage', async () => {
    for (const args of [
      ['get', 'abc'],
      ['put', '1', 'x', '--ttl', '60'],
      ['scan', '--limit', '0'],
      ['count', '--start', '-1'],
    ])
      expect([args, (await run(...args)).code]).toEqual([args, 2])
  })

  test('the health check follows the operations port', async () => {
    const ops = ['--ops', running.servers.opsAddress]
    const healthy = await kvidx(['health-check', ...ops])
    expect([healthy.code, healthy.out]).toEqual([0, 'OK\n'])
    expect((await kvidx(['health-check', '--ready', ...ops])).out).toBe('READY\n')
    expect((await kvidx(['health-check', '--ops', 'http://127.0.0.1:9'])).code).toBe(5)
  })

  test('status tells of a database that serves, of one that does not, and of what is none', async () => {
    await run('put', '1', 'abc')
    const ops = ['--ops', running.servers.opsAddress]
    const serving = await kvidx(['status', ...ops])
    expect([serving.code, serving.notes]).toEqual([0, ''])
    expect(serving.out).toMatch(/^OK\nengine +SQLite [\d.]+\n[\s\S]*^records +1, 3 B$/m)
    expect(JSON.parse((await kvidx(['status', ...ops, '--output', 'json'])).out)).toMatchObject({ ready: true })
    expect((await kvidx(['status', '--ops', running.url])).code).toBe(2)
    expect((await kvidx(['status', '--ops', 'http://127.0.0.1:9'])).code).toBe(5)
    const { servers } = await startForTest({ instead: () => ({ ready: false }) })
    const waiting = await kvidx(['status', '--ops', servers.opsAddress])
    expect(waiting.code).toBe(7)
    expect(waiting.out).toMatch(/^NOT READY: not serving\n/)
  })
})

describe('where something is wrong', () => {
  test('an unreachable server, a bad address and a missing token have their own exit codes', async () => {
    const refused = await kvidx(['count', '--server', 'http://127.0.0.1:9'])
    expect(refused.code).toBe(5)
    expect(refused.notes).toContain('http://127.0.0.1:9 does not answer')
    expect((await kvidx(['count', '--server', 'unix:///tmp/no-such-socket'])).code).toBe(5)
    expect((await kvidx(['count', '--server', 'ftp://x'])).code).toBe(2)
    const directory = mkdtempSync(join(tmpdir(), 'cli-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'read'), 'read-token-0123456789\n')
    const { url } = await startForTest({ tokensDirectory: directory })
    expect((await kvidx(['count', '--server', url])).code).toBe(6)
    expect((await kvidx(['put', '1', 'x', '--server', url, '--token', 'read-token-0123456789'])).code).toBe(6)
    expect((await kvidx(['count', '--server', url, '--token-file', join(directory, 'read')])).out).toBe('0\n')
    expect((await kvidx(['count', '--server', url, '--token-file', join(directory, 'absent')])).code).toBe(2)
  })

  test('through the Unix socket as well', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'cli-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const socketPath = join(directory, 's.sock')
    await startForTest({ socketPath })
    expect((await kvidx(['put', '1', 'x', '--server', `unix://${socketPath}`])).code).toBe(0)
    expect((await kvidx(['checkpoint', '--server', `unix://${socketPath}`])).code).toBe(6)
  })

  test('a server that is overloaded is exit code 7', async () => {
    const { url } = await startForTest({
      instead: () => ({ write: () => Promise.reject(new KvidxError('overloaded', 'too much waits')) }),
    })
    expect((await kvidx(['put', '1', 'x', '--server', url])).code).toBe(7)
  })

  test('an answer that is cut is told from a whole one, and leaves no file', async () => {
    const { url } = await startForTest({
      instead: database => ({
        scan: async () => ({
          position: database.state.position,
          state: database.state,
          chunks: (async function* () {
            yield Buffer.from('{"key":"1","term":"0","cmd":"0","data":""}\n')
            throw new KvidxError('engine_io', 'the disk is gone')
          })(),
        }),
      }),
    })
    const directory = mkdtempSync(join(tmpdir(), 'cli-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    expect((await kvidx(['scan', '--server', url])).code).toBe(5)
    expect((await kvidx(['export', join(directory, 'x.bin'), '--server', url])).code).toBe(5)
    expect(existsSync(join(directory, 'x.bin'))).toBe(false)
    expect(readdirSync(directory)).toEqual([])
  })
})

describe('tasks', () => {
  test('show their progress to who watches, and their result', async () => {
    const { url } = await startForTest({
      instead: () => ({
        tasks: [{ name: 'check', running: true, progress: 0.5 }],
        runTask: async () => {
          await new Promise(resolve => setTimeout(resolve, 700))
          return { count: '5' }
        },
      }),
    })
    const watched = await kvidx(['check', '--server', url], { watched: true })
    expect(watched.code).toBe(0)
    expect(watched.notes).toContain('check [##############..............] 50%')
    expect(watched.out).toMatch(/^count {5}5$/m)
    const quiet = await kvidx(['check', '--server', url, '--output', 'json'])
    expect(quiet.notes).toBe('')
    expect(JSON.parse(quiet.out)).toMatchObject({ task: 'check', outcome: 'ok', count: '5' })
  })

  test('that fail after their beginning fail the command', async () => {
    const { url } = await startForTest({
      instead: () => ({
        tasks: [],
        runTask: async () => {
          await new Promise(resolve => setTimeout(resolve, 700))
          throw new KvidxError('engine_corrupt', 'page 7 is damaged')
        },
        cancelTask: () => false,
      }),
    })
    const failed = await kvidx(['check', '--server', url])
    expect([failed.code, failed.notes]).toEqual([1, 'kvidx: page 7 is damaged\n'])
    expect((await kvidx(['check', '--cancel', '--server', url])).code).toBe(1)
  })
})
