import { expect, test } from 'vitest'
import { Unreachable } from '../../../src/cli/exit-code.ts'
import { ManualClock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { awaitDatabase } from '../../../src/pod-job/await-database.ts'

const PATIENCE = 60_000
const log = { debug() {}, info() {}, warn() {}, error() {} }

/** Runs to its end, the time with it. Answers come from `ask`; resolves with how often it was asked, and the ms that passed. */
async function run(ask: (count: number) => Promise<unknown>, signal = new AbortController().signal) {
  const clock = new ManualClock(0)
  let count = 0
  let done = false
  const work = awaitDatabase({ clock, log, signal }, () => ask(++count), PATIENCE).then(() => {
    done = true
  })
  while (!done && clock.monotonic() < 10 * PATIENCE) await clock.advance(1000)
  await work
  return { count, passed: clock.monotonic() }
}

const away = () => Promise.reject(new Unreachable('nobody'))

test('a database that is away for half a minute is waited for', async () => {
  const { count, passed } = await run(count => (count < 7 ? away() : Promise.resolve()))
  expect(count).toBe(7)
  expect(passed).toBeGreaterThanOrEqual(30_000)
})

test('one that stays away is waited for no longer than that', async () => {
  const { passed } = await run(away)
  expect(passed).toBeLessThanOrEqual(PATIENCE + 1000)
})

test('an answer is an answer, also a refusal', async () => {
  const { count } = await run(() => Promise.reject(new KvidxError('unauthorized', 'no')))
  expect(count).toBe(1)
})

test('a pod that is stopped waits no more', async () => {
  const stopped = new AbortController()
  const { count } = await run(seen => {
    if (seen === 3) stopped.abort()
    return away()
  }, stopped.signal)
  expect(count).toBe(3)
})
