import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { VARIABLES } from '../../../src/common/environment.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

const ROOT = new URL('../../../', import.meta.url).pathname
const KVIDX = join(ROOT, 'bin/kvidx')

interface Service {
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly volumes: readonly string[]
  readonly ports: readonly string[]
  readonly read_only: boolean
  readonly tmpfs: readonly string[]
  readonly healthcheck: { readonly test: readonly string[] }
}
const { services, volumes } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8')) as {
  readonly services: { readonly orders: Service }
  readonly volumes: object
}
const { orders } = services

/** `${NAME:-default}` as compose reads it without the variable. */
const resolved = (value: string): string => value.replace(/\$\{\w+:-([^}]*)\}/g, '$1')

async function freePort(): Promise<string> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return String(port)
}

describe('compose.yaml', { timeout: 120_000 }, () => {
  test('sets variables that the program reads, and mounts what they name', () => {
    for (const name of Object.keys(orders.environment)) expect(Object.keys(VARIABLES)).toContain(name)
    const mounted = orders.volumes.map(volume => volume.split(':')[1])
    expect(mounted).toEqual(
      expect.arrayContaining([orders.environment.KVIDX_DATA_DIR, orders.environment.KVIDX_TOKEN_DIR]),
    )
    expect(Object.keys(volumes)).toContain(orders.volumes[0]?.split(':')[0])
    // the root file system is read-only: a configuration is made from the variables below /tmp
    expect([orders.read_only, orders.tmpfs.some(path => path.startsWith('/tmp'))]).toEqual([true, true])
    expect(orders.ports.map(port => port.split(':').at(-1))).toEqual(['7400', '8080'])
  })

  test('makes a database that serves, with tokens, and whose health check passes', async () => {
    const directory = temporaryDirectory()
    const tokens = join(directory, 'tokens')
    mkdirSync(tokens)
    for (const role of ['read', 'write', 'admin']) writeFileSync(join(tokens, role), `${role}-0123456789abcdef\n`)
    const environment = {
      ...Object.fromEntries(Object.entries(orders.environment).map(([name, value]) => [name, resolved(value)])),
      PATH: process.env.PATH ?? '',
      TMPDIR: directory,
      KVIDX_DATA_DIR: join(directory, 'data'),
      KVIDX_TOKEN_DIR: tokens,
      KVIDX_DATA_PORT: await freePort(),
      KVIDX_OPS_PORT: await freePort(),
    }
    const child = spawn(process.execPath, [KVIDX, ...orders.command], { env: environment, stdio: 'ignore' })
    const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
    onTestFinished(async () => {
      child.kill('SIGKILL')
      await ended
    })
    const ready = () =>
      fetch(`http://127.0.0.1:${environment.KVIDX_OPS_PORT}/ready`).then(
        answer => answer.status,
        () => 0,
      )
    await expect.poll(ready, { timeout: 40_000 }).toBe(200)
    const count = `http://127.0.0.1:${environment.KVIDX_DATA_PORT}/v1/count`
    expect((await fetch(count)).status).toBe(401)
    expect((await fetch(count, { headers: { authorization: 'Bearer read-0123456789abcdef' } })).status).toBe(200)
    const [kind, program, ...args] = orders.healthcheck.test
    expect([kind, program]).toEqual(['CMD', 'kvidx'])
    const check = spawnSync(process.execPath, [KVIDX, ...args], { env: environment, encoding: 'utf8' })
    expect([check.status, check.stdout]).toEqual([0, 'OK\n'])
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(spawnSync(process.execPath, [KVIDX, ...args], { env: environment }).status).toBe(5)
  })

  test('would not start with a value that is not allowed, and says which; a misspelt variable is named', () => {
    const environment = { PATH: process.env.PATH ?? '', KVIDX_DATA_DIR: temporaryDirectory(), KVIDX_SYNC_MODE: 'Never' }
    const { status, stderr } = spawnSync(process.execPath, [KVIDX, 'sidecar'], { env: environment, encoding: 'utf8' })
    expect(
      spawnSync(process.execPath, [KVIDX, 'sidecar'], {
        env: { ...environment, KVIDX_CACHESIZE: '1Mi', KVIDX_SERVICE_HOST: 'x' },
        encoding: 'utf8',
      }).stderr.split('\n')[0],
    ).toBe('kvidx: the variable KVIDX_CACHESIZE has no meaning; did you mean KVIDX_CACHE_SIZE?')
    expect([status, stderr]).toEqual([2, expect.stringMatching(/KVIDX_SYNC_MODE.*'Never'.*Full, Normal, Off/)])
  })
})
