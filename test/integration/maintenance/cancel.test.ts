import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { temporaryDirectory } from '../../support/sidecar-here.ts'
import { startSidecarProcess } from '../../support/sidecar-process.ts'

const patience = { timeout: 20_000, interval: 20 }

/** A database whose tasks take their time, and what its HTTP says of them. */
async function slowly(failpoints: string, maintenance: object) {
  const directory = join(temporaryDirectory(), 'volume')
  const sidecar = await startSidecarProcess(directory, 'SQLite', {
    spec: { maintenance },
    env: { KVIDX_FAILPOINTS: failpoints },
  })
  onTestFinished(() => sidecar.kill('SIGKILL'))
  const status = async () =>
    (await (await fetch(`${sidecar.operations}/status`)).json()) as {
      data: { count: string }
      tasks: { name: string; running: boolean; lastOutcome?: string }[]
    }
  const task = async (name: string) => (await status()).tasks.find(entry => entry.name === name)
  /** Starts it, waits until it is under way, and cancels it as another client does. */
  const cancelled = async (name: string, underWay = async () => {}) => {
    const url = `${sidecar.data}/v1/admin/${name}`
    const answer = fetch(url, { method: 'POST' })
    await vi.waitFor(async () => expect((await task(name))?.running).toBe(true), patience)
    await underWay()
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(204)
    expect(await (await answer).json()).toMatchObject({ code: 'cancelled' })
    expect(await task(name)).toMatchObject({ running: false, lastOutcome: 'cancelled' })
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(409)
  }
  const put = async (key: number, body: Uint8Array | string, query = '') =>
    expect((await fetch(`${sidecar.data}/v1/records/${key}${query}`, { method: 'PUT', body })).status).toBe(201)
  return { sidecar, directory, status, cancelled, put }
}

const idle = { checkpoint: { interval: '24h' }, vacuum: { interval: '24h' }, expiry: { interval: '1h' } }

test('expire ends between two slices', { timeout: 60_000 }, async () => {
  const { status, cancelled, put } = await slowly('expire.slice=sleep(100)', {
    ...idle,
    expiry: { interval: '1h', batchSize: 100 },
  })
  for (let key = 0; key < 1000; key += 100)
    await Promise.all(Array.from({ length: 100 }, (_, index) => put(key + index, 'x', '?ttl=1ms')))
  const count = async () => Number((await status()).data.count)
  expect(await count()).toBe(1000)
  await cancelled('expire', () => vi.waitFor(async () => expect(await count()).toBeLessThan(1000), patience))
  expect(await count()).toBeGreaterThan(0)
})

test('vacuum ends between two slices', { timeout: 60_000 }, async () => {
  const { sidecar, directory, cancelled, put } = await slowly('reclaim.slice=sleep(300)', idle)
  for (let key = 0; key < 60; key++) await put(key, randomBytes(1 << 20))
  expect((await fetch(`${sidecar.data}/v1/records?all=true`, { method: 'DELETE' })).status).toBe(200)
  await cancelled('vacuum')
  // most of what could be given back is still there
  await fetch(`${sidecar.data}/v1/admin/checkpoint`, { method: 'POST' })
  expect(statSync(join(directory, 'db', 'main.db')).size).toBeGreaterThan(70 << 20)
})

test('checkpoint ends before the writer has to do with it', { timeout: 60_000 }, async () => {
  const { directory, cancelled, put } = await slowly('checkpoint.beside=sleep(1500)', idle)
  await put(1, randomBytes(1 << 20))
  await cancelled('checkpoint')
  expect(statSync(join(directory, 'db', 'main.db-wal')).size).toBeGreaterThan(1 << 20)
})
