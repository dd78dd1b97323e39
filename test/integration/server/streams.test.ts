import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { FrameSplitter, readFrameHeader } from '../../../sidecar/database/frame.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { call, lines, RawConnection, type Running, startForTest } from './harness.ts'

const MAX = (1n << 64n) - 1n
const golden = (file: string) => readFileSync(new URL(`../../fixtures/kvidxkit/${file}`, import.meta.url))

async function fill(running: Running, keys: readonly bigint[], size = 3): Promise<void> {
  for (let at = 0; at < keys.length; at += 500)
    await running.database.write({
      operations: keys
        .slice(at, at + 500)
        .map(key => ({ op: 'put', key, term: 1n, cmd: 2n, data: new Uint8Array(size).fill(97) })),
    })
}

describe('a scan', () => {
  test('has inclusive bounds, exclusive ones on request, both orders and a limit', async () => {
    const running = await startForTest()
    await fill(running, [0n, 1n, 5n, 9n, 10n, 1n << 63n, MAX])
    const keys = async (query: string) => {
      const answer = await call(`${running.url}/v1/records${query}`)
      expect(answer.status).toBe(200)
      const all = lines(answer.text)
      const end = all.pop()
      expect(end).toEqual({ end: true, count: String(all.length), position: answer.headers.get('kvidx-position') })
      return all.map(line => line.key).join(' ')
    }
    expect(await keys('')).toBe(`0 1 5 9 10 ${1n << 63n} ${MAX}`)
    expect(await keys('?order=desc&limit=3')).toBe(`${MAX} ${1n << 63n} 10`)
    expect(await keys('?start=1&end=9')).toBe('1 5 9')
    expect(await keys('?start=1&end=9&startExclusive=true')).toBe('5 9')
    expect(await keys('?start=1&end=9&endExclusive=true')).toBe('1 5')
    expect(await keys('?start=1&end=9&startExclusive=true&endExclusive=true&order=desc')).toBe('5')
    expect(await keys('?start=0x8000000000000000')).toBe(`${1n << 63n} ${MAX}`)
    expect(await keys(`?start=${MAX}&startExclusive=true`)).toBe('')
    expect(await keys('?end=0&endExclusive=true')).toBe('')
    expect(await keys('?start=9&end=1')).toBe('')
    for (const query of [
      '?limit=0',
      '?limit=-1',
      '?order=up',
      '?values=1',
      '?startExclusive=true',
      '?endExclusive=true',
    ])
      expect((await call(`${running.url}/v1/records${query}`)).json.code).toBe('invalid_parameter')
    expect((await call(`${running.url}/v1/records?start=x`)).json.code).toBe('invalid_key')
  })

  test('writes each format that Accept can ask for, and no other', async () => {
    const running = await startForTest()
    await fill(running, [1n, 2n])
    const as = (accept: string) => call(`${running.url}/v1/records`, 'GET', { headers: { accept } })
    expect((await as('text/csv')).text).toBe('key,term,cmd,data\n1,1,2,aaa\n2,1,2,aaa\n')
    expect((await as('application/json')).json.entries).toHaveLength(2)
    expect((await as('application/vnd.kvidx.binary')).headers.get('content-type')).toBe('application/vnd.kvidx.binary')
    expect((await as('text/html')).status).toBe(406)
    expect(lines((await call(`${running.url}/v1/records?values=false&limit=1`)).text)[0]).toEqual({
      key: '1',
      term: '1',
      cmd: '2',
    })
  })

  test('leaves out what has expired, and so does the count', async () => {
    const running = await startForTest()
    await fill(running, [1n, 2n, 3n])
    await call(`${running.url}/v1/records/2/expiry?ttl=1ms`, 'PUT')
    await new Promise(resolve => setTimeout(resolve, 10))
    expect((await call(`${running.url}/v1/records`)).text).toContain('"count":"2"')
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('2')
    expect((await call(`${running.url}/v1/count?start=2&end=2`)).json.count).toBe('0')
    expect((await call(`${running.url}/v1/stats`)).json.count).toBe('3')
    const snapshot = await call(`${running.url}/v1/admin/snapshot`, 'GET', {
      headers: { accept: 'application/x-ndjson' },
    })
    expect(snapshot.headers.get('kvidx-count')).toBe('3')
    expect(lines(snapshot.text)).toHaveLength(4)
    expect(snapshot.headers.get('kvidx-digest')).toBe((await call(`${running.url}/v1/stats`)).json.digest)
    for (const key of [1, 3]) await call(`${running.url}/v1/records/${key}/expiry?ttl=1ms`, 'PUT')
    await new Promise(resolve => setTimeout(resolve, 10))
    expect((await call(`${running.url}/v1/stats`)).json).toMatchObject({ count: '3', minKey: '1', maxKey: '3' })
  })

  test('that fails in the middle ends without its last chunk, and one that fails at the start is a problem document', async () => {
    const failing = (after: number) =>
      startForTest({
        instead: database => ({
          scan: async () => ({
            position: database.state.position,
            state: database.state,
            chunks: (async function* () {
              for (let part = 0; part < after; part++) yield Buffer.from('{"key":"1"}\n')
              throw new KvidxError('engine_io', 'the disk is gone')
            })(),
          }),
        }),
      })
    const early = await call(`${(await failing(0)).url}/v1/records`)
    expect([early.status, early.json.code]).toEqual([500, 'engine_io'])
    const connection = await RawConnection.open((await failing(2)).url)
    connection.send('GET /v1/records HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const text = await connection.untilClosed()
    expect(text).toMatch(/^HTTP\/1\.1 200 /)
    expect(text).not.toMatch(/\r\n0\r\n\r\n$/)
    expect(text).not.toContain('"end"')
  })

  test('is asked for no more than the client reads, and given up when it goes away', async () => {
    let made = 0
    let given = false
    const running = await startForTest({
      instead: database => ({
        scan: async (_options, signal) => ({
          position: database.state.position,
          state: database.state,
          chunks: (async function* () {
            try {
              for (; !signal.aborted; made++) yield Buffer.alloc(256 * 1024, 10)
            } finally {
              given = true
            }
          })(),
        }),
      }),
    })
    const connection = await RawConnection.open(running.url)
    connection.socket.pause()
    connection.send('GET /v1/records HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect.poll(() => made, { timeout: 3000 }).toBeGreaterThan(1)
    await new Promise(resolve => setTimeout(resolve, 200))
    const then = made
    await new Promise(resolve => setTimeout(resolve, 200))
    expect(made).toBe(then)
    // what the kernel's buffers of two sockets take, and no more
    expect(made).toBeLessThan(80)
    connection.socket.destroy()
    await expect.poll(() => given, { timeout: 3000 }).toBe(true)
  })
})

describe('removing a range', () => {
  test('needs a bound or all=true, and tells how many there were', async () => {
    const running = await startForTest()
    await fill(running, [1n, 2n, 3n, 4n, 5n])
    const remove = (query: string) => call(`${running.url}/v1/records${query}`, 'DELETE')
    expect((await remove('')).json.code).toBe('range_required')
    expect((await remove('?all=false')).json.code).toBe('range_required')
    expect((await remove('?all=true&start=1')).json.code).toBe('invalid_parameter')
    const some = await remove('?start=2&end=4&endExclusive=true')
    expect(some.json).toEqual({ removed: '2', position: some.headers.get('kvidx-position') })
    const none = await remove('?start=2&end=3')
    expect(none.json).toEqual({ removed: '0', position: some.json.position })
    expect((await remove('?all=true')).json.removed).toBe('3')
  })

  test('above what one commit may hold offers slices, and does it in slices', async () => {
    const running = await startForTest()
    await fill(
      running,
      Array.from({ length: 1500 }, (_, key) => BigInt(key)),
    )
    const whole = await call(`${running.url}/v1/records?all=true`, 'DELETE')
    expect(whole.status).toBe(413)
    expect(whole.json).toMatchObject({ code: 'too_large', retryWith: 'atomic=false' })
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('1500')
    expect((await call(`${running.url}/v1/records?all=true&atomic=false`, 'DELETE')).json.removed).toBe('1500')
  })
})

describe('export and import', () => {
  test.each(['binary', 'json', 'csv', 'ndjson'])('%s goes out and comes back the same', async format => {
    const running = await startForTest()
    await fill(running, [0n, 1n, 1n << 63n, MAX])
    const file = await fetch(`${running.url}/v1/export?format=${format}`)
    const type = file.headers.get('content-type') as string
    const body = Buffer.from(await file.arrayBuffer())
    const digest = (await call(`${running.url}/v1/stats`)).json.digest
    await call(`${running.url}/v1/records?start=1`, 'DELETE')
    const post = (query: string) =>
      call(`${running.url}/v1/import${query}`, 'POST', { body, headers: { 'content-type': type } })
    const refused = await post('')
    expect([refused.status, refused.json.code]).toEqual([409, 'duplicate_key'])
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('1')
    expect((await post('?onDuplicate=skip')).json).toMatchObject({
      read: '4',
      imported: '3',
      skipped: '1',
      replaced: '0',
    })
    expect((await post('?onDuplicate=replace')).json).toMatchObject({ read: '4', replaced: '4' })
    expect((await call(`${running.url}/v1/stats`)).json.digest).toBe(digest)
    expect(
      (await call(`${running.url}/v1/import?format=csv`, 'POST', { body, headers: { 'content-type': type } })).status,
    ).toBe(format === 'csv' ? 409 : 400)
  })

  test("kvidxkit's own file comes in, and clear=true replaces everything", async () => {
    const running = await startForTest()
    await fill(running, [123456n])
    const body = golden('lmdb/export.bin')
    const done = await call(`${running.url}/v1/import?format=binary&clear=true`, 'POST', { body })
    expect(done.json).toMatchObject({ read: '45', imported: '45' })
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('45')
    expect(Buffer.from(await (await fetch(`${running.url}/v1/export`)).arrayBuffer()).equals(body)).toBe(true)
  })

  test('in slices it tells what is in already, whatever ends it', async () => {
    const running = await startForTest()
    await fill(running, [1n << 40n])
    const lines = (from: number, count: number) =>
      Array.from({ length: count }, (_, at) => `{"key":"${from + at}","data":"YQ=="}\n`).join('')
    const post = (body: RequestInit['body']) =>
      call(`${running.url}/v1/import?atomic=false`, 'POST', {
        body: body as string,
        headers: { 'content-type': 'application/x-ndjson' },
        duplex: 'half',
      } as RequestInit)
    const first = await post('{"key":"x"}\n')
    expect(first.json).toMatchObject({ code: 'invalid_body', imported: '0' })
    expect(first.json.position).toBeUndefined()
    // what was decoded together with the bad line is not in
    const bad = await post(`${lines(0, 19_000)}{"key":"x"}\n`)
    const { position } = (await call(`${running.url}/v1/stats`)).json
    expect([bad.status, bad.json]).toMatchObject([400, { code: 'invalid_body', imported: '10000', position }])
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('10001')
    const doubled = await post(`${lines(20_000, 10_000)}${lines(0, 1)}`)
    expect(doubled.json).toMatchObject({ code: 'duplicate_key', key: '0', imported: '10000' })

    const full = await post(
      ReadableStream.from(
        (async function* () {
          yield Buffer.from(lines(40_000, 10_001))
          await expect.poll(() => running.database.state.count).toBe(30_001n)
          running.database.noSpace = 'the volume is full'
          yield Buffer.from(lines(60_000, 10_000))
        })(),
      ),
    )
    running.database.noSpace = undefined
    expect([full.status, full.json]).toMatchObject([507, { code: 'no_space', imported: '10000' }])
    expect(full.json.position).toBe((await call(`${running.url}/v1/stats`)).json.position)
  })

  test('a damaged file is refused with the place, and nothing changes', async () => {
    const running = await startForTest()
    await fill(running, [7n])
    const body = golden('lmdb/export.bin')
    const post = (file: Buffer | string, query: string) =>
      call(`${running.url}/v1/import${query}`, 'POST', {
        body: file as string,
        headers: { 'content-type': 'application/octet-stream' },
      })
    for (const query of ['?format=binary', '?format=binary&clear=true']) {
      const cut = await post(body.subarray(0, body.length - 1000), query)
      expect(cut.status).toBe(400)
      expect(cut.json).toMatchObject({ code: 'invalid_body', record: expect.any(Number) })
    }
    const flipped = Buffer.from(body)
    flipped[0] = 1
    expect((await post(flipped, '?format=binary')).json.code).toBe('invalid_body')
    // the length of the second record: keys 0 and 1 lead the golden file
    const at = 24 + 32 + Number(body.readBigUInt64LE(24 + 24)) + 24
    for (const byte of [0, 7]) {
      const lengthened = Buffer.from(body)
      lengthened[at + byte] = 0x40
      const refused = await post(lengthened, '?format=binary')
      expect(['invalid_body', 'too_large']).toContain(refused.json.code)
      expect(refused.json.record).toBeGreaterThanOrEqual(1)
    }
    const line = await post('{"key":"1","term":"0","cmd":"0","data":""}\n{"key":1}\n', '?format=ndjson')
    expect(line.json).toMatchObject({ code: 'invalid_body', line: 2 })
    expect((await post('', '?format=csv')).json.code).toBe('invalid_body')
    expect((await call(`${running.url}/v1/count`)).json.count).toBe('1')
    expect((await call(`${running.url}/v1/records/7`)).text).toBe('aaa')
  })
})

describe('the change feed', () => {
  test('has one line for each change, from the middle of a commit as well', async () => {
    const running = await startForTest()
    const before = (await call(`${running.url}/v1/stats`)).json.position
    const batch = await call(`${running.url}/v1/batch`, 'POST', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        ops: [
          { op: 'put', key: '1', text: 'a', expiresAt: '1893456000000' },
          { op: 'expiry', key: '1' },
          { op: 'put', key: '2', term: '3', cmd: '4', text: 'b' },
          { op: 'delete', key: '1' },
          { op: 'deleteRange', start: '0', end: '9' },
        ],
      }),
    })
    expect(batch.status).toBe(200)
    const feed = await call(`${running.url}/v1/changes?since=${before}`)
    const all = lines(feed.text)
    expect(all.pop()).toEqual({ end: true, count: '5', position: batch.json.position })
    expect(
      all.map(({ op, key, start, end, removed, data, expiresAt }) => ({
        op,
        key,
        start,
        end,
        removed,
        data,
        expiresAt,
      })),
    ).toEqual([
      { op: 'put', key: '1', data: 'YQ==', expiresAt: '1893456000000' },
      { op: 'expiry', key: '1' },
      { op: 'put', key: '2', data: 'Yg==' },
      { op: 'delete', key: '1' },
      { op: 'deleteRange', start: '0', end: '9', removed: '1' },
    ])
    expect(new Set(all.map(line => line.commit))).toEqual(new Set([batch.json.position]))
    expect(all.at(-1)?.position).toBe(batch.json.position)
    const rest = lines((await call(`${running.url}/v1/changes?since=${all[2]?.position}`)).text)
    expect(rest.map(line => line.op ?? 'end')).toEqual(['delete', 'deleteRange', 'end'])
  })

  test('is a change file in binary', async () => {
    const running = await startForTest()
    const before = (await call(`${running.url}/v1/stats`)).json.position
    await fill(running, [1n, 2n])
    const feed = await fetch(`${running.url}/v1/changes?since=${before}`, {
      headers: { accept: 'application/vnd.kvidx.changes' },
    })
    const file = Buffer.from(await feed.arrayBuffer())
    expect(file.subarray(0, 8).toString()).toBe('KVIDXCHG')
    const splitter = new FrameSplitter()
    const frames = splitter.push(file.subarray(16))
    splitter.end()
    expect(frames.map(frame => readFrameHeader(frame).changeCount)).toEqual([2])
  })

  test('follows, at once and without an end, until the client goes away or the server stops', async () => {
    const running = await startForTest()
    const { position } = (await call(`${running.url}/v1/stats`)).json
    const connection = await RawConnection.open(running.url)
    connection.send(`GET /v1/changes?follow=true&since=${position} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    await connection.until(/^HTTP\/1\.1 200 /)
    for (const key of [5n, 6n]) {
      await fill(running, [key])
      await connection.until(new RegExp(`"key":"${key}"`))
    }
    await running.servers.closeData()
    const text = await connection.untilClosed()
    expect(text).toMatch(/"end":true,"count":"2"/)
    expect(text).toMatch(/\r\n0\r\n\r\n$/)
  })

  test('refuses positions of another history, in a problem document also when following', async () => {
    const { url } = await startForTest()
    for (const query of ['?since=1.99999999', '?since=99.1', '?follow=true&since=99.1']) {
      const refused = await call(`${url}/v1/changes${query}`)
      expect([query, refused.status, refused.json.code]).toEqual([query, 409, 'conflict'])
    }
    expect((await call(`${url}/v1/changes?since=5`)).json.code).toBe('invalid_parameter')
  })

  test('that was trimmed is a 410', async () => {
    const { url } = await startForTest({
      instead: () => ({
        async *changes() {
          yield* []
          throw new KvidxError('log_trimmed', 'the log begins behind 1.100', { position: '1.100' })
        },
      }),
    })
    const refused = await call(`${url}/v1/changes?since=1.2&follow=true`)
    expect([refused.status, refused.json.code, refused.json.position]).toEqual([410, 'log_trimmed', '1.100'])
  })
})

describe('stopping', () => {
  test('finishes what is under way, refuses what is new, and ends idle connections', async () => {
    const slow = Promise.withResolvers<void>()
    const running = await startForTest({
      instead: database => ({
        write: async request => {
          await slow.promise
          return database.write(request)
        },
      }),
    })
    const idle = await RawConnection.open(running.url)
    idle.send('GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await idle.until(/"count"/)
    const busy = call(`${running.url}/v1/records/1`, 'PUT', { body: 'x' })
    await new Promise(resolve => setTimeout(resolve, 50))
    const closed = running.servers.closeData()
    await idle.untilClosed()
    await expect(fetch(`${running.url}/v1/count`)).rejects.toThrow()
    expect((await fetch(`${running.servers.opsAddress}/health`)).status).toBe(200)
    slow.resolve()
    expect((await busy).status).toBe(201)
    await closed
  })

  test('does not wait for ever', async () => {
    const running = await startForTest({
      limits: { drainTimeout: 200 },
      instead: () => ({ write: () => new Promise(() => {}) }),
    })
    const busy = call(`${running.url}/v1/records/1`, 'PUT', { body: 'x' })
    busy.catch(() => {})
    await new Promise(resolve => setTimeout(resolve, 50))
    await running.servers.closeData()
    await expect(busy).rejects.toThrow()
  })
})
