import { randomBytes } from 'node:crypto'
import { expect, test, vi } from 'vitest'
import { sidecarHere } from '../../support/sidecar-here.ts'

const MIB = 1024 * 1024
const patience = { timeout: 15_000, interval: 100 }

test('who needed changes that the log had no room for is named, until it has a position of its own again', {
  timeout: 60_000,
}, async () => {
  const { sidecar, status } = await sidecarHere({
    spec: { monitoring: { logLevel: 'Error' }, changeLog: { maxSize: '2Mi', idleSize: '1Mi' } },
  })
  const url = await sidecar.serving
  const { database } = sidecar
  await database.registerConsumer('schedule/hourly', database.state.position)
  const write = async (count: number) => {
    for (let key = 0; key < count; key++)
      await fetch(`${url}/v1/records/${key}`, { method: 'PUT', body: randomBytes(MIB) })
  }
  await write(6)
  // below the bound it pins the log
  expect(database.state.logBase.seq).toBe(0n)
  await new Promise(resolve => setTimeout(resolve, 2500))
  expect((await status()).trimmedConsumers).toBeUndefined()
  await database.registerConsumer('schedule/nightly', database.state.position)
  await write(1)
  expect(database.state.logBase.seq).toBeGreaterThan(0n)
  await vi.waitFor(async () => expect((await status()).trimmedConsumers).toEqual(['schedule/hourly']), patience)
  await database.registerConsumer('schedule/hourly', database.state.position)
  await vi.waitFor(async () => expect((await status()).trimmedConsumers).toBeUndefined(), patience)
})
