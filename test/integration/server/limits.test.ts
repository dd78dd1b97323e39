import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { Operation } from '../../../sidecar/database/operation.ts'
import { startServers } from '../../../sidecar/server/servers.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { call, RawConnection, silent, startForTest } from './harness.ts'

/** Every bound has an answer; afterwards the database is as it was, and the connection or at least the process serves on. */

const GET = 'GET /v1/count HTTP/1.1\r\nHost: localhost\r\n\r\n'
const COUNT = /"count":"0"/

describe('a body above the limit', () => {
  const limits = { recordBytes: 1000, discardBytes: 100_000 }

  test('is refused by its announced length before it comes, and the connection serves on', async () => {
    const { url } = await startForTest({ limits })
    const connection = await RawConnection.open(url)
    connection.send('PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n')
    const head = await connection.until(/too_large/)
    expect(head).toMatch(/^HTTP\/1\.1 413 /)
    expect(head).toContain('"limit":1000')
    connection.send('x'.repeat(1001)).send(GET)
    await connection.until(COUNT)
    expect(connection.closed).toBe(false)
  })

  test('is refused when it grows past it in chunks, and the connection serves on', async () => {
    const { url } = await startForTest({ limits })
    const connection = await RawConnection.open(url)
    connection.send('PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n')
    for (let part = 0; part < 3; part++) connection.send(`190\r\n${'x'.repeat(400)}\r\n`)
    await connection.until(/^HTTP\/1\.1 413 /)
    connection.send('0\r\n\r\n').send(GET)
    await connection.until(COUNT)
  })

  test('that is far too large ends the connection, with the answer before', async () => {
    const { url } = await startForTest({ limits })
    const connection = await RawConnection.open(url)
    connection.send('PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n')
    const head = await connection.until(/too_large/)
    expect(head).toMatch(/connection: close/i)
    for (let part = 0; part < 20 && !connection.closed; part++) {
      connection.send(Buffer.alloc(100_000))
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    expect(await connection.untilClosed()).toMatch(/^HTTP\/1\.1 413 /)
    expect((await call(`${url}/v1/count`)).status).toBe(200)
  })

  test('is refused before 100 Continue; what is allowed gets it', async () => {
    const { url } = await startForTest({ limits })
    const put = (length: number) =>
      `PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`
    const refused = await RawConnection.open(url)
    refused.send(put(1001))
    expect(await refused.untilClosed()).toMatch(/^HTTP\/1\.1 413 /)
    const welcome = await RawConnection.open(url)
    welcome.send(put(5))
    await welcome.until(/^HTTP\/1\.1 100 Continue/)
    welcome.send('hello')
    await welcome.until(/HTTP\/1\.1 201 /)
  })

  test('of a batch names the limit and the other format', async () => {
    const { url } = await startForTest({ limits: { ...limits, jsonBatchBytes: 500, batchBytes: 5000 } })
    const refused = await call(`${url}/v1/batch`, 'POST', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ops: [{ op: 'put', key: 1, text: 'x'.repeat(600) }] }),
    })
    expect(refused.json).toMatchObject({ code: 'too_large', limit: 500 })
    expect(refused.json.detail).toContain('application/x-ndjson')
  })
})

describe('a batch', () => {
  test('with too many operations, or one with too much data, is refused whole', async () => {
    const { url } = await startForTest({ limits: { batchOperations: 3, recordBytes: 10 } })
    const batch = (ops: unknown[]) =>
      call(`${url}/v1/batch`, 'POST', {
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ ops }),
      })
    expect((await batch(Array.from({ length: 4 }, (_, key) => ({ op: 'put', key })))).json).toMatchObject({
      code: 'too_large',
      limit: 3,
    })
    expect(
      (
        await batch([
          { op: 'put', key: 1 },
          { op: 'put', key: 2, text: 'x'.repeat(11) },
        ])
      ).json,
    ).toMatchObject({
      code: 'too_large',
      operation: 1,
    })
    expect((await call(`${url}/v1/count`)).json.count).toBe('0')
  })
})

describe('return=previous', () => {
  const MIB = 1024 * 1024
  const limits = { recordBytes: 2 * MIB, bufferedBytes: 3 * MIB }
  const large = (key: bigint, length = MIB): Operation => ({
    op: 'put',
    key,
    term: 0n,
    cmd: 0n,
    data: new Uint8Array(length),
  })
  const batch = (url: string, ops: unknown[]) =>
    call(`${url}/v1/batch`, 'POST', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ops }),
    })
  /** A client that has announced a body holds the memory for it. */
  const holdMemory = async (url: string, bytes: number) => {
    const connection = await RawConnection.open(url)
    connection.send(
      `PUT /v1/records/9 HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${bytes}\r\nExpect: 100-continue\r\n\r\n`,
    )
    await connection.until(/100 Continue/)
    return connection
  }

  test('without memory for the answer is a 429 before anything is done', async () => {
    const { url, database } = await startForTest({ limits })
    await database.write({ operations: [large(1n), large(2n)] })
    const before = database.state.position
    const other = await holdMemory(url, 2 * MIB)
    await holdMemory(url, MIB / 2)
    const removed = () => call(`${url}/v1/records/1?return=previous`, 'DELETE')
    expect((await removed()).status).toBe(429)
    expect((await batch(url, [{ op: 'delete', key: 2, return: 'previous' }])).status).toBe(429)
    expect(database.state.position).toEqual(before)
    other.socket.destroy()
    // twice as much as there is memory for: what was set aside is given back
    for (const key of [1n, 2n, 1n, 2n, 1n, 2n]) {
      await database.write({ operations: [large(key)] })
      const answer = await fetch(`${url}/v1/records/${key}?return=previous`, { method: 'DELETE' })
      expect([answer.status, (await answer.arrayBuffer()).byteLength]).toEqual([200, MIB])
    }
  })

  test('that was done is answered, also when the record has grown in between', async () => {
    const { url, database } = await startForTest({
      limits,
      instead: real => ({
        write: async request => {
          await real.write({ operations: [large(1n, 2 * MIB)] })
          return real.write(request)
        },
      }),
    })
    await holdMemory(url, 2 * MIB)
    for (const accept of ['application/octet-stream', 'application/json']) {
      const answer = await fetch(`${url}/v1/records/1?return=previous`, { method: 'DELETE', headers: { accept } })
      expect(answer.status).toBe(200)
      expect((await answer.arrayBuffer()).byteLength).toBeGreaterThanOrEqual(2 * MIB)
    }
    const { status, json } = await batch(url, [{ op: 'delete', key: 1, return: 'previous' }])
    expect(status).toBe(200)
    expect(json.results[0].previous.data).toHaveLength(Math.ceil((2 * MIB) / 3) * 4)
    expect(database.state.count).toBe(0n)
  })

  test('of a batch with more than one commit may answer is a 413, and nothing is done', async () => {
    const { url, database } = await startForTest()
    for (let key = 1n; key <= 3n; key++) await database.write({ operations: [large(key, 2 * MIB)] })
    const refused = await batch(
      url,
      [1, 2, 3].map(key => ({ op: 'delete', key, return: 'previous' })),
    )
    expect(refused.json).toMatchObject({ status: 413, code: 'too_large', maxBytes: 4 * MIB })
    expect(database.state.count).toBe(3n)
  })
})

describe('half a request', () => {
  test('whose client goes away changes nothing and costs nothing', async () => {
    const { url, database } = await startForTest()
    const before = database.state.position
    for (const text of [
      'GET /v1/rec',
      'PUT /v1/records/1 HTTP/1.1\r\nHost: loc',
      'PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello',
      'PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
      'POST /v1/import?format=csv HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n18\r\nkey,term,cmd,data\n1,1,1,a\r\n',
      'POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{"op":"put","key":1}\n',
    ]) {
      const connection = await RawConnection.open(url)
      connection.send(text)
      await new Promise(resolve => setTimeout(resolve, 30))
      connection.socket.destroy()
    }
    await new Promise(resolve => setTimeout(resolve, 100))
    expect((await call(`${url}/v1/count`)).json.count).toBe('0')
    expect(database.state.position).toEqual(before)
  })

  test('whose headers do not come is a 408', async () => {
    const { url } = await startForTest({ limits: { headersTimeout: 300 } })
    const connection = await RawConnection.open(url)
    connection.send('GET /v1/count HTTP/1.1\r\nHost: localhost\r\n')
    const text = await connection.untilClosed()
    expect(text).toMatch(/^HTTP\/1\.1 408 /)
    expect(text).toContain('request_timeout')
  })

  test.each([
    ['PUT', '/v1/records/1', ''],
    ['POST', '/v1/import?format=binary', ''],
    ['POST', '/v1/batch', 'Content-Type: application/x-ndjson\r\n'],
  ])('of %s %s whose body stops is a 408, and a drop at a time does not help', async (method, path, header) => {
    const { url } = await startForTest({ limits: { idleTimeout: 200, minimumRate: 1000 } })
    const connection = await RawConnection.open(url)
    connection.send(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${header}Content-Length: 100000\r\n\r\n\0K`)
    const text = await connection.until(/request_timeout/)
    expect(text).toMatch(/^HTTP\/1\.1 408 /)
    // an import is not held: its pace is also that of the database
    if (path.startsWith('/v1/import')) return
    const slow = await RawConnection.open(url)
    slow.send(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${header}Content-Length: 100000\r\n\r\n`)
    const drops = setInterval(() => slow.send('x'), 30)
    expect(await slow.until(/slower than/)).toMatch(/^HTTP\/1\.1 408 /)
    clearInterval(drops)
    expect((await call(`${url}/v1/count`)).json.count).toBe('0')
  })
})

describe('what is no HTTP', () => {
  test.each([
    ['nonsense', 'hello\r\n\r\n', /^HTTP\/1\.1 400 [\s\S]*malformed_request/],
    ['a bad method', 'FETCH / HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 [\s\S]*malformed_request/],
    [
      'both lengths',
      'PUT /v1/records/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      /^HTTP\/1\.1 400 [\s\S]*malformed_request/,
    ],
    [
      'a bad chunk',
      'PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      /^HTTP\/1\.1 400 [\s\S]*malformed_request/,
    ],
    ['long headers', `GET / HTTP/1.1\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431 [\s\S]*headers_too_large/],
  ])('%s is answered with a problem document and closed', async (_, text, expected) => {
    const { url } = await startForTest()
    const connection = await RawConnection.open(url)
    connection.send(text)
    expect(await connection.untilClosed()).toMatch(expected)
    expect((await call(`${url}/v1/count`)).json.count).toBe('0')
  })
})

describe('a client that does not read', () => {
  test('is let go, and the snapshot with it', async () => {
    const { url, database } = await startForTest({ limits: { idleTimeout: 300 } })
    for (let key = 0n; key < 40n; key++)
      await database.write({ operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: new Uint8Array(1 << 20) }] })
    const stuck = await RawConnection.open(url)
    stuck.socket.pause()
    stuck.send('GET /v1/export HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const large = await RawConnection.open(url)
    large.socket.pause()
    for (let i = 0; i < 20; i++) large.send('GET /v1/records/1 HTTP/1.1\r\nHost: localhost\r\n\r\n')
    // the limit and its watch, also where other work keeps them waiting
    await new Promise(resolve => setTimeout(resolve, 3000))
    for (const connection of [stuck, large]) {
      connection.socket.resume()
      expect(await connection.untilClosed()).not.toMatch(/\r\n0\r\n\r\n$/)
    }
    expect((await call(`${url}/v1/count`)).json.count).toBe('40')
  })
})

describe('large JSON answers', () => {
  const MIB = 1024 * 1024
  const limits = { bufferedBytes: 12 * MIB, idleTimeout: 3000 }
  const GET_JSON = 'GET /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n'
  const ops = JSON.stringify({
    ops: [
      { op: 'delete', key: 1, return: 'previous' },
      { op: 'put', key: 1, ifMatch: '*' },
    ],
  })
  const BATCH = `POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${ops.length}\r\n\r\n${ops}`
  const start = async () => {
    const running = await startForTest({ limits })
    await running.database.write({
      operations: [{ op: 'put', key: 1n, term: 0n, cmd: 0n, data: new Uint8Array(4 * MIB) }],
    })
    const json = () => call(`${running.url}/v1/records/1`, 'GET', { headers: { accept: 'application/json' } })
    return { ...running, json }
  }

  test.each([
    ['of a record', GET_JSON],
    ['of a batch that was not done', BATCH],
  ])(
    '%s hold memory within the bound, and a client that does not read them is let go',
    {
      timeout: 40_000,
    },
    async (_, request) => {
      const { url } = await start()
      const slow: RawConnection[] = []
      const began = performance.now()
      for (let i = 0; i < 8; i++) {
        const connection = await RawConnection.open(url)
        connection.socket.pause()
        // more than the kernel takes in the client's place
        slow.push(connection.send(request).send(request).send(request))
      }
      // beside two such answers there is no memory for this, beside one there is
      const put = async () => (await call(`${url}/v1/records/2`, 'PUT', { body: 'x'.repeat(1.5 * MIB) })).status
      await expect.poll(put, { timeout: 10_000, interval: 10 }).toBe(429)
      // others are served
      expect((await call(`${url}/v1/count`)).status).toBe(200)
      await expect.poll(put, { timeout: 10_000, interval: 50 }).toBe(204)
      expect(performance.now() - began).toBeGreaterThan(limits.idleTimeout)
      for (const { socket } of slow) socket.resume()
      await expect.poll(() => slow.some(({ closed }) => closed), { timeout: 15_000, interval: 50 }).toBe(true)
      for (const { received } of slow) expect(received.length).toBeLessThan(2 * 5.5 * MIB)
    },
  )

  test('that are read are whole, and counted as what they are', async () => {
    const { url, json, servers } = await start()
    for (let i = 0; i < 5; i++) {
      const answer = await json()
      expect([answer.status, answer.json.data.length]).toEqual([200, Math.ceil((4 * MIB) / 3) * 4])
      const refused = await call(`${url}/v1/batch`, 'POST', {
        headers: { 'content-type': 'application/json' },
        body: ops,
      })
      expect(refused.status).toBe(412)
      expect(refused.json).toMatchObject({ code: 'condition_failed', operation: 1 })
      expect(refused.json.results[0].previous.data).toHaveLength(Math.ceil((4 * MIB) / 3) * 4)
    }
    const metrics = await (await fetch(`${servers.opsAddress}/metrics`)).text()
    expect(metrics).toMatch(/duration_seconds_count\{operation="batch",outcome="rejected"\} 5$/m)
  })
})

describe('before the engine is open', () => {
  test('no position is claimed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'server-unopened-'))
    onTestFinished(() => rm(directory, { recursive: true, force: true }))
    const database = new LocalDatabase(
      databaseConfig({ name: 'orders', engine: 'SQLite', dataDirectory: directory }),
      systemClock,
      silent,
    )
    const servers = await startServers(
      database,
      { data: { host: '127.0.0.1', port: 0 }, operations: { host: '127.0.0.1', port: 0 } },
      silent,
    )
    onTestFinished(() => servers.close())
    const read = () => call(`${servers.dataAddress}/v1/records/1`)
    const early = await read()
    expect([early.status, early.json.code, early.headers.get('kvidx-position')]).toEqual([503, 'not_ready', null])
    await database.open(new AbortController().signal)
    onTestFinished(() => database.close())
    const late = await read()
    expect([late.status, late.headers.get('kvidx-position')]).toEqual([404, '1.0'])
  })
})

describe('too much at one time', () => {
  test('streams past the limit are a 429 with Retry-After', async () => {
    const { url, database } = await startForTest({ limits: { streams: 1, followers: 1 } })
    for (let key = 0n; key < 20n; key++)
      await database.write({ operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: new Uint8Array(1 << 20) }] })
    const stuck = await RawConnection.open(url)
    stuck.socket.pause()
    stuck.send('GET /v1/export HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect
      .poll(async () => (await call(`${url}/v1/records?limit=1`)).status, { timeout: 3000, interval: 20 })
      .toBe(429)
    const refused = await call(`${url}/v1/records?limit=1`)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(refused.json).toMatchObject({ code: 'overloaded', retryable: true })
    stuck.socket.destroy()
    await expect
      .poll(async () => (await call(`${url}/v1/records?limit=1`)).status, { timeout: 3000, interval: 20 })
      .toBe(200)
    const follower = await RawConnection.open(url)
    follower.send('GET /v1/changes?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await follower.until(/200 OK/)
    expect((await call(`${url}/v1/changes?follow=true`)).status).toBe(429)
  })

  test('bodies past the memory for them are a 429, and the memory comes back', async () => {
    const { url } = await startForTest({ limits: { bufferedBytes: 30_000, recordBytes: 20_000 } })
    const half = await RawConnection.open(url)
    half.send(`PUT /v1/records/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n${'x'.repeat(10_000)}`)
    const put = (key: number) => call(`${url}/v1/records/${key}`, 'PUT', { body: 'x'.repeat(18_000) })
    await expect.poll(async () => (await put(2)).status, { timeout: 3000, interval: 20 }).toBe(429)
    half.send('x'.repeat(10_000))
    await half.until(/201 Created/)
    expect((await put(3)).status).toBe(201)
    for (let i = 0; i < 5; i++) expect((await put(3)).status).toBe(204)
  })

  test('lines of unknown length take memory as they come, and no more than there is', async () => {
    const { url } = await startForTest({ limits: { bufferedBytes: 100_000, batchBytes: 90_000 } })
    const head =
      'POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n'
    const chunk = (key: number, length: number) => {
      const line = `{"op":"put","key":"${key}","text":"${'x'.repeat(length)}"}\n`
      return `${line.length.toString(16)}\r\n${line}\r\n`
    }
    const open = [await RawConnection.open(url), await RawConnection.open(url), await RawConnection.open(url)]
    for (const [key, connection] of open.entries()) connection.send(head).send(chunk(key, 20_000))
    await new Promise(resolve => setTimeout(resolve, 100))
    const [first, second, third] = open as [RawConnection, RawConnection, RawConnection]
    first.send(chunk(7, 60_000))
    expect(await first.until(/overloaded/)).toMatch(/^HTTP\/1\.1 429 /)
    for (const connection of [second, third]) {
      connection.send('0\r\n\r\n')
      expect(await connection.until(/"results"/)).toMatch(/^HTTP\/1\.1 200 /)
    }
    expect((await call(`${url}/v1/count`)).json.count).toBe('2')
  })

  test('connections past the limit are closed at once', async () => {
    const { url } = await startForTest({ limits: { connections: 2 } })
    const kept = [await RawConnection.open(url), await RawConnection.open(url)]
    const third = await RawConnection.open(url)
    await third.untilClosed()
    kept[0]?.send(GET)
    await kept[0]?.until(COUNT)
  })
})

test('a removal in slices hears that its client went away', async () => {
  let begun = false
  let heard = false
  const { url } = await startForTest({
    instead: () => ({
      removeRangeSliced: (_, signal) => {
        begun = true
        return new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            heard = true
            reject(signal.reason)
          })
        })
      },
    }),
  })
  const client = new AbortController()
  const asked = fetch(`${url}/v1/records?all=true&atomic=false`, { method: 'DELETE', signal: client.signal })
  await expect.poll(() => begun).toBe(true)
  client.abort()
  await expect(asked).rejects.toThrow()
  await expect.poll(() => heard).toBe(true)
})

describe('what the database refuses', () => {
  const refusing = (error: KvidxError) =>
    startForTest({
      instead: () => ({
        write: () => Promise.reject(error),
        removeRangeSliced: () => Promise.reject(error),
        import: () => Promise.reject(error),
      }),
    })

  test.each([
    ['overloaded', 429, '1'],
    ['no_space', 507, '30'],
    ['not_ready', 503, '2'],
  ] as const)('%s is a %i with Retry-After', async (code, status, retryAfter) => {
    const { url } = await refusing(new KvidxError(code, 'as it is'))
    const refused = await call(`${url}/v1/records/1`, 'PUT', { body: 'x' })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([status, retryAfter])
    expect(refused.json).toMatchObject({ code, detail: 'as it is', retryable: true })
  })

  test('an unknown outcome is a 503 without a position and without an invitation to repeat', async () => {
    const { url } = await refusing(new KvidxError('unknown_outcome', 'the writer died'))
    const refused = await call(`${url}/v1/records/1`, 'PUT', { body: 'x' })
    expect(refused.status).toBe(503)
    expect(refused.json).toMatchObject({ code: 'unknown_outcome', retryable: false })
    expect(refused.headers.get('kvidx-position')).toBeNull()
    expect(refused.headers.get('retry-after')).toBeNull()
  })

  test('too_large offers atomic=false where that helps', async () => {
    const { url } = await refusing(new KvidxError('too_large', 'above limits.atomicRecords'))
    const range = await call(`${url}/v1/records?all=true`, 'DELETE')
    expect(range.json).toMatchObject({ code: 'too_large', retryWith: 'atomic=false' })
    const file = await call(`${url}/v1/import?format=csv`, 'POST', { body: 'key,data\n' })
    expect(file.json).toMatchObject({ code: 'too_large', retryWith: 'atomic=false' })
    const record = await call(`${url}/v1/records/1`, 'PUT', { body: 'x' })
    expect(record.json.retryWith).toBeUndefined()
  })

  test('what nobody foresaw is an internal error, without its inner parts', async () => {
    const { url } = await startForTest({
      instead: () => ({
        write: () => {
          throw new TypeError('cannot read x of undefined')
        },
      }),
    })
    const refused = await call(`${url}/v1/records/1`, 'PUT', { body: 'x' })
    expect(refused.status).toBe(500)
    expect(refused.json.code).toBe('internal')
    expect(refused.text).not.toContain('sidecar/')
  })
})

test('bodies of unknown kinds are a 415 that names what is allowed', async () => {
  const { url } = await startForTest()
  for (const [path, type] of [
    ['/v1/batch', 'text/plain'],
    ['/v1/import', 'text/plain'],
    ['/v1/import', 'application/octet-stream'],
    ['/v1/import?format=binary', 'application/pdf'],
  ] as const) {
    const refused = await call(`${url}${path}`, 'POST', { body: 'x', headers: { 'content-type': type } })
    expect([path, refused.status, refused.json.code]).toEqual([path, 415, 'unsupported_media_type'])
    expect(refused.json.detail).toContain('allowed')
  }
  expect(
    (await call(`${url}/v1/import?format=json`, 'POST', { body: 'x', headers: { 'content-type': 'text/csv' } })).status,
  ).toBe(400)
})

test('other addresses and methods are told apart', async () => {
  const { url } = await startForTest()
  const unknown = await call(`${url}/v2/records`)
  expect([unknown.status, unknown.json.code]).toEqual([404, 'no_such_route'])
  for (const path of ['/v1/records/', '/v1/records/1/2', '/v1//records', '/v1/records/%zz'])
    expect([400, 404]).toContain((await call(`${url}${path}`)).status)
  const method = await call(`${url}/v1/records/1`, 'POST')
  expect([method.status, method.json.code]).toEqual([405, 'method_not_allowed'])
  expect(method.headers.get('allow')).toBe('GET, HEAD, PUT, PATCH, DELETE')
  expect((await call(`${url}/v1/batch`, 'OPTIONS')).headers.get('allow')).toBe('POST')
})
