import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Log } from '../../../sidecar/server/log.ts'
import type { LogPolicy } from '../../../sidecar/server/log-policy.ts'
import { slowest, stagesOf } from '../../../sidecar/server/stages.ts'
import { startSidecarProcess } from '../../support/sidecar-process.ts'
import { startForTest } from './harness.ts'

interface Line {
  readonly message: string
  readonly operation?: string
  readonly [field: string]: unknown
}

function capture(): { readonly log: Log; readonly lines: Line[] } {
  const lines: Line[] = []
  const take = (fields: object, message: string): void => void lines.push({ ...fields, message })
  return { lines, log: { debug() {}, info: take, warn: take, error: take } as unknown as Log }
}

const [READER, WRITER, KEEPER, STRANGER] = ['reader', 'writer', 'keeper', 'stranger'].map(
  name => `${name}-0123456789`,
) as [string, string, string, string]

/** A directory as the Secret gives it. */
function tokens(): string {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-tokens-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  for (const [right, token] of Object.entries({ read: READER, write: WRITER, admin: KEEPER }))
    writeFileSync(join(directory, right), `${token}\n`)
  return directory
}

async function calls(policy: LogPolicy): Promise<readonly Line[]> {
  const { log, lines } = capture()
  const { url } = await startForTest({ log, policy, tokensDirectory: tokens() })
  const call = async (method: string, path: string, token: string, body?: string) => {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await fetch(`${url}${path}`, { method, headers, ...(body !== undefined && { body }) })
    await answer.arrayBuffer()
  }
  await call('PUT', '/v1/records/7?term=1', WRITER, 'very secret')
  await call('GET', '/v1/records/7', READER)
  await call('DELETE', '/v1/records?start=3&end=9', WRITER)
  await call('DELETE', '/v1/records/7', READER)
  await call('POST', '/v1/admin/checkpoint', KEEPER)
  await call('POST', '/v1/admin/checkpoint', STRANGER)
  return lines
}

const NEVER = 600_000
const audited = (lines: readonly Line[]) =>
  lines
    .filter(({ message }) => message === 'audit')
    .map(({ operation, caller, status }) => `${operation} ${caller} ${status}`)

describe('the log of calls', () => {
  test.each<[LogPolicy['audit'], readonly RegExp[]]>([
    ['None', []],
    ['Admin', [/token admin \d+$/, /nobody known 401$/]],
    [
      'Write',
      [/token write 20[014]$/, /token write 200$/, /nobody known 403$/, /token admin \d+$/, /nobody known 401$/],
    ],
    [
      'All',
      [
        /token write 20[014]$/,
        /token read 200$/,
        /token write 200$/,
        /nobody known 403$/,
        /token admin \d+$/,
        /nobody known 401$/,
      ],
    ],
  ])('with audit %s has these', async (audit, expected) => {
    const seen = audited(await calls({ audit, slowOperation: NEVER }))
    expect(seen).toHaveLength(expected.length)
    for (const [index, pattern] of expected.entries()) expect(seen[index]).toMatch(pattern)
  })

  test('names keys and ranges, and never data or tokens', async () => {
    const lines = await calls({ audit: 'All', slowOperation: NEVER })
    expect(lines.find(({ key }) => key === '7')).toMatchObject({ outcome: 'ok', address: '127.0.0.1' })
    expect(lines.find(({ start }) => start === '3')).toMatchObject({ end: '9' })
    expect(JSON.stringify(lines)).not.toMatch(/very secret|reader|writer|keeper|stranger/)
  })

  test('has what took longer than slowOperation, from the next call on', async () => {
    const policy = { audit: 'None' as const, slowOperation: NEVER }
    const { log, lines } = capture()
    const { url } = await startForTest({ log, policy })
    const read = async () => (await fetch(`${url}/v1/records/7`)).arrayBuffer()
    await read()
    expect(lines).toEqual([])
    policy.slowOperation = 0
    await read()
    expect(lines).toMatchObject([{ message: 'slow operation', key: '7', caller: 'loopback', status: 404 }])
    expect(lines[0]).toMatchObject({ stage: 'engine', stagesMs: { engine: expect.any(Number) } })
  })

  test('has the range of a slow count or range removal, and no streams', async () => {
    const { log, lines } = capture()
    const { url } = await startForTest({ log, policy: { audit: 'None', slowOperation: 0 } })
    const range = 'start=3&end=9'
    for (const path of [`/v1/records?${range}`, `/v1/export?${range}`, `/v1/count?${range}`])
      await (await fetch(url + path)).arrayBuffer()
    await (await fetch(`${url}/v1/records?${range}`, { method: 'DELETE' })).arrayBuffer()
    expect(lines).toMatchObject([
      { message: 'slow operation', operation: 'countRecords', start: '3', end: '9' },
      { message: 'slow operation', operation: 'deleteRange', start: '3', end: '9', stage: expect.any(String) },
    ])
    expect(lines).toHaveLength(2)
  })

  test.each([
    ['PUT', 'commit', 'commit.before=sleep(400)'],
    ['PATCH', 'request', undefined],
  ] as const)('names the stage of a slow %s: %s', async (method, stage, failpoints) => {
    const directory = mkdtempSync(join(tmpdir(), 'kvidx-stage-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const sidecar = await startSidecarProcess(join(directory, 'volume'), 'SQLite', {
      spec: { monitoring: { logLevel: 'Warn', slowOperation: '300ms' } },
      ...(failpoints && { env: { KVIDX_FAILPOINTS: failpoints } }),
    })
    onTestFinished(() => sidecar.kill('SIGKILL'))
    const slowly = async function* () {
      yield Buffer.from('a')
      await new Promise(resolve => setTimeout(resolve, failpoints ? 0 : 600))
    }
    const path = method === 'PATCH' ? '?op=append' : ''
    const body = ReadableStream.from(slowly()) as ReadableStream<Uint8Array>
    const call = { method, body, duplex: 'half' } as RequestInit
    expect((await fetch(`${sidecar.data}/v1/records/7${path}`, call)).status).toBe(201)
    const line = () =>
      sidecar
        .log()
        .split('\n')
        .find(text => text.includes('slow operation'))
    await expect.poll(line, { timeout: 5000 }).toBeDefined()
    expect(JSON.parse(line() ?? '')).toMatchObject({ stage, stagesMs: { queue: expect.any(Number) } })
    await sidecar.kill('SIGTERM')
  })

  test('counts what waits for an earlier commit as the queue', () => {
    const moments = { started: 0, write: { at: 10, ended: 510, commit: 100 }, answered: 511 }
    const stages = stagesOf(moments, 512)
    expect(stages).toEqual({ request: 10, queue: 400, commit: 100, answer: 2 })
    expect(slowest(stages)).toBe('queue')
  })
})
