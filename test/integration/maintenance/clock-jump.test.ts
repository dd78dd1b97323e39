import { expect, test, vi } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { type SidecarHere, sidecarHere } from '../../support/sidecar-here.ts'

const HOUR = 3600_000
const patience = { timeout: 15_000, interval: 50 }
const spec = { monitoring: { logLevel: 'Error' } }

const jumped = async (here: SidecarHere) =>
  (await here.status()).health.causes.some((cause: { reason: string }) => cause.reason === 'ClockJump')

const expire = async (url: string, query = '') =>
  (await (await fetch(`${url}/v1/admin/expire${query}`, { method: 'POST' })).json()) as Record<string, unknown>

/** A database with a record that is long expired, started two days after its last commit. */
async function late(): Promise<{ here: SidecarHere; url: string; clock: ManualClock }> {
  const first = await sidecarHere({ spec })
  const at = await first.sidecar.serving
  for (const [key, query] of [
    [1, '?ttl=1h'],
    [2, ''],
  ] as const)
    await fetch(`${at}/v1/records/${key}${query}`, { method: 'PUT', body: 'x' })
  await first.sidecar.stop()
  const clock = new ManualClock(Date.now() + 48 * HOUR)
  const here = await sidecarHere({ spec, clock, directory: first.directory })
  return { here, url: await here.sidecar.serving, clock }
}

const stored = async (here: SidecarHere) => (await here.status()).data.count

test('a start that is days late removes nothing, and goes on once the clock was steady for ten minutes', {
  timeout: 60_000,
}, async () => {
  const { here, url, clock } = await late()
  expect(await jumped(here)).toBe(true)
  expect((await fetch(`${url}/v1/records/1`)).status).toBe(404)
  expect(await expire(url)).toMatchObject({ removed: 0, paused: expect.stringContaining('past the last commit') })
  // the schedule, too
  await clock.advance(9 * 60_000)
  expect(await jumped(here)).toBe(true)
  expect(await stored(here)).toBe('2')
  await clock.advance(61_000)
  await vi.waitFor(async () => {
    await clock.advance(2000)
    expect(await jumped(here)).toBe(false)
  }, patience)
  await clock.advance(61_000)
  await vi.waitFor(async () => expect(await stored(here)).toBe('1'), patience)
})

test('… or once a person has said that the clock is right', { timeout: 60_000 }, async () => {
  const { here, url } = await late()
  expect(await expire(url, '?confirm=false')).toMatchObject({ removed: 0 })
  expect(await expire(url, '?confirm=true')).toMatchObject({ removed: 1 })
  expect(await jumped(here)).toBe(false)
  expect(await stored(here)).toBe('1')
})
