import { randomBytes } from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { sidecarHere } from '../../support/sidecar-here.ts'

const DAY = 24 * 3600_000
const MIB = 1024 * 1024
const patience = { timeout: 15_000, interval: 50 }

/** Both clocks can be moved on together; what waits for a minute waits for a moment. */
function movable() {
  let ahead = 0
  const clock: Clock = {
    now: () => systemClock.now() + ahead,
    monotonic: () => systemClock.monotonic() + ahead,
    sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 50), signal),
    setTimer: (ms, callback) => systemClock.setTimer(ms, callback),
  }
  return {
    clock,
    move: (ms: number) => {
      ahead += ms
    },
  }
}

test('the change log waits 40 days for a consumer that does not come back, and again for one that does', {
  timeout: 60_000,
}, async () => {
  const { clock, move } = movable()
  const { sidecar, status } = await sidecarHere({
    spec: { monitoring: { logLevel: 'Error' }, changeLog: { maxSize: '50Mi', idleSize: '1Mi' } },
    clock,
  })
  const url = await sidecar.serving
  const { database } = sidecar
  const metric = async () =>
    /^kvidx_change_log_unseen_consumers (\d+)$/m.exec(await (await fetch(`${sidecar.opsAddress}/metrics`)).text())?.[1]
  const write = async () => {
    for (let key = 0; key < 8; key++) await fetch(`${url}/v1/records/${key}`, { method: 'PUT', body: randomBytes(MIB) })
  }
  const looks = async (name: string) => {
    move(2 * 60_000)
    await vi.waitFor(async () => expect((await status()).unseenConsumers).toEqual([name]), patience)
  }

  await database.registerConsumer('schedule/deleted', database.state.position)
  await database.registerConsumer('schedule/monthly', database.state.position)
  await write()
  move(39 * DAY)
  await database.registerConsumer('schedule/monthly', database.state.position)
  await new Promise(resolve => setTimeout(resolve, 500))
  expect((await status()).unseenConsumers).toBeUndefined()
  expect(await metric()).toBe('0')
  expect(database.state.logBase.seq).toBe(0n)

  move(DAY)
  await looks('schedule/deleted')
  expect(await metric()).toBe('1')
  // what the other one has is no longer needed by anybody
  await vi.waitFor(() => expect(database.state.logBase.seq).toBeGreaterThan(0n), patience)
  await write()
  expect(database.state.logBase.seq).toBeLessThanOrEqual(8n)
  // its next backup is a Full
  await vi.waitFor(async () => expect((await status()).trimmedConsumers).toEqual(['schedule/deleted']), patience)

  await database.registerConsumer('schedule/deleted', database.state.position)
  await vi.waitFor(async () => expect((await status()).unseenConsumers).toBeUndefined(), patience)
  const { seq } = database.state.position
  await database.removeConsumer('schedule/monthly')
  await write()
  expect(database.state.logBase.seq).toBeLessThanOrEqual(seq)
})

test('who could not come because the database was away has a day to do so', { timeout: 60_000 }, async () => {
  const first = await sidecarHere({ spec: { monitoring: { logLevel: 'Error' } } })
  await first.sidecar.serving
  await first.sidecar.database.registerConsumer('schedule/hourly', first.sidecar.database.state.position)
  await first.sidecar.stop()
  const { clock, move } = movable()
  move(60 * DAY)
  const { sidecar, status } = await sidecarHere({
    spec: { monitoring: { logLevel: 'Error' } },
    clock,
    directory: first.directory,
  })
  await sidecar.serving
  await new Promise(resolve => setTimeout(resolve, 500))
  expect((await status()).unseenConsumers).toBeUndefined()
  expect((await sidecar.database.consumers())['schedule/hourly']?.lapsed).toBeUndefined()
  move(DAY)
  await vi.waitFor(async () => expect((await status()).unseenConsumers).toEqual(['schedule/hourly']), patience)
})
