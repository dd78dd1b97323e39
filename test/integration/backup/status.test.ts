import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { standalonePaths } from '../../../src/standalone/paths.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'

/** What `/status` tells of backups, at once and not ten minutes later. */
const PATIENCE = { timeout: 10_000 }

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
  await vi.waitFor(async () => expect((await told()).catalog.error).toMatch(/'k2026' is not in/), PATIENCE)
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
  await vi.waitFor(async () => expect((await told()).recoveryWindow).toMatchObject({ fromPosition: '1.1' }), PATIENCE)
  expect((await told()).catalog).toMatchObject({ backups: 1 })
  expect((await told()).catalog.error).toBeUndefined()
})

test('a Full of a database without commits opens the window when it began: drills are of moments of its life, and no restore goes back to 1970', async () => {
  const began = Date.now()
  const young = await startRunning({ backup: { continuous: { enabled: true, interval: '100ms' } } })
  try {
    const here = (...args: string[]) => kvidx([...args, '--server', young.url, '--output', 'json'])
    expect((await here('backup', 'create', 'empty')).code).toBe(0)
    const empty = JSON.parse((await here('backup', 'list')).out)
    const { from } = empty.recoveryWindow
    expect(Date.parse(from)).toBeGreaterThanOrEqual(began)
    await vi.waitFor(async () => expect((await young.status()).backup.recoveryWindow).toMatchObject({ from }), PATIENCE)
    await young.put(1, 'one')
    await vi.waitFor(async () => expect((await young.status()).backup.continuous.shipped).toBe('1.1'), PATIENCE)
    const drill = JSON.parse((await here('backup', 'drill')).out.trim().split('\n').at(-1) as string)
    expect(drill.phase).toBe('Completed')
    expect(Date.parse(drill.time)).toBeGreaterThanOrEqual(began)
    // a slip of the year
    const refused = await kvidx(['restore', '--server', young.url, '--at', '2020-01-01T00:00:00Z'])
    expect(refused.code).toBe(3)
    expect(refused.notes).toContain(`comes before time 2020-01-01T00:00:00.000Z; the oldest are: empty at 1.0, ${from}`)
    expect((await kvidx(['count', '--server', young.url])).out.trim()).toBe('1')
    const between = await kvidx(['restore', '--server', young.url, '--at', from, '--dry-run'])
    expect(between.out).toMatch(/would remove +1/)
    const beside = ['--store', young.store, '--at', 'empty', '--data-dir', join(young.root, 'beside')]
    const restored = await kvidx(['backup', 'restore', ...beside])
    expect([restored.code, restored.out]).toEqual([0, expect.stringMatching(/^last commit +none yet$/m)])
  } finally {
    await young.stop()
    remove(young)
  }
})
