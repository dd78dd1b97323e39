import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { type SidecarHere, sidecarHere } from '../../support/sidecar-here.ts'

/** Full rewrites of a SQLite file of some size: by request, in the window, and broken off. */
const patience = { timeout: 60_000, interval: 200 }
const quiet = { monitoring: { logLevel: 'Error' } }
const RECORDS = 200
const BYTES = 100_000

async function put(url: string, key: number, body: Uint8Array | string): Promise<number> {
  return (await fetch(`${url}/v1/records/${key}`, { method: 'PUT', body })).status
}

/** Records and change log took about the same; two thirds of the records' pages are free, which nothing gives back before the test asks. */
async function fragmented(window?: object): Promise<{ here: SidecarHere; url: string; file: string }> {
  const vacuum = { interval: '24h', ...window }
  const here = await sidecarHere({ spec: { ...quiet, maintenance: { vacuum } } })
  const url = await here.sidecar.serving
  for (let key = 0; key < RECORDS; key++) await put(url, key, randomBytes(BYTES))
  for (let key = 0; key < RECORDS; key++) if (key % 3 > 0) await fetch(`${url}/v1/records/${key}`, { method: 'DELETE' })
  await here.sidecar.database.runTask('checkpoint', {}, new AbortController().signal)
  return { here, url, file: join(here.directory, 'db', 'main.db') }
}

const task = async (here: SidecarHere, name: string) =>
  (await here.status()).tasks.find((entry: { name: string }) => entry.name === name)

test('compact gives the unused pages back while reads go on and writes wait; the content stays', {
  timeout: 120_000,
}, async () => {
  const { here, url, file } = await fragmented()
  const before = statSync(file).size
  const { digest } = (await here.status()).data
  const compacting = fetch(`${url}/v1/admin/compact`, { method: 'POST' })
  await vi.waitFor(async () => expect((await task(here, 'compact')).running).toBe(true), { interval: 5, timeout: 5000 })
  const written = put(url, 9000, 'waits')
  for (let n = 0; n < 5; n++) expect((await fetch(`${url}/v1/records/0`)).status).toBe(200)
  const answer = await compacting
  expect(answer.status, JSON.stringify(await answer.clone().json())).toBe(200)
  expect(await written).toBe(201)
  expect((await fetch(`${url}/v1/records/9000`, { method: 'DELETE' })).status).toBe(204)
  expect(statSync(file).size).toBeLessThan(before * 0.8)
  expect((await here.status()).data.digest).toBe(digest)
  expect((await fetch(`${url}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
})

test.each([
  ['before its commit never was', 'vacuum.before', 'cancelled'],
  ['behind its commit is done', 'vacuum.after', 'ok'],
])('a compact that is cancelled %s', { timeout: 120_000 }, async (_, failpoint, outcome) => {
  vi.stubEnv('KVIDX_FAILPOINTS', `${failpoint}=sleep(60000)`)
  onTestFinished(() => void vi.unstubAllEnvs())
  const { here, url, file } = await fragmented()
  const before = statSync(file).size
  const { digest } = (await here.status()).data
  const stop = new AbortController()
  const compacting = here.sidecar.database.runTask('compact', {}, stop.signal)
  compacting.catch(() => {})
  await vi.waitFor(async () => expect((await task(here, 'compact')).running).toBe(true), { interval: 5, timeout: 5000 })
  if (outcome === 'ok') await vi.waitFor(() => expect(statSync(`${file}-wal`).size).toBeGreaterThan(BYTES), patience)
  const written = put(url, 9000, 'waits')
  // long enough for its commit to be through
  await new Promise(resolve => setTimeout(resolve, 2000))
  stop.abort()
  if (outcome === 'ok') await compacting
  else await expect(compacting).rejects.toMatchObject({ code: 'cancelled' })
  expect(await written).toBe(201)
  expect((await fetch(`${url}/v1/records/9000`, { method: 'DELETE' })).status).toBe(204)
  if (outcome === 'ok') expect(statSync(file).size).toBeLessThan(before * 0.8)
  else expect(statSync(file).size).toBeGreaterThanOrEqual(before)
  expect((await here.status()).data.digest).toBe(digest)
  expect(await task(here, 'compact')).toMatchObject({ lastOutcome: outcome })
  expect((await fetch(`${url}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
})

test('in its window it rewrites what is fragmented, and leaves what is not', { timeout: 180_000 }, async () => {
  // the window opens with the next minute
  const { here, file } = await fragmented({ window: { schedule: '* * * * *', duration: '10m', timeZone: 'Etc/UTC' } })
  const large = statSync(file).size
  expect((await task(here, 'compact')).nextRun).toBeGreaterThan(Date.now())
  await vi.waitFor(() => expect(statSync(file).size).toBeLessThan(large * 0.8), { timeout: 80_000, interval: 200 })
  await vi.waitFor(async () => expect(await task(here, 'compact')).toMatchObject({ lastOutcome: 'ok' }), patience)
  const metrics = await (await fetch(`${here.sidecar.opsAddress}/metrics`)).text()
  expect(metrics).toMatch(/kvidx_task_last_duration_seconds\{task="compact",outcome="ok"\}/)
  const first = (await task(here, 'compact')).lastRun
  await vi.waitFor(async () => expect((await task(here, 'compact')).lastRun).toBeGreaterThan(first), {
    timeout: 80_000,
    interval: 200,
  })
  await vi.waitFor(async () => expect((await task(here, 'compact')).running).toBe(false), patience)
  expect((await task(here, 'compact')).lastDurationMs).toBeLessThan(1000)
})
