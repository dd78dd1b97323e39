import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readAll } from '../../../sidecar/backup/store/body.ts'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { type BackupStore, listFolders, listObjects } from '../../../sidecar/backup/store/store.ts'
import type { RunningS3 } from '../../servers/versitygw.ts'
import { s3Binary, s3StoreIn, startS3 } from './s3-server.ts'

const MIB = 1024 * 1024
/** S3 takes no smaller parts than this. */
const PART = 5 * MIB

describe('a store in a directory', () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'kvidx-store-'))
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  let stores = 0
  contract(() => {
    const root = join(directory, String(++stores))
    mkdirSync(root)
    return new DirectoryStore(root)
  })
})

describe.skipIf(!s3Binary)('a store in an S3 bucket', () => {
  let server: RunningS3
  beforeAll(async () => {
    server = await startS3()
  })
  afterAll(() => server.stop())
  contract(() => s3StoreIn(server, { parts: { size: PART, concurrency: 2 } }))
})

describe.skipIf(!s3Binary)('a store under a prefix of an S3 bucket', () => {
  let server: RunningS3
  beforeAll(async () => {
    server = await startS3()
  })
  afterAll(() => server.stop())
  contract(() => s3StoreIn(server, { prefix: '/backups/of-us/', parts: { size: PART, concurrency: 2 } }))
})

async function* pieces(body: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size)
}

async function content(store: BackupStore, key: string): Promise<Buffer> {
  return readAll((await store.get(key)).chunks, 64 * MIB, key)
}

function contract(open: () => BackupStore): void {
  it('gives back what was put, for every size around its internal bounds', async () => {
    const store = open()
    for (const size of [0, 1, 1000, MIB, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7]) {
      const body = randomBytes(size)
      await store.put('a/b/object', pieces(body, 700_001))
      const got = await content(store, 'a/b/object')
      expect([size, sha256(got)]).toEqual([size, sha256(body)])
      expect(await store.head('a/b/object')).toMatchObject({ key: 'a/b/object', size })
    }
    await store.close()
  })

  it('takes a body in memory, and replaces an object by another put', async () => {
    const store = open()
    await store.put('x', Buffer.from('first'))
    await store.put('x', Buffer.from('second one'), { atMost: 10 })
    expect((await content(store, 'x')).toString()).toBe('second one')
    await store.close()
  })

  it('says when an object was last modified', async () => {
    const store = open()
    await store.put('x', Buffer.from('x'))
    const { modified } = (await store.head('x')) ?? { modified: 0 }
    expect(Math.abs(modified - Date.now())).toBeLessThan(5000)
    const [listed] = (await store.list('')).objects
    expect(Math.abs((listed?.modified ?? 0) - modified)).toBeLessThan(1001)
    await store.close()
  })

  it('creates only what is absent, and leaves what is there as it is', async () => {
    const store = open()
    expect(await store.putIfAbsent('m/manifest.json', Buffer.from('mine'))).toBe('created')
    expect(await store.putIfAbsent('m/manifest.json', Buffer.from('yours'))).toBe('exists')
    expect(await store.putIfAbsent('m/manifest.json', Buffer.from('mine'))).toBe('exists')
    expect((await content(store, 'm/manifest.json')).toString()).toBe('mine')
    await store.close()
  })

  it('has one winner when many create the same key at once', async () => {
    const store = open()
    for (let race = 0; race < 5; race++) {
      const bodies = Array.from({ length: 12 }, (_, i) => `writer ${i}`)
      const results = await Promise.all(bodies.map(body => store.putIfAbsent(`race/${race}`, Buffer.from(body))))
      const winners = bodies.filter((_, i) => results[i] === 'created')
      expect(winners).toHaveLength(1)
      expect((await content(store, `race/${race}`)).toString()).toBe(winners[0])
    }
    await store.close()
  })

  it('reads ranges, and refuses those outside the object', async () => {
    const store = open()
    const body = randomBytes(3 * MIB)
    await store.put('r', body)
    const read = async (start: number, end?: number) => {
      const object = await store.get('r', { range: end === undefined ? { start } : { start, end } })
      expect(object.size).toBe(body.length)
      return readAll(object.chunks, 64 * MIB, 'r')
    }
    expect(await read(0, 1)).toEqual(body.subarray(0, 1))
    expect(await read(5, 5)).toHaveLength(0)
    expect((await read(1_000_000, 2_500_000)).equals(body.subarray(1_000_000, 2_500_000))).toBe(true)
    expect((await read(2 * MIB)).equals(body.subarray(2 * MIB))).toBe(true)
    await expect(read(10, body.length + 1)).rejects.toMatchObject({ code: 'range_not_satisfiable' })
    await expect(read(body.length + 1)).rejects.toMatchObject({ code: 'range_not_satisfiable' })
    await expect(store.get('absent', { range: { start: 3, end: 3 } })).rejects.toMatchObject({
      code: 'backup_not_found',
    })
    await store.close()
  })

  it('says backup_not_found for what is absent, and deletes twice without complaint', async () => {
    const store = open()
    await expect(store.get('none')).rejects.toMatchObject({ code: 'backup_not_found' })
    expect(await store.head('none')).toBeUndefined()
    expect(await store.head('none/below')).toBeUndefined()
    await store.put('gone', Buffer.from('x'))
    await store.delete('gone')
    await store.delete('gone')
    expect(await store.head('gone')).toBeUndefined()
    await store.close()
  })

  it('lists in byte order, page by page, also from the middle', async () => {
    const store = open()
    const keys = ['a-b', 'a/1', 'a/2/x', 'a/2/y', 'a/10', 'a0', 'b/z', 'A/up', 'c', 'a.b', 'a/2-'].sort()
    for (const key of keys) await store.put(key, Buffer.from(key))
    const all: string[] = []
    for await (const item of listObjects(store, '')) all.push(item.key)
    expect(all).toEqual(keys)
    for (let limit = 1; limit <= 4; limit++) {
      const paged: string[] = []
      for (let after: string | undefined; ; ) {
        const page = await store.list('', after === undefined ? { limit } : { limit, after })
        expect(page.objects.length).toBeLessThanOrEqual(limit)
        paged.push(...page.objects.map(item => item.key))
        if (page.next === undefined) break
        after = page.next
      }
      expect(paged).toEqual(keys)
    }
    const under = async (prefix: string) => (await store.list(prefix)).objects.map(item => item.key)
    expect(await under('a/')).toEqual(keys.filter(key => key.startsWith('a/')))
    expect(await under('a/2')).toEqual(['a/2-', 'a/2/x', 'a/2/y'])
    expect(await under('nothing/here')).toEqual([])
    expect((await store.list('', { after: 'a/2' })).objects.map(item => item.key)).toEqual(
      keys.filter(key => key > 'a/2'),
    )
    await store.close()
  })

  it('folds what lies deeper into folders', async () => {
    const store = open()
    for (const key of ['s/one/manifest.json', 's/one/data', 's/two/data', 's/file', 't/x'])
      await store.put(key, Buffer.from(key))
    expect(await listFolders(store, 's/')).toEqual(['s/one/', 's/two/'])
    const page = await store.list('s/', { folders: true })
    expect(page.objects.map(item => item.key)).toEqual(['s/file'])
    const seen: string[] = []
    for (let after: string | undefined; ; ) {
      const part = await store.list('s/', { folders: true, limit: 1, ...(after !== undefined && { after }) })
      seen.push(...part.folders, ...part.objects.map(item => item.key))
      if (part.next === undefined) break
      after = part.next
    }
    expect(seen).toEqual(['s/file', 's/one/', 's/two/'])
    await store.close()
  })

  it('refuses keys that lead out of it or that not every store keeps', async () => {
    const store = open()
    for (const key of [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '..',
      '../x',
      'a/../../x',
      './a',
      'a\\b',
      'a\0b',
      'ä',
      'a b',
      'x'.repeat(901),
    ]) {
      await expect(store.put(key, Buffer.from('x')), JSON.stringify(key)).rejects.toMatchObject({
        code: 'invalid_parameter',
      })
      await expect(store.get(key), JSON.stringify(key)).rejects.toMatchObject({ code: 'invalid_parameter' })
      await expect(store.delete(key), JSON.stringify(key)).rejects.toMatchObject({ code: 'invalid_parameter' })
    }
    await expect(store.list('../')).rejects.toMatchObject({ code: 'invalid_parameter' })
    const odd = "a!#$%&'()*+,-.0:;<=>?@[]^_`{|}~"
    await store.put(`k/${odd}/v`, Buffer.from('odd'))
    expect((await content(store, `k/${odd}/v`)).toString()).toBe('odd')
    expect((await store.list('k/')).objects.map(item => item.key)).toEqual([`k/${odd}/v`])
    await store.close()
  })

  it('leaves nothing under the key when the body fails or the work is cancelled, and keeps what was there', async () => {
    const store = open()
    await store.put('kept', Buffer.from('old'))
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield randomBytes(PART)
      yield randomBytes(PART)
      yield randomBytes(PART)
      throw new Error('the source broke')
    }
    await expect(store.put('kept', failing())).rejects.toThrow('the source broke')
    await expect(store.put('new', failing())).rejects.toThrow('the source broke')
    const abort = new AbortController()
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let i = 0; ; i++) {
        if (i === 4) abort.abort()
        yield randomBytes(PART)
      }
    }
    await expect(store.put('new', endless(), { signal: abort.signal })).rejects.toMatchObject({ code: 'cancelled' })
    expect((await content(store, 'kept')).toString()).toBe('old')
    expect(await store.head('new')).toBeUndefined()
    expect((await store.list('')).objects.map(item => item.key)).toEqual(['kept'])
    expect(await store.listPartial('')).toEqual([])
    await store.close()
  })

  it('stops reading when the work is cancelled, and when the reader leaves', async () => {
    const store = open()
    await store.put('big', randomBytes(12 * MIB))
    const abort = new AbortController()
    const object = await store.get('big', { signal: abort.signal })
    const reading = (async () => {
      for await (const _ of object.chunks) abort.abort()
    })()
    await expect(reading).rejects.toMatchObject({ code: 'cancelled' })
    for await (const _ of (await store.get('big')).chunks) break
    await expect(store.get('big', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'cancelled' })
    await store.close()
  })
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
