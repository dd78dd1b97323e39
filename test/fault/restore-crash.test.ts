import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { standalonePaths } from '../../src/standalone/paths.ts'
import { type Running, remove, SCHEDULES, startRunning, writeConfig } from '../integration/backup/running.ts'
import { kvidx } from '../integration/cli/harness.ts'

/** A process that dies at a step of a restore, and the start behind it. */

vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

const ENTRY = fileURLToPath(new URL('../support/sidecar-entry.ts', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'kvidx-restore-crash-'))
const children = new Set<ChildProcess>()
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
})

interface Sidecar {
  readonly url: string
  stop(): Promise<void>
  readonly exited: Promise<void>
}

async function start(configFile: string, data: string, failpoints?: string): Promise<Sidecar | undefined> {
  const { KVIDX_FAILPOINTS: _, ...rest } = process.env
  const child = spawn(process.execPath, [ENTRY, configFile, data], {
    env: { ...rest, ...(failpoints !== undefined && { KVIDX_FAILPOINTS: failpoints }) },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  children.add(child)
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const url = await new Promise<string | undefined>(resolve => {
    let out = ''
    child.stdout.on('data', chunk => {
      out += String(chunk)
      const line = out.split('\n').find(text => text.startsWith('{"data"'))
      if (line && out.includes('\n')) resolve((JSON.parse(line) as { data: string }).data)
    })
    void exited.then(() => resolve(undefined))
  })
  if (url === undefined) return undefined
  return {
    url,
    exited,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

interface Stats {
  readonly digest: string
  readonly count: string
  readonly epochs: readonly { readonly reason: string }[]
}

const statsOf = async (url: string) => (await (await fetch(`${url}/v1/stats`)).json()) as Stats

const STAGING = ['restore.beforeMark', 'restore.beforeFlush', 'restore.beforeSync', 'restore.done']
const BOOTSTRAP = [
  ...STAGING,
  'bootstrap.staged',
  'bootstrap.beforeRename',
  'bootstrap.afterRename',
  'bootstrap.afterIdentity',
]
const SWAP = [
  'restore.beforeSwap',
  'swap.beforeJournal',
  'swap.afterJournal',
  'swap.beforeQuarantine',
  'swap.betweenRenames',
  'swap.afterRenames',
  'swap.done',
]

let source: Running
let base: string
let newest: string
beforeAll(async () => {
  source = await startRunning({
    root: join(root, 'source'),
    backup: { continuous: { enabled: true, interval: '100ms' } },
  })
  for (let key = 0; key < 20; key++) await source.put(key, `value ${key}`)
  base = (await statsOf(source.url)).digest
  const made = await kvidx(['backup', 'create', 'base', '--server', source.url])
  expect([made.code, made.notes]).toEqual([0, ''])
  for (let key = 0; key < 5; key++) await source.put(key, `changed ${key}`)
  newest = (await statsOf(source.url)).digest
  await source.stop()
})
afterAll(() => remove(source))

describe('killed while a new volume is filled', () => {
  test.each(BOOTSTRAP)('at %s: the next start has all of it', async point => {
    const home = join(root, point)
    const { directory, data } = standalonePaths(home, 'default', 'copy')
    mkdirSync(directory, { recursive: true })
    symlinkSync(source.backups, join(directory, 'bootstrap'))
    const bootstrap = { restore: { source: { database: 'orders', volume: { claimName: 'x' } } } }
    const configFile = writeConfig(home, 'copy', 'SQLite', { bootstrap })
    expect(await start(configFile, data, `${point}=kill`)).toBeUndefined()
    // identity.json comes last: only behind it the volume is somebody's
    expect(existsSync(join(data, 'identity.json'))).toBe(point === 'bootstrap.afterIdentity')
    const again = await start(configFile, data)
    const stats = await statsOf(again!.url)
    expect([stats.digest, stats.count]).toEqual([newest, '20'])
    expect(readdirSync(join(data, 'staging'))).toEqual([])
    expect(existsSync(join(data, 'db', 'identity.json'))).toBe(false)
    await again!.stop()
  })
})

describe('killed while a database is restored in place', () => {
  test.each([...STAGING, ...SWAP])('at %s: the next start has the old one or the new one, whole', async point => {
    const home = join(root, `in-place-${point}`)
    const spec = { backup: { destination: { volume: { size: '1Gi' } }, schedules: SCHEDULES } }
    const { data } = standalonePaths(home, 'default', 'orders')
    const configFile = writeConfig(home, 'orders', 'SQLite', spec)
    const first = await start(configFile, data)
    for (let key = 0; key < 20; key++)
      await fetch(`${first!.url}/v1/records/${key}`, { method: 'PUT', body: `v${key}` })
    const old = await statsOf(first!.url)
    expect((await kvidx(['backup', 'create', 'one', '--no-verify', '--server', first!.url])).code).toBe(0)
    await fetch(`${first!.url}/v1/records/3`, { method: 'DELETE' })
    const changed = await statsOf(first!.url)
    await first!.stop()
    const dying = await start(configFile, data, `${point}=kill`)
    await fetch(`${dying!.url}/v1/admin/restore?backup=one`, { method: 'POST' }).catch(() => undefined)
    await dying!.exited
    const again = await start(configFile, data)
    const stats = await statsOf(again!.url)
    const restored = SWAP.indexOf(point) >= SWAP.indexOf('swap.afterJournal')
    expect(stats.digest).toBe(restored ? old.digest : changed.digest)
    expect(stats.epochs.some(({ reason }) => reason === 'restored')).toBe(restored)
    expect(readdirSync(join(data, 'staging'))).toEqual([])
    expect(existsSync(join(data, 'swap.json'))).toBe(false)
    // the safety copy is there exactly when something took its place
    expect(readdirSync(join(data, 'quarantine'))).toHaveLength(restored ? 1 : 0)
    const wrote = await fetch(`${again!.url}/v1/records/99`, { method: 'PUT', body: 'it goes on' })
    expect(wrote.status).toBe(201)
    await again!.stop()
  })
})

test('what was compared are two states', () => expect(base).not.toBe(newest))
