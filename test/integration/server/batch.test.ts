import { crc32c } from '@node-rs/crc32'
import { describe, expect, test } from 'vitest'
import { CHANGE_FILE_HEADER, FRAME_HEADER, FRAME_PREFIX } from '../../../sidecar/database/frame.ts'
import type { Operation } from '../../../sidecar/database/operation.ts'
import { encodeOperations } from '../../../sidecar/database/operation-codec.ts'
import { call, startForTest } from './harness.ts'

const post = (url: string, body: string | Buffer, type = 'application/json') =>
  call(`${url}/v1/batch`, 'POST', { body: body as string, headers: { 'content-type': type } })
const ops = (...list: unknown[]) => JSON.stringify({ ops: list })

describe('a JSON batch', () => {
  test('does every operation in one commit and answers for each', async () => {
    const { url } = await startForTest()
    const done = await post(
      url,
      ops(
        { op: 'insert', key: '1', term: '2', cmd: '3', data: 'YWJj', ttl: '1h' },
        { op: 'put', key: 2, text: 'é' },
        { op: 'update', key: '0x2', text: 'e', return: 'previous' },
        { op: 'append', key: '1', text: 'd' },
        { op: 'prepend', key: '1', text: '_' },
        { op: 'splice', key: '1', offset: 1, text: 'X' },
        { op: 'expiry', key: '1' },
        { op: 'delete', key: '9' },
        { op: 'deleteRange', start: '2', end: '18446744073709551615' },
      ),
    )
    expect(done.status).toBe(200)
    expect(done.json.position).toBe(done.headers.get('kvidx-position'))
    expect(done.json.results.map((result: { outcome: string }) => result.outcome)).toEqual([
      ...Array.from({ length: 7 }, () => 'changed'),
      'unchanged',
      'changed',
    ])
    expect(done.json.results[2].previous).toEqual({ key: '2', term: '0', cmd: '0', data: 'w6k=' })
    expect(done.json.results[4].length).toBe(5)
    expect(done.json.results[8].removed).toBe('1')
    const read = await call(`${url}/v1/records/1`)
    expect(read.text).toBe('_Xbcd')
    expect(read.headers.get('etag')).toBe(`"${done.json.results[6].etag}"`)
    expect(read.headers.get('kvidx-expires-at')).toBeNull()
  })

  test('is undone whole by a condition that fails or a record that is missing, and says which', async () => {
    const { url } = await startForTest()
    const before = (await post(url, ops({ op: 'put', key: '1', text: 'a' }))).json.position
    const failed = await post(
      url,
      ops(
        { op: 'put', key: '2', text: 'x' },
        { op: 'insert', key: '1', text: 'b' },
        { op: 'put', key: '3', text: 'y' },
      ),
    )
    expect(failed.status).toBe(412)
    expect(failed.json).toMatchObject({ code: 'condition_failed', operation: 1 })
    expect(failed.json.results).toHaveLength(2)
    expect(failed.headers.get('kvidx-position')).toBe(before)
    const missing = await post(
      url,
      ops({ op: 'put', key: '2', text: 'x' }, { op: 'splice', key: '7', offset: 0, text: 'b' }),
    )
    expect(missing.status).toBe(404)
    expect(missing.json).toMatchObject({ code: 'not_found', operation: 1 })
    expect((await call(`${url}/v1/count`)).json.count).toBe('1')
  })

  test('knows ifMatch, ifNoneMatch and ifTerm', async () => {
    const { url } = await startForTest()
    const { etag } = (await post(url, ops({ op: 'put', key: '1', term: '5', text: 'a' }))).json.results[0]
    const status = async (condition: object) =>
      (await post(url, ops({ op: 'put', key: '1', term: '5', text: 'a', ...condition }))).status
    expect(await status({ ifMatch: '*' })).toBe(200)
    expect(await status({ ifMatch: etag })).toBe(200)
    expect(await status({ ifMatch: `"${etag}"`, ifTerm: '5' })).toBe(200)
    expect(await status({ ifMatch: '0'.repeat(32) })).toBe(412)
    expect(await status({ ifTerm: '4' })).toBe(412)
    expect(await status({ ifNoneMatch: '*' })).toBe(412)
  })

  test('of many operations has a result for each', async () => {
    const { url } = await startForTest()
    const done = await post(url, ops(...Array.from({ length: 4001 }, (_, key) => ({ op: 'put', key, text: 'x' }))))
    expect(done.json.results).toHaveLength(4001)
    expect(done.json.results[4000].etag).toBe(
      (await call(`${url}/v1/records/4000`)).headers.get('etag')?.replaceAll('"', ''),
    )
  })

  test('without operations is no change', async () => {
    const { url } = await startForTest()
    expect((await post(url, ops())).json.results).toEqual([])
  })
})

describe('a batch of lines', () => {
  test('is the same, and names the line that is wrong', async () => {
    const { url } = await startForTest()
    const body = '{"op":"put","key":"1","text":"a"}\n\n{"op":"append","key":"1","text":"b"}'
    expect((await post(url, body, 'application/x-ndjson')).json.results).toHaveLength(2)
    expect((await call(`${url}/v1/records/1`)).text).toBe('ab')
    for (const [bad, code] of [
      ['{"op":"put","key":"x"}', 'invalid_key'],
      ['{"op":', 'invalid_body'],
      ['[]', 'invalid_body'],
      ['{"op":"put","key":"3","text":"\xff"}', 'invalid_body'],
    ] as const) {
      const lines = Buffer.from(`{"op":"put","key":"2"}\n${bad}\n`, 'latin1')
      const refused = await post(url, lines, 'application/x-ndjson; charset=utf-8')
      expect(refused.status).toBe(400)
      expect(refused.json).toMatchObject({ code, line: 2 })
    }
    expect((await call(`${url}/v1/count`)).json.count).toBe('1')
  })
})

describe('a binary batch', () => {
  const TYPE = 'application/vnd.kvidx.operations'
  const list: Operation[] = [
    { op: 'put', key: (1n << 64n) - 1n, term: 1n, cmd: 2n, data: Buffer.from('abc'), condition: { absent: true } },
    { op: 'append', key: (1n << 64n) - 1n, term: 0n, cmd: 0n, data: Buffer.from('d') },
  ]

  test('does the same', async () => {
    const { url } = await startForTest()
    expect((await post(url, encodeOperations(list), TYPE)).json.results).toHaveLength(2)
    expect((await call(`${url}/v1/records/18446744073709551615`)).text).toBe('abcd')
    expect((await post(url, encodeOperations(list), TYPE)).status).toBe(412)
  })

  test.each([
    ['ifTerm', { term: 1n }, 9],
    ['ifDigest', { digest: 1n }, 17],
  ] as const)(
    'is refused with %s twice before one operation: the first would count for nothing',
    async (name, condition, size) => {
      const { url } = await startForTest()
      const once = encodeOperations([{ op: 'put', key: 1n, term: 0n, cmd: 0n, data: Buffer.from('x'), condition }])
      const at = CHANGE_FILE_HEADER + FRAME_HEADER
      const twice = Buffer.concat([once.subarray(0, at + size), once.subarray(at)])
      const frame = twice.subarray(CHANGE_FILE_HEADER)
      frame.writeUInt32LE(frame.length - FRAME_PREFIX, 0)
      frame.writeUInt32LE(crc32c(frame.subarray(FRAME_PREFIX)), 4)
      expect((await post(url, twice, TYPE)).json).toMatchObject({
        code: 'invalid_body',
        detail: expect.stringContaining(`${name} stands twice`),
      })
    },
  )

  test('is refused whole for every byte that is cut off or flipped', async () => {
    const { url } = await startForTest()
    const body = encodeOperations(list)
    for (let at = 0; at < body.length; at += 3) {
      const flipped = Buffer.from(body)
      flipped[at] = (flipped[at] as number) ^ 0x40
      for (const damaged of [body.subarray(0, at), flipped]) {
        const refused = await post(url, damaged, TYPE)
        expect([at, [400, 413].includes(refused.status)]).toEqual([at, true])
      }
    }
    expect((await call(`${url}/v1/count`)).json.count).toBe('0')
  })
})
