import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { sidecarHere } from '../../support/sidecar-here.ts'

const patience = { timeout: 15_000, interval: 50 }
/** Between two looks of maintenance, ms. */
const LOOK = 2000

test('the log is copied back when it has grown to its size, and cut when nobody writes any more', {
  timeout: 60_000,
}, async () => {
  const clock = new ManualClock(Date.now())
  const checkpoint = { walSize: '1Mi', interval: '24h' }
  const { sidecar, directory, status } = await sidecarHere({
    clock,
    spec: { monitoring: { logLevel: 'Error' }, maintenance: { checkpoint } },
  })
  await sidecar.serving
  const wal = () => statSync(join(directory, 'db', 'main.db-wal')).size
  const write = (bytes: number) =>
    sidecar.database.write({ operations: [{ op: 'put', key: 1n, term: 0n, cmd: 0n, data: randomBytes(bytes) }] })
  const last = async (): Promise<number | undefined> =>
    (await status()).tasks.find((task: { name: string }) => task.name === 'checkpoint').lastRun
  /** One look of maintenance, and whether it began a checkpoint. */
  const look = async () => {
    const before = await last()
    // the one before is through
    await new Promise(resolve => setTimeout(resolve, 500))
    await clock.advance(LOOK)
    await new Promise(resolve => setTimeout(resolve, 500))
    return (await last()) !== before
  }
  // what the making of the database left in the log
  await vi.waitFor(async () => {
    await look()
    expect(wal()).toBe(0)
  }, patience)
  await write(100_000)
  expect(await look()).toBe(false)
  await write(100_000)
  expect(await look()).toBe(false)
  expect(wal()).toBeGreaterThan(200_000)
  // by its size, between two writes
  await write(1_200_000)
  expect(await look()).toBe(true)
  await write(100_000)
  expect(await look()).toBe(false)
  expect(wal()).toBeGreaterThan(0)
  // nobody has written since the last look
  expect(await look()).toBe(true)
  await vi.waitFor(() => expect(wal()).toBe(0), patience)
  expect(await look()).toBe(false)
})
