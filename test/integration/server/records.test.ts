import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Answer, call, type Running, startAll } from './harness.ts'

// the same calls through the router and past it: nobody may see a difference
describe.each([
  ['on the fast path', true],
  ['through the router', false],
])('records %s', (_, fastPath) => {
  let running: Running
  let next = 1000
  beforeAll(async () => {
    running = await startAll({ fastPath })
  })
  afterAll(() => running.close())

  const at = (key: number | string | bigint, rest = ''): string => `${running.url}/v1/records/${key}${rest}`
  const fresh = (): number => next++
  const put = (key: number | string | bigint, body: string, rest = '', headers: Record<string, string> = {}) =>
    call(at(key, rest), 'PUT', { body, headers })
  const position = (answer: Answer) => answer.headers.get('kvidx-position')

  test('a record comes back with its fields, its ETag and the position of the snapshot', async () => {
    const key = fresh()
    const created = await put(key, 'hello', '?term=3&cmd=0xff')
    expect(created.status).toBe(201)
    expect(created.headers.get('etag')).toMatch(/^"[0-9a-f]{32}"$/)
    expect(position(created)).toMatch(/^\d+\.\d+$/)
    const read = await call(at(key))
    expect(read.status).toBe(200)
    expect(read.text).toBe('hello')
    expect(read.headers.get('content-type')).toBe('application/octet-stream')
    expect(read.headers.get('kvidx-term')).toBe('3')
    expect(read.headers.get('kvidx-cmd')).toBe('255')
    expect(read.headers.get('kvidx-expires-at')).toBeNull()
    expect(read.headers.get('etag')).toBe(created.headers.get('etag'))
    expect(position(read)).toBe(position(created))
  })

  test('bytes survive as they are, in every size that is sent another way', async () => {
    for (const size of [0, 1, 255, 16 * 1024, 16 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024]) {
      const key = fresh()
      const body = Buffer.alloc(size, Buffer.from(Array.from({ length: 256 }, (_, index) => index)))
      expect((await fetch(at(key), { method: 'PUT', body })).status).toBe(201)
      const read = await fetch(at(key))
      expect(read.headers.get('content-length')).toBe(String(size))
      expect(Buffer.from(await read.arrayBuffer()).equals(body)).toBe(true)
      const head = await fetch(at(key), { method: 'HEAD' })
      expect([head.headers.get('content-length'), await head.text()]).toEqual([String(size), ''])
    }
  })

  test('0, 2^53+1, 2^63 and 2^64-1 are ordinary keys, in decimal and in hex', async () => {
    for (const key of [0n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      await put(key, `v${key}`)
      expect((await call(at(key))).text).toBe(`v${key}`)
      expect((await call(at(`0x${key.toString(16)}`))).text).toBe(`v${key}`)
    }
  })

  test.each(['-1', '01', '1.0', 'abc', '0x', '0xg', '18446744073709551616', '0x10000000000000000', '%20', '+1', '1e3'])(
    'the key %s is refused with invalid_key',
    async key => {
      for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
        const rest = method === 'PATCH' ? '?op=append' : ''
        const refused = await call(at(key, rest), method, method === 'GET' || method === 'DELETE' ? {} : { body: 'x' })
        expect(refused.status).toBe(400)
        expect(refused.headers.get('content-type')).toBe('application/problem+json')
        expect(refused.json).toMatchObject({ code: 'invalid_key', status: 400, field: 'key' })
      }
    },
  )

  test('an absent record is a 404 with the position that it was judged at', async () => {
    const absent = await call(at(fresh()))
    expect(absent.status).toBe(404)
    expect(absent.json.code).toBe('not_found')
    expect(position(absent)).toMatch(/^\d+\.\d+$/)
  })

  test('HEAD gives the headers of GET and no body', async () => {
    const key = fresh()
    await put(key, 'hello', '?term=9')
    const head = await call(at(key), 'HEAD')
    expect(head.status).toBe(200)
    expect(head.text).toBe('')
    expect(head.headers.get('content-length')).toBe('5')
    expect(head.headers.get('kvidx-term')).toBe('9')
    expect((await call(at(fresh()), 'HEAD')).status).toBe(404)
  })

  test('Accept chooses bytes or JSON with base64, or is refused', async () => {
    const key = fresh()
    await put(key, 'hello', '?term=1&ttl=1h')
    const json = await call(at(key), 'GET', { headers: { accept: 'application/json' } })
    expect(json.json).toMatchObject({ key: String(key), term: '1', cmd: '0', data: 'aGVsbG8=' })
    expect(`"${json.json.etag}"`).toBe(json.headers.get('etag'))
    expect(json.json.expiresAt).toMatch(/^\d{13}$/)
    const preferred = await call(at(key), 'GET', {
      headers: { accept: 'text/html, application/json;q=0.4, application/*;q=0.9' },
    })
    expect(preferred.headers.get('content-type')).toBe('application/octet-stream')
    const refused = await call(at(key), 'GET', { headers: { accept: 'text/html' } })
    expect(refused.status).toBe(406)
    expect(refused.json.code).toBe('not_acceptable')
  })

  describe('conditions', () => {
    test('If-None-Match: * inserts only', async () => {
      const key = fresh()
      expect((await put(key, 'a', '', { 'if-none-match': '*' })).status).toBe(201)
      const refused = await put(key, 'b', '', { 'if-none-match': '*' })
      expect(refused.status).toBe(412)
      expect(refused.json.code).toBe('condition_failed')
      expect(refused.headers.get('etag')).toMatch(/^"[0-9a-f]{32}"$/)
      expect((await call(at(key))).text).toBe('a')
    })

    test('If-Match: * updates only', async () => {
      const key = fresh()
      const refused = await put(key, 'a', '', { 'if-match': '*' })
      expect(refused.status).toBe(412)
      expect(refused.headers.get('etag')).toBeNull()
      await put(key, 'a')
      expect((await put(key, 'b', '', { 'if-match': '*' })).status).toBe(204)
    })

    test('If-Match with an ETag compares and swaps, and a failure uses no position', async () => {
      const key = fresh()
      const first = await put(key, 'a')
      const tag = first.headers.get('etag') as string
      const second = await put(key, 'b', '', { 'if-match': tag })
      expect(second.status).toBe(204)
      const refused = await put(key, 'c', '', { 'if-match': tag })
      expect(refused.status).toBe(412)
      expect(position(refused)).toBe(position(second))
      expect(refused.headers.get('etag')).toBe(second.headers.get('etag'))
      expect((await call(at(key))).text).toBe('b')
    })

    test('a tag that no record can have is a failed condition, a malformed one is refused', async () => {
      const key = fresh()
      await put(key, 'a')
      for (const tag of ['"abc"', `W/"${'0'.repeat(32)}"`])
        expect((await put(key, 'b', '', { 'if-match': tag })).status).toBe(412)
      for (const headers of [{ 'if-match': 'abc' }, { 'if-none-match': '"abc"' }] as Array<Record<string, string>>) {
        const refused = await put(key, 'b', '', headers)
        expect(refused.status).toBe(400)
        expect(refused.json.code).toBe('invalid_parameter')
      }
      expect((await call(at(key))).text).toBe('a')
    })

    test('ifTerm holds against the term of the visible record', async () => {
      const key = fresh()
      await put(key, 'a', '?term=5')
      expect((await put(key, 'b', '?term=6&ifTerm=4')).status).toBe(412)
      expect((await put(key, 'b', '?term=6&ifTerm=5')).status).toBe(204)
      expect((await call(at(key, '?ifTerm=5'), 'DELETE')).status).toBe(412)
      expect((await call(at(key, '?ifTerm=6'), 'DELETE')).status).toBe(204)
    })

    test('reading honours If-Match and If-None-Match', async () => {
      const key = fresh()
      const tag = (await put(key, 'a')).headers.get('etag') as string
      expect((await call(at(key), 'GET', { headers: { 'if-none-match': `"x", ${tag}` } })).status).toBe(304)
      expect((await call(at(key), 'GET', { headers: { 'if-none-match': '"x"' } })).status).toBe(200)
      expect((await call(at(key), 'GET', { headers: { 'if-match': '"x"' } })).status).toBe(412)
      expect((await call(at(key), 'GET', { headers: { 'if-match': tag } })).status).toBe(200)
      expect((await call(at(fresh()), 'GET', { headers: { 'if-match': '*' } })).status).toBe(412)
    })
  })

  describe('return=previous', () => {
    test('gives the record as it was, with its own fields', async () => {
      const key = fresh()
      const created = await put(key, 'a', '?term=1&return=previous')
      expect(created.status).toBe(201)
      expect(created.text).toBe('')
      const second = await put(key, 'b', '?term=2&return=previous')
      expect(second.status).toBe(200)
      expect(second.text).toBe('a')
      expect(second.headers.get('kvidx-term')).toBe('1')
      expect(second.headers.get('etag')).toBe((await call(at(key))).headers.get('etag'))
      const third = await call(at(key, '?return=previous'), 'PUT', {
        body: 'c',
        headers: { accept: 'application/json' },
      })
      expect(third.json).toMatchObject({ previous: { key: String(key), term: '2', data: 'Yg==' } })
      expect(third.json.position).toBe(position(third))
    })

    test('of a delete is the record, or a 404 where there was none', async () => {
      const key = fresh()
      await put(key, 'a', '?cmd=7')
      const removed = await call(at(key, '?return=previous'), 'DELETE')
      expect(removed.status).toBe(200)
      expect(removed.text).toBe('a')
      expect(removed.headers.get('kvidx-cmd')).toBe('7')
      const again = await call(at(key, '?return=previous'), 'DELETE')
      expect(again.status).toBe(404)
      expect(again.json.code).toBe('not_found')
    })
  })

  test('DELETE answers 204 whether there was a record or not; only the first uses a position', async () => {
    const key = fresh()
    await put(key, 'a')
    const first = await call(at(key), 'DELETE')
    const second = await call(at(key), 'DELETE')
    expect([first.status, second.status]).toEqual([204, 204])
    expect(position(second)).toBe(position(first))
    expect((await call(at(key), 'DELETE', { headers: { 'if-match': '*' } })).status).toBe(412)
  })

  describe('PATCH', () => {
    test('append and prepend create, keep term, cmd and expiry, and tell the length', async () => {
      const key = fresh()
      expect((await call(at(key, '?op=append&term=4'), 'PATCH', { body: 'b' })).status).toBe(201)
      await call(at(key, '/expiry?ttl=1h'), 'PUT')
      const appended = await call(at(key, '?op=append&term=9'), 'PATCH', { body: 'c' })
      expect(appended.status).toBe(204)
      expect(appended.headers.get('kvidx-length')).toBe('2')
      await call(at(key, '?op=prepend'), 'PATCH', { body: 'a' })
      const read = await call(at(key))
      expect(read.text).toBe('abc')
      expect(read.headers.get('kvidx-term')).toBe('4')
      expect(read.headers.get('kvidx-expires-at')).not.toBeNull()
    })

    test('splice writes at an offset, fills a gap with zeros, and needs the record', async () => {
      const key = fresh()
      expect((await call(at(key, '?op=splice&offset=0'), 'PATCH', { body: 'x' })).status).toBe(404)
      await put(key, 'abcdef')
      await call(at(key, '?op=splice&offset=2'), 'PATCH', { body: 'XY' })
      expect((await call(at(key))).text).toBe('abXYef')
      await call(at(key, '?op=splice&offset=8'), 'PATCH', { body: 'Z' })
      expect((await call(at(key))).text).toBe('abXYef\0\0Z')
    })

    test.each([
      '',
      '?op=replace',
      '?op=splice',
      '?op=splice&offset=-1',
      '?op=append&offset=1',
      '?op=splice&offset=0&term=1',
    ])('PATCH %s is refused', async query => {
      const refused = await call(at(fresh(), query), 'PATCH', { body: 'x' })
      expect(refused.status).toBe(400)
      expect(refused.json.code).toBe('invalid_parameter')
    })
  })

  describe('expiry', () => {
    test('ttl needs a unit; both ttl and expiresAt, or malformed times, are refused', async () => {
      const key = fresh()
      for (const query of [
        '?ttl=60',
        '?ttl=0s',
        '?ttl=-1s',
        '?ttl=1h&expiresAt=5',
        '?expiresAt=0',
        '?expiresAt=2030-02-30T00:00:00Z',
        '?expiresAt=2030-01-01',
        '?expiresAt=18446744073709551616',
      ]) {
        const refused = await put(key, 'a', query)
        expect([query, refused.status]).toEqual([query, 400])
        expect(refused.json.code).toBe('invalid_parameter')
      }
      expect((await call(at(key))).status).toBe(404)
    })

    test('expiresAt is Unix ms or RFC 3339, in the query or in the header', async () => {
      const key = fresh()
      await put(key, 'a', '?expiresAt=1893456000000')
      expect((await call(at(key))).headers.get('kvidx-expires-at')).toBe('1893456000000')
      await put(key, 'a', '?expiresAt=2030-01-01T01:00:00.5%2B01:00')
      expect((await call(at(key))).headers.get('kvidx-expires-at')).toBe('1893456000500')
      await put(key, 'a', '', { 'kvidx-expires-at': '1893456000001', 'kvidx-term': '8' })
      const read = await call(at(key))
      expect(read.headers.get('kvidx-expires-at')).toBe('1893456000001')
      expect(read.headers.get('kvidx-term')).toBe('8')
      expect((await put(key, 'a', '?term=7', { 'kvidx-term': '8' })).status).toBe(400)
    })

    test('writing a record without an expiry clears the old one', async () => {
      const key = fresh()
      await put(key, 'a', '?ttl=1h')
      await put(key, 'b')
      expect((await call(at(key))).headers.get('kvidx-expires-at')).toBeNull()
    })

    test('an expired record is not there, and can be inserted', async () => {
      const key = fresh()
      await put(key, 'a', '?ttl=1ms')
      await new Promise(resolve => setTimeout(resolve, 10))
      expect((await call(at(key))).status).toBe(404)
      expect((await put(key, 'b', '', { 'if-none-match': '*' })).status).toBe(201)
    })

    test('it can be set and cleared, and needs the record', async () => {
      const key = fresh()
      expect((await call(at(key, '/expiry?ttl=1h'), 'PUT')).status).toBe(404)
      expect((await call(at(key, '/expiry'), 'DELETE')).status).toBe(404)
      await put(key, 'a')
      expect((await call(at(key, '/expiry'), 'PUT')).status).toBe(400)
      const set = await call(at(key, '/expiry?expiresAt=1893456000000'), 'PUT')
      expect(set.status).toBe(204)
      expect(set.headers.get('etag')).toBe((await call(at(key))).headers.get('etag'))
      const again = await call(at(key, '/expiry?expiresAt=1893456000000'), 'PUT')
      expect(position(again)).toBe(position(set))
      expect((await call(at(key, '/expiry'), 'DELETE')).status).toBe(204)
      expect((await call(at(key))).headers.get('kvidx-expires-at')).toBeNull()
    })
  })

  describe('ranges of bytes', () => {
    test.each([
      ['bytes=0-0', 206, '0', 'bytes 0-0/10'],
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
      ['bytes=7-', 206, '789', 'bytes 7-9/10'],
      ['bytes=7-100', 206, '789', 'bytes 7-9/10'],
      ['bytes=-3', 206, '789', 'bytes 7-9/10'],
      ['bytes=-30', 206, '0123456789', 'bytes 0-9/10'],
      ['bytes=5-2', 200, '0123456789', null],
      ['bytes=0-1,3-4', 200, '0123456789', null],
      ['items=0-1', 200, '0123456789', null],
      ['bytes=-', 200, '0123456789', null],
    ])('Range: %s answers %i', async (range, status, text, contentRange) => {
      await put(77, '0123456789')
      const read = await call(at(77), 'GET', { headers: { range } })
      expect([read.status, read.text, read.headers.get('content-range')]).toEqual([status, text, contentRange])
    })

    test('outside the data they are a 416 with the length', async () => {
      await put(77, '0123456789')
      for (const range of ['bytes=10-', 'bytes=-0']) {
        const refused = await call(at(77), 'GET', { headers: { range } })
        expect(refused.status).toBe(416)
        expect(refused.headers.get('content-range')).toBe('bytes */10')
        expect(refused.json.code).toBe('range_not_satisfiable')
      }
    })

    test('If-Range holds for the same ETag alone, and HEAD has no ranges', async () => {
      const tag = (await put(77, '0123456789')).headers.get('etag') as string
      const headers = { range: 'bytes=0-1' }
      expect((await call(at(77), 'GET', { headers: { ...headers, 'if-range': tag } })).status).toBe(206)
      expect((await call(at(77), 'GET', { headers: { ...headers, 'if-range': '"x"' } })).status).toBe(200)
      expect((await call(at(77), 'HEAD', { headers })).status).toBe(200)
    })
  })

  test('unknown and doubled parameters are refused, with what is allowed', async () => {
    const unknown = await put(fresh(), 'a', '?trem=1')
    expect(unknown.status).toBe(400)
    expect(unknown.json).toMatchObject({ code: 'unknown_parameter', field: 'trem' })
    expect(unknown.json.detail).toContain('did you mean term?')
    expect((await call(at(fresh(), '?x'))).json.code).toBe('unknown_parameter')
    expect((await put(fresh(), 'a', '?term=1&term=2')).json.code).toBe('invalid_parameter')
    expect((await put(fresh(), 'a', '?term=%zz')).json.code).toBe('invalid_parameter')
    expect((await put(fresh(), 'a', '?__proto__=1')).json.code).toBe('unknown_parameter')
  })

  test('a coded body is refused and a call without body takes none', async () => {
    const coded = await put(fresh(), 'a', '', { 'content-encoding': 'gzip' })
    expect(coded.status).toBe(415)
    const key = fresh()
    await put(key, 'a')
    expect((await call(at(key), 'DELETE', { body: 'x' })).json.code).toBe('invalid_body')
    expect((await call(at(key))).status).toBe(200)
  })
})
