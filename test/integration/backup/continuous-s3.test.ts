import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type RunningS3, startVersitygw } from '../../servers/versitygw.ts'
import { kvidx } from '../cli/harness.ts'
import { type Running, remove, startRunning } from './running.ts'
import { s3Binary, s3Destination, startS3 } from './s3-server.ts'

vi.setConfig({ testTimeout: 60_000 })

describe.skipIf(!s3Binary)('continuous backup to an S3 server', () => {
  let server: RunningS3
  let running: Running
  const root = mkdtempSync(join(tmpdir(), 'kvidx-s3-running-'))
  const store = mkdtempSync(join(tmpdir(), 'kvidx-s3-files-'))
  const continuous = async () => (await running.status()).backup.continuous
  beforeAll(async () => {
    const first = await startS3()
    const port = Number(new URL(first.endpoint).port)
    await first.stop()
    // of our own directory, so that it survives an outage
    server = await startVersitygw(s3Binary!, { port, directory: store })
    running = await startRunning({
      root,
      backup: {
        destination: s3Destination(server, root),
        continuous: { enabled: true, interval: '200ms' },
      },
    })
  })
  afterAll(async () => {
    await running.stop()
    await server.stop()
    remove(running)
    rmSync(store, { recursive: true, force: true })
  })

  test('ships, tells of an outage and its age, and loses nothing', async () => {
    for (let key = 0; key < 20; key++) await running.put(key, `value ${key}`)
    const job = await kvidx([
      'job',
      'backup',
      '--schedule',
      'daily',
      '--config',
      running.configFile,
      '--server',
      running.url,
    ])
    expect([job.code, job.notes]).toEqual([0, ''])
    await expect.poll(continuous, { timeout: 10_000 }).toMatchObject({ state: 'Shipping', backlogChanges: 0, rpoMs: 0 })
    const port = Number(new URL(server.endpoint).port)
    await server.stop()
    for (let key = 20; key < 40; key++) await running.put(key, `value ${key}`)
    await expect
      .poll(continuous, { timeout: 20_000 })
      .toMatchObject({ state: 'Failing', backlogChanges: 20, failing: { code: 'store_unreachable' } })
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect((await continuous()).rpoMs).toBeGreaterThan(1000)
    // reads, writes and probes go on
    expect((await fetch(`${running.sidecar.opsAddress}/ready`)).status).toBe(200)
    server = await startVersitygw(s3Binary!, { port, directory: store })
    await expect
      .poll(continuous, { timeout: 30_000 })
      .toMatchObject({ state: 'Shipping', backlogChanges: 0, rpoMs: 0, gaps: [] })
    const drill = await kvidx(['job', 'drill', '--config', running.configFile, '--server', running.url])
    expect([drill.code, drill.notes]).toEqual([0, ''])
    const { digest, position } = running.sidecar.database.state
    const restored = await kvidx(['restore', '--latest', '--server', running.url, '--output', 'json'])
    expect([restored.code, restored.notes]).toEqual([0, ''])
    expect(JSON.parse(restored.out).target).toBe(`${position.epoch}.${position.seq}`)
    expect(running.sidecar.database.state.digest).toBe(digest)
  })
})
