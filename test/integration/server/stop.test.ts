import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test, vi } from 'vitest'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

const KVIDX = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))
/** What the supervisor, compose and a pod give at least, ms. */
const GRACE = 30_000
const RECORDS = 200
const data = Buffer.alloc(100_000, 'x').toString('base64')

function line(key: number, data: string): string {
  return `${JSON.stringify({ key: String(key), term: '1', cmd: '1', data })}\n`
}

/** `kvidx sidecar` as a pod has it. */
async function startProcess(directory: string) {
  const flags = ['--name', 'orders', '--data-dir', directory, '--data-port', '0', '--ops-port', '0']
  const child = spawn(process.execPath, [KVIDX, 'sidecar', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let log = ''
  child.stderr.on('data', chunk => {
    log += String(chunk)
  })
  const url = await vi.waitFor(
    () => {
      const serving = log.split('\n').find(text => text.includes('"msg":"serving"')) ?? ''
      return (JSON.parse(serving) as { dataApi: string }).dataApi
    },
    { timeout: 20_000, interval: 50 },
  )
  return { child, url, log: () => log }
}

/** An import whose file does not end. */
function beginImport(url: string, query: string, keys: readonly number[]) {
  const headers = { 'content-type': 'application/x-ndjson' }
  const upload = request(`${url}/v1/import?${query}`, { method: 'POST', headers })
  upload.write(keys.map(key => line(key, 'aGk=')).join(''))
  return { upload, answer: answerTo(upload) }
}

async function answerTo(upload: ClientRequest) {
  const [response] = (await once(upload, 'response')) as [IncomingMessage]
  return { status: response.statusCode, problem: JSON.parse(await text(response)) as Record<string, unknown> }
}

test('SIGTERM ends imports and exports that do not end by themselves, and each client can tell how', {
  timeout: 120_000,
}, async () => {
  const directory = temporaryDirectory()
  const { child, url } = await startProcess(directory)
  const ended = once(child, 'exit')
  const ops = Array.from({ length: RECORDS }, (_, key) => line(key, data)).join('')
  const filled = await fetch(`${url}/v1/import?format=ndjson`, { method: 'POST', body: ops })
  expect([filled.status, await filled.json()]).toMatchObject([200, { imported: String(RECORDS) }])

  const [response] = (await once(request(`${url}/v1/export?format=ndjson`).end(), 'response')) as [IncomingMessage]
  // it reads nothing more than what is there already
  response.pause()
  const many = Array.from({ length: 25_000 }, (_, index) => 1_000_000 + index)
  const slices = beginImport(url, 'atomic=false', many)
  const whole = beginImport(url, '', [2_000_000, 2_000_001])
  const staged = beginImport(url, 'clear=true', [1])
  const count = async () => Number(((await (await fetch(`${url}/v1/count`)).json()) as { count: string }).count)
  await vi.waitFor(async () => expect(await count()).toBe(RECORDS + 20_000), { timeout: 20_000, interval: 100 })

  const began = performance.now()
  child.kill('SIGTERM')
  const stopping = {
    code: 'not_ready',
    retryable: true,
    detail: expect.stringContaining('the database is stopping; the file had not ended'),
  }
  expect(await slices.answer).toMatchObject({ status: 503, problem: { ...stopping, imported: '20000' } })
  for (const answer of [await whole.answer, await staged.answer]) {
    expect(answer).toMatchObject({ status: 503, problem: stopping })
    expect(answer.problem).not.toHaveProperty('imported')
  }
  expect(await ended).toEqual([0, null])
  expect(performance.now() - began).toBeLessThan(GRACE)
  // no last chunk, and no last line
  await expect(text(response)).rejects.toThrow('aborted')
  expect(response.complete).toBe(false)

  const { sidecar, status } = await sidecarHere({ directory })
  const again = await sidecar.serving
  const { data: after, start } = await status()
  expect([after.count, start.lastEnd, start.foreignWrites]).toEqual([String(RECORDS + 20_000), 'clean', false])
  const positions = await slices.answer
  expect(positions.problem.position).toBe(after.position)
  expect(readdirSync(join(directory, 'staging'))).toEqual([])
  expect((await fetch(`${again}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
  await sidecar.stop()
})
