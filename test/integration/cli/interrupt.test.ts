import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readdirSync } from 'node:fs'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

const KVIDX = new URL('../../../bin/kvidx', import.meta.url).pathname
const SQLITE = new URL('../../fixtures/kvidxkit/sqlite3/golden.sqlite3', import.meta.url).pathname

/** A server that takes the call and never comes to its end. */
async function endless(answer: Parameters<typeof createServer>[1]): Promise<{ url: string; server: Server }> {
  const server = createServer(answer as never)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }
}

function start(args: readonly string[], temporary: string) {
  const child: ChildProcess = spawn(process.execPath, [KVIDX, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: temporary },
  })
  let notes = ''
  child.stderr?.on('data', chunk => (notes += String(chunk)))
  const code = new Promise<number | null>(resolve => child.once('exit', resolve))
  onTestFinished(() => void child.kill('SIGKILL'))
  return { child, code, notes: () => notes }
}

test('an output that is full is told in words, with exit code 1', () => {
  const full = openSync('/dev/full', 'w')
  onTestFinished(() => closeSync(full))
  const { status, stderr } = spawnSync(process.execPath, [KVIDX, 'help'], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  })
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^kvidx: the output cannot be written: ENOSPC.*\n$/)])
}, 60_000)

describe('Ctrl-C', { timeout: 120_000 }, () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('in an export (%s) leaves no half a file', async signal => {
    const directory = temporaryDirectory()
    const { url } = await endless((_, response) => void response.write(Buffer.alloc(100_000)))
    const { child, code, notes } = start(['export', join(directory, 'out.bin'), '--server', url], directory)
    await expect.poll(() => readdirSync(directory), { timeout: 40_000 }).toEqual(['out.bin.partial'])
    child.kill(signal)
    expect([await code, notes()]).toEqual([130, 'kvidx: interrupted\n'])
    expect(readdirSync(directory)).toEqual([])
  })

  test('that arrives twice, from the terminal and from the launcher, is one', async () => {
    const directory = temporaryDirectory()
    const { url } = await endless((_, response) => void response.write(Buffer.alloc(100_000)))
    const { child, code, notes } = start(['export', join(directory, 'out.bin'), '--server', url], directory)
    await expect.poll(() => readdirSync(directory), { timeout: 40_000 }).toEqual(['out.bin.partial'])
    child.kill('SIGINT')
    child.kill('SIGTERM')
    expect([await code, notes()]).toEqual([130, 'kvidx: interrupted\n'])
    expect(readdirSync(directory)).toEqual([])
  })

  test('in a restore cancels it in the database, which would go on and swap', async () => {
    let cancelled = false
    let answer: ServerResponse | undefined
    const { url } = await endless((request, response) => {
      if (request.url?.startsWith('/v1/stats')) response.end('{"position":"1.7"}')
      else if (request.method === 'DELETE') {
        cancelled = true
        response.writeHead(202).end()
        answer?.end(
          `${JSON.stringify({ problem: { status: 499, code: 'cancelled', detail: 'the restore was cancelled' } })}\n`,
        )
      } else {
        answer = response
        response.writeHead(200, { 'content-type': 'application/x-ndjson' })
        response.write('{"phase":"Staging","progress":1}\n')
      }
    })
    const { child, code, notes } = start(['restore', '--latest', '--server', url], temporaryDirectory())
    await expect.poll(() => answer !== undefined, { timeout: 40_000 }).toBe(true)
    child.kill('SIGINT')
    expect(await code).toBe(130)
    expect(cancelled).toBe(true)
    expect(notes()).toBe('the restore is being cancelled; nothing is changed before its swap\nkvidx: interrupted\n')
  })

  test('in an import of a database removes the copy that it read', async () => {
    const temporary = join(temporaryDirectory(), 'tmp')
    mkdirSync(temporary)
    let begun = false
    // takes all of it and does not answer
    const { url } = await endless(request => {
      begun = true
      request.resume()
    })
    const { child, code, notes } = start(['import', SQLITE, '--server', url], temporary)
    await expect.poll(() => begun && readdirSync(temporary).length, { timeout: 40_000 }).toBe(1)
    child.kill('SIGINT')
    expect([await code, notes()]).toEqual([130, 'kvidx: interrupted\n'])
    expect(readdirSync(temporary)).toEqual([])
  })
})
