import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { readAll } from '../../../sidecar/backup/store/body.ts'
import { openDestination, openStoreUrl } from '../../../sidecar/backup/store/open.ts'
import { systemClock } from '../../../src/common/clock.ts'
import type { RunningS3 } from '../../servers/versitygw.ts'
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts'
import { s3Binary, s3StoreIn, startS3 } from './s3-server.ts'

const MIB = 1024 * 1024

describe.skipIf(!s3Binary)('an S3 store behind a bad network', () => {
  let server: RunningS3
  let proxy: FaultProxy
  beforeAll(async () => {
    server = await startS3()
    proxy = await startFaultProxy(server.endpoint)
  })
  afterAll(async () => {
    await proxy.stop()
    await server.stop()
  })
  beforeEach(() => {
    proxy.decide = () => undefined
    proxy.seen.length = 0
  })
  const open = (options = {}) =>
    s3StoreIn(server, { endpoint: proxy.endpoint, parts: { size: 5 * MIB, concurrency: 2 }, ...options })
  const content = async (store: ReturnType<typeof open>, key: string) =>
    readAll((await store.get(key)).chunks, 64 * MIB, key)

  it('tries again after 500, 503 with Retry-After and a dropped connection', async () => {
    const store = open()
    const faults = [
      { kind: 'answer', status: 503, headers: { 'retry-after': '1' } },
      { kind: 'drop' },
      { kind: 'answer', status: 500, body: '<Error><Code>InternalError</Code></Error>' },
    ] as const
    let turn = 0
    proxy.decide = () => faults[turn++]
    const began = performance.now()
    await store.put('x', Buffer.from('x'))
    expect(performance.now() - began).toBeGreaterThan(900)
    expect(proxy.seen).toHaveLength(4)
    expect((await content(store, 'x')).toString()).toBe('x')
    await store.close()
  })

  it('gives up with store_unreachable, and at once with store_denied', async () => {
    const store = open({ attempts: 3 })
    proxy.decide = () => ({
      kind: 'answer',
      status: 503,
      body: '<Error><Code>SlowDown</Code><Message>later</Message></Error>',
    })
    await expect(store.head('x')).rejects.toMatchObject({ code: 'store_unreachable' })
    expect(proxy.seen).toHaveLength(3)
    const wrong = open({ credentials: () => ({ accessKeyId: server.accessKeyId, secretAccessKey: 'wrong' }) })
    proxy.decide = () => undefined
    proxy.seen.length = 0
    await expect(wrong.put('x', Buffer.from('x'))).rejects.toMatchObject({ code: 'store_denied' })
    await expect(wrong.list('')).rejects.toMatchObject({ code: 'store_denied' })
    expect(proxy.seen).toHaveLength(2)
    const nowhere = open({ endpoint: 'http://127.0.0.1:9', attempts: 2 })
    await expect(nowhere.list('')).rejects.toMatchObject({ code: 'store_unreachable', retryable: true })
    await Promise.all([store.close(), wrong.close(), nowhere.close()])
  })

  it('uses rotated credentials with the next request', async () => {
    let secretAccessKey = 'old'
    const store = open({ credentials: () => ({ accessKeyId: server.accessKeyId, secretAccessKey }) })
    await expect(store.list('')).rejects.toMatchObject({ code: 'store_denied' })
    secretAccessKey = server.secretAccessKey
    expect((await store.list('')).objects).toEqual([])
    await store.close()
  })

  it('goes on where a download broke off, and never ends it early', async () => {
    const store = open()
    const body = randomBytes(3 * MIB)
    await store.put('big', body)
    let cuts = 0
    proxy.decide = request => (request.method === 'GET' && cuts++ < 3 ? { kind: 'cut', bytes: 700_000 } : undefined)
    expect((await content(store, 'big')).equals(body)).toBe(true)
    expect(cuts).toBeGreaterThanOrEqual(4)
    proxy.decide = request => (request.method === 'GET' ? { kind: 'cut', bytes: 0 } : undefined)
    await expect(content(store, 'big')).rejects.toMatchObject({ code: 'store_unreachable' })
    await store.close()
  })

  it('notices that an object is another one when it goes on reading', async () => {
    const store = open()
    await store.put('big', randomBytes(3 * MIB))
    let first = true
    proxy.decide = request => {
      const cut = request.method === 'GET' && first
      if (cut) first = false
      return cut ? { kind: 'cut', bytes: 700_000 } : undefined
    }
    const { chunks } = await store.get('big')
    await store.put('big', randomBytes(3 * MIB))
    await expect(readAll(chunks, 64 * MIB, 'big')).rejects.toMatchObject({ code: 'backup_corrupt' })
    await store.close()
  })

  it('survives lost answers of every request of a multipart upload', async () => {
    const store = open()
    const body = randomBytes(12 * MIB)
    async function* chunks() {
      for (let at = 0; at < body.length; at += MIB) yield body.subarray(at, at + MIB)
    }
    const dropped = new Set<string>()
    proxy.decide = request => {
      const what = `${request.method} ${request.url?.replace(/uploadId=[^&]*/, '')}`
      if (request.method === 'GET' || dropped.has(what)) return undefined
      dropped.add(what)
      return { kind: 'drop', after: true }
    }
    await store.put('multi', chunks())
    expect(dropped.size).toBeGreaterThanOrEqual(5)
    proxy.decide = () => undefined
    expect((await content(store, 'multi')).equals(body)).toBe(true)
    await store.close()
  })

  it('knows its own object again when the answer to its creation was lost', async () => {
    const store = open()
    await store.putIfAbsent('before', Buffer.from('the probe is done'))
    let lose = 1
    proxy.decide = request => (request.method === 'PUT' && lose-- > 0 ? { kind: 'drop', after: true } : undefined)
    expect(await store.putIfAbsent('mine', Buffer.from('mine'))).toBe('created')
    await store.close()
  })

  it('creates without replacing where the endpoint ignores or refuses If-None-Match', async () => {
    const ignoring = open()
    // an endpoint that does not know the header answers 200 however often
    proxy.decide = request => (request.headers['if-none-match'] ? { kind: 'answer', status: 200 } : undefined)
    expect(await ignoring.putIfAbsent('a', Buffer.from('first'))).toBe('created')
    expect(await ignoring.putIfAbsent('a', Buffer.from('second'))).toBe('exists')
    expect((await content(ignoring, 'a')).toString()).toBe('first')
    await ignoring.close()
    const refusing = open()
    proxy.decide = request =>
      request.headers['if-none-match']
        ? { kind: 'answer', status: 501, body: '<Error><Code>NotImplemented</Code></Error>' }
        : undefined
    expect(await refusing.putIfAbsent('b', Buffer.from('first'))).toBe('created')
    expect(await refusing.putIfAbsent('b', Buffer.from('second'))).toBe('exists')
    expect((await content(refusing, 'b')).toString()).toBe('first')
    await refusing.close()
  })

  it('stores everything without the right to delete, and says store_denied when it is asked to', async () => {
    proxy.decide = request =>
      request.method === 'DELETE'
        ? { kind: 'answer', status: 403, body: '<Error><Code>AccessDenied</Code></Error>' }
        : undefined
    const store = open()
    const body = randomBytes(11 * MIB)
    await store.put('data', body)
    await store.put('data', body)
    expect(await store.putIfAbsent('manifest', Buffer.from('m'))).toBe('created')
    expect(proxy.seen.filter(line => line.startsWith('DELETE'))).toEqual([])
    await expect(store.delete('data')).rejects.toMatchObject({ code: 'store_denied' })
    await store.close()
  })

  it('finds an upload that its process did not live to finish, and removes it', async () => {
    const store = open()
    proxy.decide = request => (request.method === 'DELETE' ? { kind: 'answer', status: 403 } : undefined)
    async function* dying() {
      yield randomBytes(11 * MIB)
      throw new Error('killed')
    }
    await expect(store.put('s/partial', dying())).rejects.toThrow('killed')
    proxy.decide = () => undefined
    const [partial, ...rest] = await store.listPartial('s/')
    expect(rest).toEqual([])
    expect(partial).toMatchObject({ key: 's/partial' })
    expect(Math.abs((partial?.modified ?? 0) - Date.now())).toBeLessThan(60_000)
    await store.removePartial(partial!)
    await store.removePartial(partial!)
    expect(await store.listPartial('')).toEqual([])
    await store.close()
  })

  it('is opened by a URL and by the destination of a spec', async () => {
    const credentials = () => ({ accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey })
    s3StoreIn(server, { bucket: 'by-url' })
    const url = `s3://by-url/some/prefix?endpoint=${encodeURIComponent(server.endpoint)}&region=us-east-1&pathStyle=true`
    const a = await openStoreUrl(url, { clock: systemClock, credentials })
    const s3 = { bucket: 'by-url', prefix: 'some/prefix', endpoint: server.endpoint }
    const b = openDestination({ s3 }, { clock: systemClock, credentials })
    expect(a.location).toBe('s3://by-url/some/prefix')
    await a.put('k', Buffer.from('v'))
    expect((await b.list('')).objects.map(item => item.key)).toEqual(['k'])
    await Promise.all([a.close(), b.close()])
  })
})
