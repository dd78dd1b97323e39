import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { isNewVolume, volumeLayout } from '../../../sidecar/volume/layout.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'
import { canMount, smallVolume } from '../../support/small-volume.ts'

const KVIDX = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))
const patience = { timeout: 15_000, interval: 100 }

function remount(volume: string, how: 'ro' | 'rw'): void {
  execFileSync('mount', ['-o', `remount,${how}`, dirname(volume)])
}

describe.skipIf(!canMount)('a data volume that is mounted read-only', () => {
  test.each(['new', 'used'])(
    'is named, with what to do, and taken up once it can be written to: %s',
    {
      timeout: 60_000,
    },
    async which => {
      const directory = smallVolume(64)
      if (which === 'used') {
        const { sidecar } = await sidecarHere({ directory })
        await sidecar.serving
        await sidecar.stop()
      }
      remount(directory, 'ro')
      onTestFinished(() => remount(directory, 'rw'))
      const { sidecar, status } = await sidecarHere({ directory })
      await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
      expect((await status()).failure).toMatchObject({
        code: 'engine_io',
        message: expect.stringMatching(
          `^the data volume cannot be used: ${directory} is on a file system that is mounted read-only: mount it read-write`,
        ),
        details: { path: directory },
      })
      remount(directory, 'rw')
      await sidecar.serving
      await sidecar.stop()
    },
  )

  test('is the answer to the command where a directory would have to be made on it', { timeout: 30_000 }, () => {
    const volume = smallVolume(64)
    const manifest = join(temporaryDirectory(), 'orders.yaml')
    writeFileSync(
      manifest,
      'apiVersion: kvidx.io/v1alpha1\nkind: KvidxDatabase\nmetadata: { name: orders }\nspec: { engine: SQLite, storage: { size: 1Gi } }\n',
    )
    remount(volume, 'ro')
    const missing = join(volume, 'a', 'b')
    const what = `${missing} cannot be made: ${volume} is on a file system that is mounted read-only: mount it read-write`
    const run = (args: readonly string[]) => {
      const rest = ['--data-dir', missing, '--data-port', '0', '--ops-port', '0']
      const { status, stderr } = spawnSync(process.execPath, [KVIDX, ...args, ...rest], { encoding: 'utf8' })
      return [status, stderr]
    }
    expect(run(['sidecar'])).toEqual([2, expect.stringContaining(`kvidx: --data-dir: ${what}`)])
    expect(run(['run', '-f', manifest])).toEqual([1, expect.stringContaining(`kvidx: ${what}`)])
    expect(existsSync(missing)).toBe(false)
  })
})

test('a data volume that is not there is named, and so is a file in its place', async () => {
  const directory = join(temporaryDirectory(), 'volume')
  const layout = volumeLayout(directory)
  const told = async () => ((await isNewVolume(layout).catch((error: unknown) => error)) as Error).message
  expect(await told()).toBe(
    `the data volume cannot be used: ${directory} does not exist: make it, or mount the volume there`,
  )
  writeFileSync(directory, 'a file')
  expect(await told()).toBe(`the data volume cannot be used: ${directory} is a file (allowed: a directory)`)
})
