import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { standalonePaths } from '../../src/standalone/paths.ts'
import { type Running, remove, SCHEDULES, startRunning, writeConfig } from '../integration/backup/running.ts'
import { kvidx } from '../integration/cli/harness.ts'

/** A process that dies at a step of a restore, and the start behind it. */

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 })

const ENTRY = fileURLToPath(new URL('../support/sidecar-entry.ts', import.meta.url))
const LAUNCHER = fileURLToPath(new URL('../../bin/kvidx', import.meta.url))
const root = mkdtempSync(join(tmpdir(), 'kvidx-restore-crash-'))
const children = new Set<ChildProcess>()
const counts: Record<string, number> = {}
const count = (what: string) => {
  counts[what] = (counts[what] ?? 0) + 1
}
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
  console.log(`killed at a step of a restore: ${JSON.stringify(counts)}`)
})

function environmentWith(failpoints: string | undefined) {
  const { KVIDX_FAILPOINTS: _, ...rest } = process.env
  return { ...rest, ...(failpoints !== undefined && { KVIDX_FAILPOINTS: failpoints }) }
}

interface Sidecar {
  readonly url: string
  stop(): Promise<void>
  readonly exited: Promise<void>
}

/** Undefined: it was killed before it served. */
async function start(configFile: string, data: string, failpoints?: string): Promise<Sidecar | undefined> {
  const child = spawn(process.execPath, [ENTRY, configFile, data], {
    env: environmentWith(failpoints),
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
  if (url === undefined) {
    // nothing but the failpoint may have ended it
    expect(child.signalCode).toBe('SIGKILL')
    return undefined
  }
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
/** From staging to a volume that is somebody's. identity.json is written twice: into the staged directory, and at its own place. */
const RENAMING = [
  'bootstrap.staged',
  'identity.json.written',
  'identity.json.renamed',
  'bootstrap.beforeRename',
  'bootstrap.renamed',
  'bootstrap.afterRename',
  'identity.json.written=2*kill',
  'identity.json.renamed=2*kill',
  'bootstrap.afterIdentity',
  'bootstrap.forgotten',
]
const OWNED = ['identity.json.renamed=2*kill', 'bootstrap.afterIdentity', 'bootstrap.forgotten']
const IMPORT = ['bootstrap.beforeMark', 'bootstrap.beforeFlush', 'bootstrap.beforeSync']
const BEFORE_SWAP = ['restore.beforeSwap', 'swap.beforeJournal', 'swap.json.written']
/** The journal decides: from here on the new one is the database. */
const SWAP = [
  'swap.json.renamed',
  'swap.afterJournal',
  'swap.beforeQuarantine',
  'swap.quarantined',
  'swap.betweenRenames',
  'swap.renamed',
  'swap.afterRenames',
  'swap.forgotten',
  'swap.done',
]
const UNDO = ['undo.copied', 'undo.beforeMark', 'undo.beforeSync']
const armed = (point: string) => (point.includes('=') ? point : `${point}=kill`)
const directoryOf = (point: string) => join(root, point.replaceAll(/[^\w.]/g, '-'))

let source: Running
let base: string
let newest: string
let exported: Buffer
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
  exported = Buffer.from(await (await fetch(`${source.url}/v1/export?format=binary`)).arrayBuffer())
  await source.stop()
})
afterAll(() => remove(source))

describe.each([
  [
    'from a backup',
    [...STAGING, ...RENAMING],
    { restore: { source: { database: 'orders', volume: { claimName: 'x' } } } },
  ],
  [
    'from a file',
    [...IMPORT, ...RENAMING],
    { import: { volume: { claimName: 'x' }, path: 'orders.bin', format: 'Binary' } },
  ],
] as const)('killed while a new volume is filled %s', (kind, points, bootstrap) => {
  test.each(points)('at %s: the next start has all of it', async point => {
    const home = directoryOf(`${kind} ${point}`)
    const { directory, data } = standalonePaths(home, 'default', 'copy')
    mkdirSync(directory, { recursive: true })
    if (kind === 'from a backup') symlinkSync(source.backups, join(directory, 'bootstrap'))
    else {
      mkdirSync(join(directory, 'bootstrap'))
      writeFileSync(join(directory, 'bootstrap', 'orders.bin'), exported)
    }
    const configFile = writeConfig(home, 'copy', 'SQLite', { bootstrap })
    expect(await start(configFile, data, armed(point))).toBeUndefined()
    // identity.json comes last: only behind it the volume is somebody's
    expect(existsSync(join(data, 'identity.json'))).toBe(OWNED.includes(point))
    const again = await start(configFile, data)
    const stats = await statsOf(again!.url)
    expect([stats.digest, stats.count]).toEqual([newest, '20'])
    expect(readdirSync(join(data, 'staging'))).toEqual([])
    expect(existsSync(join(data, 'db', 'identity.json'))).toBe(false)
    await again!.stop()
    count(`bootstrap ${kind}, all of it after the next start`)
  })
})

describe('killed while a store is restored offline', () => {
  test.each([...STAGING, ...RENAMING])('at %s: the same command again gives all of it', async point => {
    const data = directoryOf(`offline ${point}`)
    const store = ['--store', source.store, '--data-dir', data, '--output', 'json']
    const run = (failpoints?: string) => {
      const child = spawn(process.execPath, [LAUNCHER, 'backup', 'restore', ...store], {
        env: environmentWith(failpoints),
        stdio: 'ignore',
      })
      children.add(child)
      return new Promise<[number | null, string | null]>(resolve =>
        child.once('exit', (code, signal) => resolve([code, signal])),
      )
    }
    expect(await run(armed(point))).toEqual([null, 'SIGKILL'])
    expect(existsSync(join(data, 'identity.json'))).toBe(OWNED.includes(point))
    // where it had come to its end, the database is there and the command refuses to do it twice
    if (OWNED.includes(point)) expect((await run())[0]).not.toBe(0)
    else expect(await run()).toEqual([0, null])
    const home = directoryOf(`offline home ${point}`)
    const configFile = writeConfig(home, 'orders', 'SQLite', {})
    const served = await start(configFile, data)
    const stats = await statsOf(served!.url)
    expect([stats.digest, stats.count]).toEqual([newest, '20'])
    await served!.stop()
    count('offline, all of it after the same command')
  })
})

describe('in place', () => {
  /** A volume with a backup of 20 records in its store, and one record less; and its quarantine after a restore. */
  const before = join(root, 'before')
  const after = join(root, 'after')
  let full: Stats
  let less: Stats

  beforeAll(async () => {
    const spec = { backup: { destination: { volume: { size: '1Gi' } }, schedules: SCHEDULES } }
    const { data } = standalonePaths(before, 'default', 'orders')
    const first = await start(writeConfig(before, 'orders', 'SQLite', spec), data)
    for (let key = 0; key < 20; key++)
      await fetch(`${first!.url}/v1/records/${key}`, { method: 'PUT', body: `v${key}` })
    full = await statsOf(first!.url)
    expect((await kvidx(['backup', 'create', 'one', '--no-verify', '--server', first!.url])).code).toBe(0)
    await fetch(`${first!.url}/v1/records/3`, { method: 'DELETE' })
    less = await statsOf(first!.url)
    await first!.stop()
    cpSync(before, after, { recursive: true })
    const again = await start(configOf(after), standalonePaths(after, 'default', 'orders').data)
    expect((await kvidx(['restore', 'one', '--server', again!.url])).code).toBe(0)
    await again!.stop()
  })

  function configOf(home: string): string {
    const spec = { backup: { destination: { volume: { size: '1Gi' } }, schedules: SCHEDULES } }
    return writeConfig(home, 'orders', 'SQLite', spec)
  }

  async function dieAndStart(point: string, template: string, query: string, later: readonly string[] = []) {
    const home = directoryOf(`${query} ${point} ${later.join()}`)
    cpSync(template, home, { recursive: true })
    const { data } = standalonePaths(home, 'default', 'orders')
    const configFile = configOf(home)
    const dying = await start(configFile, data, armed(point))
    await fetch(`${dying!.url}/v1/admin/restore?${query}`, { method: 'POST' }).catch(() => undefined)
    await dying!.exited
    for (const next of later) expect(await start(configFile, data, armed(next))).toBeUndefined()
    const again = await start(configFile, data)
    const stats = await statsOf(again!.url)
    expect(readdirSync(join(data, 'staging'))).toEqual([])
    expect(existsSync(join(data, 'swap.json'))).toBe(false)
    const wrote = await fetch(`${again!.url}/v1/records/99`, { method: 'PUT', body: 'it goes on' })
    expect(wrote.status).toBe(201)
    await again!.stop()
    return { stats, quarantined: readdirSync(join(data, 'quarantine')).length }
  }

  test.each([...STAGING, ...BEFORE_SWAP])('killed at %s: the next start has the old one, whole', async point => {
    const { stats, quarantined } = await dieAndStart(point, before, 'backup=one')
    expect(stats).toMatchObject({ digest: less.digest, count: '19' })
    expect(stats.epochs.some(({ reason }) => reason === 'restored')).toBe(false)
    expect(quarantined).toBe(0)
    count('in place, the old one')
  })

  test.each(SWAP)('killed at %s: the next start has the new one, whole, and the old one is kept', async point => {
    const { stats, quarantined } = await dieAndStart(point, before, 'backup=one')
    expect(stats).toMatchObject({ digest: full.digest, count: '20' })
    expect(stats.epochs.some(({ reason }) => reason === 'restored')).toBe(true)
    expect(quarantined).toBe(1)
    count('in place, the new one')
  })

  test.each([...UNDO, ...BEFORE_SWAP])('killed at %s of an undo: the next start has what was restored', async point => {
    const { stats, quarantined } = await dieAndStart(point, after, 'undo=latest')
    expect(stats).toMatchObject({ digest: full.digest, count: '20' })
    expect(quarantined).toBe(1)
    count('undo, the old one')
  })

  test.each(SWAP)('killed at %s of an undo: the next start has what was there before', async point => {
    const { stats, quarantined } = await dieAndStart(point, after, 'undo=latest')
    expect(stats).toMatchObject({ digest: less.digest, count: '19' })
    expect(quarantined).toBe(2)
    count('undo, the new one')
  })

  test.each([
    ['swap.afterJournal', ['swap.beforeQuarantine', 'swap.betweenRenames', 'swap.renamed', 'swap.forgotten']],
    ['swap.quarantined', ['swap.betweenRenames', 'swap.afterRenames']],
  ] as const)(
    'killed at %s, and the starts behind it at %s: the swap is finished all the same',
    async (point, later) => {
      const { stats, quarantined } = await dieAndStart(point, before, 'backup=one', later)
      expect(stats).toMatchObject({ digest: full.digest, count: '20' })
      expect(quarantined).toBe(1)
      count('in place, killed again while it was finished')
    },
  )

  test.each(['swap.beforeJournal', 'swap.afterJournal', 'swap.quarantined', 'swap.renamed'])(
    'an error of the disk at %s: no write is taken that the next start would lose',
    async point => {
      const home = directoryOf(`error ${point}`)
      cpSync(before, home, { recursive: true })
      const { data } = standalonePaths(home, 'default', 'orders')
      const configFile = configOf(home)
      const failing = await start(configFile, data, `${point}=1*error`)
      const answer = await fetch(`${failing!.url}/v1/admin/restore?backup=one`, { method: 'POST' })
      expect(answer.status).toBe(500)
      // half done, it ends once what is under way is answered: a write is refused, or finds nobody
      const wrote = await fetch(`${failing!.url}/v1/records/77`, { method: 'PUT', body: 'taken' }).catch(
        () => undefined,
      )
      if (point === 'swap.beforeJournal') expect(wrote?.status).toBe(201)
      else expect(wrote?.status ?? 503).toBe(503)
      await failing!.stop()
      const again = await start(configFile, data)
      const found = await fetch(`${again!.url}/v1/records/77`)
      expect(found.status).toBe(wrote?.status === 201 ? 200 : 404)
      const { digest } = await statsOf(again!.url)
      if (wrote?.status !== 201) expect(digest).toBe(full.digest)
      await again!.stop()
      count('in place, an error of the disk')
    },
  )
})

test('what was compared are two states', () => expect(base).not.toBe(newest))
