import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { standalonePaths } from '../../../src/standalone/paths.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'

/** What `/status` tells of backups, at once and not ten minutes later. */
let running: Running
const keys = () => join(standalonePaths(running.root, 'default', 'orders').directory, 'encryption')
beforeAll(async () => {
  running = await startRunning({
    spec: { security: { encryption: { secretRef: { name: 'orders-keys' }, keyId: 'k2026' } } },
  })
  await running.put(1, 'one')
})
afterAll(async () => {
  await running.stop()
  remove(running)
})

const job = (verb: string, ...args: string[]) =>
  kvidx(['job', verb, '--config', running.configFile, '--server', running.url, ...args])
const told = async () => (await running.status()).backup

test('a job that could not even open the store, or had no scratch space, is a backup that failed', async () => {
  await vi.waitFor(async () => expect((await told()).catalog.error).toMatch(/'k2026' is not in/))
  const ran = await job('backup', '--schedule', 'daily', '--slot', '2026-11-23T02:00:00Z')
  expect(ran.code).toBe(2)
  expect(JSON.parse(ran.out)).toMatchObject({ phase: 'Failed', code: 'invalid_parameter' })
  expect(await told()).toMatchObject({
    failures: 1,
    lastFailed: { name: 'orders-daily-20261123t0200z', schedule: 'daily', error: expect.stringMatching(/'k2026'/) },
  })
  expect((await job('drill')).code).toBe(2)
  expect((await told()).drill).toMatchObject({ phase: 'Failed', error: expect.stringMatching(/'k2026'/) })

  mkdirSync(keys(), { recursive: true })
  writeFileSync(join(keys(), 'k2026'), `${'ab'.repeat(32)}\n`)
  const file = join(running.root, 'a file')
  writeFileSync(file, '')
  const roomless = await job('backup', '--schedule', 'daily', '--scratch', file)
  expect(roomless.code).toBe(1)
  expect(JSON.parse(roomless.out)).toMatchObject({ phase: 'Failed', error: expect.stringMatching(/a file/) })
  expect(await told()).toMatchObject({ failures: 2, lastFailed: { error: expect.stringMatching(/a file/) } })
})

test('after a Full the store is known to be readable, and the recovery window to be open', async () => {
  expect((await told()).catalog.error).toBeDefined()
  expect((await job('backup', '--schedule', 'daily')).code).toBe(0)
  await vi.waitFor(async () => expect((await told()).recoveryWindow).toMatchObject({ fromPosition: '1.1' }))
  expect((await told()).catalog).toMatchObject({ backups: 1 })
  expect((await told()).catalog.error).toBeUndefined()
})
