import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import type { ConfigPaths } from '../../src/api/v1alpha1/sidecar-config.ts'
import { configPaths } from '../../src/standalone/paths.ts'
import { kvidx } from '../integration/cli/harness.ts'
import { powerLossVolume } from '../support/power-loss.ts'
import { type SidecarProcess, startSidecarProcess } from '../support/sidecar-process.ts'
import { canMount } from '../support/small-volume.ts'

/** The power fails: only what was synced is there afterwards. Each test compares what was acknowledged with what the disk holds. */

vi.setConfig({ testTimeout: 180_000 })

test('power losses are tested where CI says so', () => {
  expect(canMount || process.env.CI !== 'true', 'with CI=true these tests need root, to mount').toBe(true)
})

interface Stats {
  readonly count: string
  readonly digest: string
  readonly position: string
}

const statsOf = async ({ data }: SidecarProcess) => (await (await fetch(`${data}/v1/stats`)).json()) as Stats
const put = async ({ data }: SidecarProcess, key: number, body: string) =>
  (await fetch(`${data}/v1/records/${key}`, { method: 'PUT', body })).status

async function start(
  directory: string,
  engine: EngineKind,
  spec: object = {},
  paths?: ConfigPaths,
): Promise<SidecarProcess> {
  const sidecar = await startSidecarProcess(directory, engine, {
    spec: { monitoring: { logLevel: 'Error' }, ...spec },
    ...(paths && { paths }),
  })
  onTestFinished(() => sidecar.kill('SIGKILL'))
  return sidecar
}

/** Whole, by the engine's own check and by a scan against the counters. */
async function expectSound(sidecar: SidecarProcess): Promise<void> {
  const answer = await fetch(`${sidecar.data}/v1/admin/check`, { method: 'POST' })
  expect([answer.status, answer.status === 200 ? '' : await answer.text()]).toEqual([200, ''])
}

const records = (from: number, count: number, size = 1000) =>
  Array.from({ length: count }, (_, i) =>
    JSON.stringify({
      key: String(from + i),
      term: '0',
      cmd: '0',
      data: Buffer.alloc(size, from + i).toString('base64'),
    }),
  ).join('\n')

async function importAll({ data }: SidecarProcess, lines: string, query = ''): Promise<void> {
  const answer = await fetch(`${data}/v1/import?format=ndjson${query}`, {
    method: 'POST',
    body: `${lines}\n`,
    headers: { 'content-type': 'application/x-ndjson' },
  })
  expect([answer.status, await answer.text()]).toEqual([200, expect.anything()])
}

describe.skipIf(!canMount).each<EngineKind>(['SQLite', 'LMDB', 'RocksDB'])('power loss, %s', engine => {
  test('with Full, everything acknowledged is there, from the first write of a new volume on', async () => {
    const volume = powerLossVolume(256)
    const sidecar = await start(volume.directory, engine)
    expect(await put(sidecar, 1, 'the first')).toBe(201)
    const first = await statsOf(sidecar)
    const early = volume.cut()
    for (let key = 2; key <= 40; key++) expect(await put(sidecar, key, 'x'.repeat(key * 50))).toBe(201)
    const last = await statsOf(sidecar)
    await sidecar.kill('SIGKILL')
    const late = volume.cut()
    for (const [directory, expected] of [
      [early, first],
      [late, last],
    ] as const) {
      const again = await start(directory, engine)
      expect(await statsOf(again)).toMatchObject({ count: expected.count, digest: expected.digest })
      await expectSound(again)
      await again.kill('SIGKILL')
    }
  })

  test.each(['into an empty database', 'that replaces everything'])(
    'an acknowledged import %s is there, and what it replaced',
    async kind => {
      const volume = powerLossVolume(256)
      const sidecar = await start(volume.directory, engine)
      const replaces = kind === 'that replaces everything'
      if (replaces) for (let key = 1; key <= 20; key++) await put(sidecar, key, `old ${key}`)
      const before = await statsOf(sidecar)
      await importAll(sidecar, records(100, 2000), replaces ? '&clear=true' : '')
      const after = await statsOf(sidecar)
      await sidecar.kill('SIGKILL')
      const directory = volume.cut()
      const again = await start(directory, engine)
      expect(await statsOf(again)).toMatchObject({ count: '2000', digest: after.digest })
      await expectSound(again)
      if (!replaces) return
      const undone = await fetch(`${again.data}/v1/admin/restore?undo=latest`, { method: 'POST' })
      expect([undone.status, undone.status < 300 ? '' : await undone.text()]).toEqual([200, ''])
      expect(await statsOf(again)).toMatchObject({ count: before.count, digest: before.digest })
      await expectSound(again)
    },
  )

  test.each(['Normal', 'Off'])(
    'with %s, a stop in order leaves everything on the disk, or does not call itself clean',
    async syncMode => {
      const volume = powerLossVolume(256)
      const spec = { tuning: { syncMode } }
      const sidecar = await start(volume.directory, engine, spec)
      for (let key = 1; key <= 40; key++) expect(await put(sidecar, key, 'x'.repeat(key * 100))).toBe(201)
      const last = await statsOf(sidecar)
      await sidecar.kill('SIGTERM')
      const again = await start(volume.cut(), engine, spec)
      const status = (await (await fetch(`${again.operations}/status`)).json()) as { start: { lastEnd: string } }
      expect([status.start.lastEnd, await statsOf(again)]).toMatchObject([
        'clean',
        { count: last.count, digest: last.digest },
      ])
      await expectSound(again)
    },
  )
})

describe.skipIf(!canMount)('power loss, backups', () => {
  const spec = {
    backup: {
      destination: { volume: { size: '1Gi' } },
      schedules: [{ name: 'daily', schedule: '0 2 * * *', type: 'Full', verify: true }],
      continuous: { enabled: true, interval: '100ms' },
    },
  }
  const on = (root: string, more: object = {}) =>
    start(
      join(root, 'data'),
      'SQLite',
      { ...spec, ...more },
      configPaths({ directory: root, backups: join(root, 'store') } as never),
    )
  const restoreInPlace = async ({ data }: SidecarProcess, query: string) => {
    const answer = await fetch(`${data}/v1/admin/restore?${query}`, { method: 'POST' })
    expect([answer.status, answer.ok ? '' : await answer.text()]).toEqual([200, ''])
  }

  test('what was Completed, shipped or restored is on the disk', async () => {
    const volume = powerLossVolume(256)
    mkdirSync(join(volume.directory, 'store'))
    const sidecar = await on(volume.directory)
    for (let key = 1; key <= 20; key++) await put(sidecar, key, `first ${key}`)
    const first = await statsOf(sidecar)
    const made = await kvidx(['backup', 'create', 'base', '--server', sidecar.data])
    expect([made.code, made.notes]).toEqual([0, ''])
    for (let key = 1; key <= 5; key++) await put(sidecar, key, `second ${key}`)
    const second = await statsOf(sidecar)
    const shipped = async () => {
      const status = (await (await fetch(`${sidecar.operations}/status`)).json()) as {
        backup: { continuous: { shipped: string } }
      }
      expect(status.backup.continuous.shipped).toBe(second.position)
    }
    await vi.waitFor(shipped, { timeout: 20_000, interval: 100 })
    const beforeRestore = volume.cut()
    await restoreInPlace(sidecar, 'backup=base')
    const afterRestore = volume.cut()
    await sidecar.kill('SIGKILL')

    const lost = await on(beforeRestore)
    await restoreInPlace(lost, 'latest=Change')
    expect(await statsOf(lost)).toMatchObject({ count: second.count, digest: second.digest })
    await restoreInPlace(lost, 'backup=base')
    expect(await statsOf(lost)).toMatchObject({ count: first.count, digest: first.digest })
    await lost.kill('SIGKILL')

    const restored = await on(afterRestore)
    expect(await statsOf(restored)).toMatchObject({ count: first.count, digest: first.digest })
    await expectSound(restored)
    await restoreInPlace(restored, 'undo=latest')
    expect(await statsOf(restored)).toMatchObject({ count: second.count, digest: second.digest })
    await expectSound(restored)
  })
})
