import { cpSync, mkdirSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { readIdentity } from '../../../sidecar/volume/identity.ts'
import { volumeLayout } from '../../../sidecar/volume/layout.ts'
import { lockVolume } from '../../../sidecar/volume/lock.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

/** identity.json says whose volume it is; where the database behind it is gone, a start must not begin an empty one in its name. */

const patience = { timeout: 15_000, interval: 50 }

async function used(engine: EngineKind): Promise<{ directory: string; lineage: string }> {
  const directory = join(temporaryDirectory(), 'volume')
  const { sidecar } = await sidecarHere({ engine, directory })
  const url = await sidecar.serving
  expect((await fetch(`${url}/v1/records/1`, { method: 'PUT', body: 'one' })).status).toBe(201)
  await sidecar.stop()
  return { directory, lineage: sidecar.database.lineage }
}

const cases: ReadonlyArray<readonly [EngineKind, string, (directory: string) => void]> = [
  ...(['SQLite', 'LMDB', 'RocksDB'] as const).map(
    engine => [engine, 'gone', (directory: string) => rmSync(join(directory, 'db'), { recursive: true })] as const,
  ),
  // RocksDB reports a cut file by itself
  ['SQLite', 'cut to nothing', directory => truncateSync(join(directory, 'db', 'main.db'))],
  ['LMDB', 'cut to nothing', directory => truncateSync(join(directory, 'db', 'main.lmdb', 'data.mdb'))],
]

test.each(cases)('%s, %s: the start says so and serves nothing', async (engine, _, lose) => {
  const { directory, lineage } = await used(engine)
  lose(directory)
  const { sidecar, status, configure } = await sidecarHere({ engine, directory })
  await vi.waitFor(async () => expect((await status()).failure).toMatchObject({ code: 'data_lost' }), patience)
  expect((await status()).failure.message).toContain(lineage)
  expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(503)
  expect(readdirSync(join(directory, 'quarantine'))).toEqual([])

  configure({ spec: { recovery: { allowEmpty: lineage } } })
  const url = await sidecar.serving
  expect(await (await fetch(`${url}/v1/count`)).json()).toMatchObject({ count: '0' })
  expect(sidecar.database.lineage).not.toBe(lineage)
  expect((await readIdentity(volumeLayout(directory))).identity?.lineage).toBe(sidecar.database.lineage)
  await sidecar.stop()
})

test('who waited for the lock of a new volume takes what its holder made of it, and no other name', async () => {
  const { directory: made, lineage } = await used('SQLite')
  const directory = join(temporaryDirectory(), 'volume')
  mkdirSync(directory)
  const held = lockVolume(volumeLayout(directory).lock, 'test')
  const { sidecar, status } = await sidecarHere({ directory })
  await vi.waitFor(async () => expect((await status()).failure).toMatchObject({ code: 'locked' }), patience)
  cpSync(join(made, 'db'), join(directory, 'db'), { recursive: true })
  cpSync(join(made, 'identity.json'), join(directory, 'identity.json'))
  held.release()
  await sidecar.serving
  expect(sidecar.database.lineage).toBe(lineage)
  expect((await readIdentity(volumeLayout(directory))).identity?.lineage).toBe(lineage)
  await sidecar.stop()
})
