import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { LiveConfig } from '../../../sidecar/live-config.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { createLog } from '../../../src/common/log.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

const LOST = 'b9a6a2a4-4a50-4d4c-9d2a-2f3d3f1c5a11'
const patience = { timeout: 15_000, interval: 100 }
const quiet = { monitoring: { logLevel: 'Error' } }

describe('the configuration of a running process', () => {
  test('that can no longer be used a moment after it was first read leaves what was read in force', async () => {
    const root = temporaryDirectory()
    const path = join(root, 'config.json')
    const document = (logLevel: string) =>
      renderSidecarConfig(
        sidecarConfig({
          namespace: 'default',
          name: 'orders',
          spec: withDefaults({ engine: 'SQLite', storage: { size: '1Gi' }, monitoring: { logLevel } } as never),
        }),
      )
    writeFileSync(path, document('Error'))
    const log = createLog({ name: 'test', level: 'Silent' }).logger
    const live = LiveConfig.open(
      path,
      config => config,
      () => log,
    )
    writeFileSync(path, '{ half a docu')
    await live.watch(systemClock, 20)
    onTestFinished(() => live.stop())
    expect(live.dynamic.monitoring.logLevel).toBe('Error')
    writeFileSync(path, document('Warn'))
    await vi.waitFor(() => expect(live.dynamic.monitoring.logLevel).toBe('Warn'), patience)
  })

  test('/status tells size, free bytes and quarantine of the volume', async () => {
    const directory = await usedVolume()
    const old = join(directory, 'quarantine', '20200102T030405Z-restored')
    const newer = join(directory, 'quarantine', '20200103T030405Z-import')
    for (const [path, bytes] of [
      [old, 1000],
      [newer, 3000],
    ] as const) {
      mkdirSync(path, { recursive: true })
      writeFileSync(join(path, 'main.db'), Buffer.alloc(bytes))
    }
    const { sidecar, status } = await sidecarHere({ directory })
    await sidecar.serving
    await vi.waitFor(async () => {
      const { volume } = await status()
      expect(volume.size).toBeGreaterThan(volume.free)
      expect(volume.free).toBeGreaterThan(0)
      // seven days have long passed, but the newest always stays
      expect(volume.quarantine).toEqual({ entries: 1, bytes: 3000, oldest: Date.UTC(2020, 0, 3, 3, 4, 5) })
    }, patience)
  })

  test('a changed interval holds without a restart, and a document that is not valid changes nothing', async () => {
    const { sidecar, status, configure } = await sidecarHere()
    await sidecar.serving
    const nextExpiry = async () =>
      (await status()).tasks.find((task: { name: string }) => task.name === 'expire').nextRun - Date.now()
    expect(await nextExpiry()).toBeLessThan(60_001)
    const measured = async (task: string) => {
      const text = await (await fetch(`${sidecar.opsAddress}/metrics`)).text()
      return new RegExp(`^kvidx_task_next_run_timestamp_seconds\\{task="${task}"\\} (.+)$`, 'm').exec(text)?.[1]
    }
    expect(await measured('check')).toBeDefined()
    expect(await measured('compact')).toBeUndefined()
    configure({ spec: { ...quiet, maintenance: { expiry: { interval: '2h' }, check: { enabled: false } } } })
    await vi.waitFor(async () => expect(await nextExpiry()).toBeGreaterThan(7_000_000), patience)
    expect(Number(await measured('expire')) - Date.now() / 1000).toBeGreaterThan(7000)
    expect(await measured('check')).toBeUndefined()
    configure({ edit: config => ({ ...config, formatVersion: 2 }) as never })
    await new Promise(resolve => setTimeout(resolve, 2500))
    expect(await nextExpiry()).toBeGreaterThan(7_000_000)
    configure({ spec: { ...quiet, maintenance: { expiry: { interval: '3h' } } } })
    await vi.waitFor(async () => expect(await nextExpiry()).toBeGreaterThan(10_000_000), patience)
  })

  test('a changed engine setting waits for the next start and is announced', async () => {
    const { sidecar, status, configure } = await sidecarHere()
    await sidecar.serving
    configure({ spec: { ...quiet, tuning: { syncMode: 'Off' } } })
    await vi.waitFor(async () => expect((await status()).restartNeeded).toBe(true), patience)
    expect(sidecar.database.config.tuning.syncMode).toBe('Full')
  })
})

/** A volume with the files of a database that was stopped. */
async function usedVolume(): Promise<string> {
  const { sidecar, directory } = await sidecarHere({ spec: quiet })
  await sidecar.serving
  await sidecar.stop()
  return directory
}

describe('a start that failed', () => {
  test('for lost data is tried again when allowEmpty is set, in the same process', async () => {
    const { sidecar, status, configure } = await sidecarHere({ expectedLineage: LOST, spec: quiet })
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('data_lost'), patience)
    expect((await status()).lifecycle).toBe('failed')
    expect((await fetch(`${sidecar.opsAddress}/health`)).status).toBe(200)
    expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(503)
    configure({ expectedLineage: LOST, spec: { ...quiet, recovery: { allowEmpty: LOST } } })
    const data = await sidecar.serving
    expect((await fetch(`${data}/v1/records/1`, { method: 'PUT', body: 'x' })).status).toBe(201)
    const after = await status()
    expect(after.failure).toBeUndefined()
    expect(after.lineage).not.toBe(LOST)
  })

  test('for a foreign volume is tried again when it is adopted', async () => {
    const directory = await usedVolume()
    const file = join(directory, 'identity.json')
    const identity = JSON.parse(readFileSync(file, 'utf8')) as { lineage: string }
    writeFileSync(file, JSON.stringify({ ...identity, name: 'invoices' }))
    const { sidecar, status, configure } = await sidecarHere({ directory, spec: quiet })
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('foreign_volume'), patience)
    configure({ spec: { ...quiet, bootstrap: { adopt: identity.lineage } } })
    await sidecar.serving
    expect((await status()).lineage).toBe(identity.lineage)
    expect((await status()).start.volume).toBe('adopted')
  })

  test('ends at once when the process is stopped', async () => {
    const { sidecar, status } = await sidecarHere({ expectedLineage: LOST, spec: quiet })
    await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
    await sidecar.stop()
    await expect(sidecar.serving).rejects.toMatchObject({ code: 'data_lost' })
  })
})
