import { cpSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { startSidecar } from '../../../sidecar/main.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, startRunning } from './running.ts'

/** What the store says of a database whose history is not one straight line. */

vi.setConfig({ testTimeout: 60_000 })

const BACKUP = { continuous: { enabled: true, interval: '100ms' } }
const patience = { timeout: 20_000, interval: 50 }

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kvidx-continuous-'))
})

async function start(): Promise<Running> {
  const running = await startRunning({ root, backup: BACKUP })
  onTestFinished(async () => {
    await running.stop()
    rmSync(root, { recursive: true, force: true })
  })
  return running
}

const continuousOf = async (running: Running) => (await running.status()).backup.continuous
const everythingShipped = (running: Running) =>
  vi.waitFor(async () => {
    const { epoch, seq } = running.sidecar.database.state.position
    expect(await continuousOf(running)).toMatchObject({ state: 'Shipping', shipped: `${epoch}.${seq}` })
  }, patience)

async function full(running: Running, name: string): Promise<void> {
  const made = await kvidx(['backup', 'create', name, '--no-verify', '--server', running.url])
  expect([made.code, made.notes]).toEqual([0, ''])
}

async function restore(
  running: Running,
  query: string,
): Promise<{ status: number; code?: string; complete?: boolean }> {
  const answer = await fetch(`${running.url}/v1/admin/restore?dryRun=true&${query}`, { method: 'POST' })
  return { ...((await answer.json()) as object), status: answer.status }
}

describe('an import that replaces everything', () => {
  test('is not passed over: no moment behind it is restored without it, and every moment before it is', async () => {
    let running = await start()
    await running.put(1, 'old')
    await full(running, 'before')
    await running.put(2, 'old')
    await everythingShipped(running)
    const before = Date.now()
    await new Promise(resolve => setTimeout(resolve, 50))
    const body = `${JSON.stringify({ key: '7', term: '0', cmd: '0', data: '' })}\n`
    const headers = { 'content-type': 'application/x-ndjson' }
    const imported = await fetch(`${running.url}/v1/import?format=ndjson&clear=true`, { method: 'POST', body, headers })
    expect(imported.status).toBe(200)
    const after = Date.now()

    const missing = { needsFull: expect.stringContaining('imported'), gaps: [expect.anything()] }
    await vi.waitFor(async () => expect(await continuousOf(running)).toMatchObject(missing), patience)
    expect(await restore(running, 'latest=Change')).toMatchObject({ status: 409, code: 'backup_gap' })
    expect(await restore(running, `time=${new Date(after).toISOString()}`)).toMatchObject({ code: 'backup_gap' })
    const earlier = await restore(running, `time=${new Date(before).toISOString()}`)
    expect(earlier).toMatchObject({ status: 200, complete: true, records: '2' })

    // also when changes behind it have come, and another process asks
    await running.put(8, 'new')
    await everythingShipped(running)
    await running.stop()
    running = await start()
    await vi.waitFor(async () => expect(await continuousOf(running)).toMatchObject(missing), patience)
    expect(await restore(running, 'latest=Change')).toMatchObject({ code: 'backup_gap' })
    expect(await restore(running, `time=${new Date(before).toISOString()}`)).toMatchObject({
      status: 200,
      records: '2',
    })

    await full(running, 'after')
    await running.put(9, 'newer')
    await everythingShipped(running)
    expect((await continuousOf(running)).needsFull).toBeUndefined()
    expect(await restore(running, 'latest=Change')).toMatchObject({ status: 200, records: '3' })
    expect(await restore(running, `time=${new Date(before).toISOString()}`)).toMatchObject({
      status: 200,
      records: '2',
    })
  })

  test('breaks off a change feed that has not seen it', async () => {
    const running = await start()
    await running.put(1, 'old')
    const { epoch, seq } = running.sidecar.database.state.position
    const body = `${JSON.stringify({ key: '7', term: '0', cmd: '0', data: '' })}\n`
    const headers = { 'content-type': 'application/x-ndjson' }
    await fetch(`${running.url}/v1/import?format=ndjson&clear=true`, { method: 'POST', body, headers })
    expect((await fetch(`${running.url}/v1/changes?since=${epoch}.${seq}`)).status).toBe(410)
  })
})

describe('a volume that was put back to an earlier time', () => {
  const volume = () => join(root, 'default', 'orders', 'data')
  const store = () => join(root, 'default', 'orders', 'backups')

  test('while the store cannot be reached: nothing is shipped behind the changes of another branch', async () => {
    let running = await start()
    await running.put(1, 'one')
    await everythingShipped(running)
    await running.stop()
    cpSync(volume(), join(root, 'earlier'), { recursive: true, preserveTimestamps: true })
    running = await start()
    for (let key = 2; key < 6; key++) await running.put(key, 'of the first branch')
    await everythingShipped(running)
    await running.stop()
    rmSync(volume(), { recursive: true })
    renameSync(join(root, 'earlier'), volume())
    renameSync(store(), join(root, 'away'))
    const options = { host: '127.0.0.1', opsHost: '127.0.0.1', dataPort: 0, opsPort: 0, node: 'test', pod: 'test' }
    const sidecar = await startSidecar({ ...options, configFile: running.configFile, dataDirectory: volume() })
    onTestFinished(() => sidecar.stop())
    const url = await sidecar.serving
    for (let key = 2; key < 12; key++)
      await fetch(`${url}/v1/records/${key}`, { method: 'PUT', body: 'of the second branch' })
    renameSync(join(root, 'away'), store())
    const state = async () =>
      ((await (await fetch(`${sidecar.opsAddress}/status`)).json()) as { backup: { continuous: object } }).backup
    await vi.waitFor(async () => expect(await state()).toMatchObject({ continuous: { state: 'HistoryConflict' } }), {
      ...patience,
      timeout: 30_000,
    })
    expect(await state()).toMatchObject({ continuous: { backlogChanges: 10 } })
    // as the runbook says where this one is right
    expect((await kvidx(['backup', 'create', 'this-one', '--server', url])).code).toBe(0)
    expect((await kvidx(['restore', 'this-one', '--server', url])).code).toBe(0)
    await fetch(`${url}/v1/records/12`, { method: 'PUT', body: 'behind it' })
    await vi.waitFor(async () => {
      const { position } = sidecar.database.state
      const shipped = { state: 'Shipping', shipped: `${position.epoch}.${position.seq}`, backlogChanges: 0 }
      expect(await state()).toMatchObject({ continuous: shipped })
    }, patience)
    const latest = await kvidx(['restore', '--latest', '--dry-run', '--output', 'json', '--server', url])
    expect(JSON.parse(latest.out)).toMatchObject({ records: '12', added: 0, removed: 0, changed: 0 })
  })

  test('what is not in the store is told as that, also by a process that never reached it', async () => {
    let running = await start()
    await running.put(1, 'one')
    await everythingShipped(running)
    await running.stop()
    renameSync(store(), join(root, 'away'))
    running = await start()
    renameSync(store(), join(root, 'empty'))
    for (let key = 2; key < 5; key++) await running.put(key, 'not in the store')
    const behind = { state: 'Failing', backlogChanges: 3, rpoMs: expect.any(Number) }
    await vi.waitFor(async () => expect(await continuousOf(running)).toMatchObject(behind), patience)
    expect((await continuousOf(running)).rpoMs).toBeGreaterThan(0)
    await running.stop()
    running = await start()
    renameSync(store(), join(root, 'empty again'))
    await vi.waitFor(async () => expect(await continuousOf(running)).toMatchObject(behind), patience)
    expect((await continuousOf(running)).rpoMs).toBeGreaterThan(0)
  })

  test('to where a later epoch forked: it goes on in an epoch that the store does not know', async () => {
    let running = await start()
    await running.put(1, 'one')
    await full(running, 'one')
    await everythingShipped(running)
    await running.stop()
    cpSync(volume(), join(root, 'earlier'), { recursive: true, preserveTimestamps: true })
    running = await start()
    expect((await fetch(`${running.url}/v1/admin/restore?backup=one`, { method: 'POST' })).status).toBe(200)
    await running.put(2, 'of the second epoch')
    await everythingShipped(running)
    await running.stop()
    rmSync(volume(), { recursive: true })
    renameSync(join(root, 'earlier'), volume())
    running = await start()
    await running.put(3, 'of the third')
    await everythingShipped(running)
    expect(running.sidecar.database.state.position.epoch).toBe(3n)
    expect(await restore(running, 'latest=Change')).toMatchObject({ status: 200, records: '2', added: 0, removed: 0 })
  })
})
