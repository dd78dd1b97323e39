import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { backupFull } from '../../../sidecar/backup/backup.ts'
import { NO_KEYS } from '../../../sidecar/backup/key-ring.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { openStore } from '../../../sidecar/backup/store/settings.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { restoreOffline } from '../../../sidecar/restore/offline.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { fill, openDatabase } from './data.ts'

/** Restore to ready: from a store to an open database on each engine, for each size in GiB. */
export async function rto(root: string, sizes: readonly number[], engines: readonly EngineKind[]): Promise<void> {
  const { signal } = new AbortController()
  for (const gib of sizes) {
    const directory = join(root, `rto-${gib}`)
    for (const name of ['data', 'store']) mkdirSync(join(directory, name), { recursive: true })
    const bytes = gib * 2 ** 30
    const database = await openDatabase(join(directory, 'data'), 'SQLite')
    await fill(database, bytes)
    const settings = { volume: { directory: join(directory, 'store') } }
    const { store } = await openStore(settings, systemClock)
    const home = { namespace: 'default', database: 'bench', lineage: database.lineage }
    const context = { store, keys: NO_KEYS, clock: systemClock, software: 'bench' }
    const snapshot = await snapshotOf(database, signal)
    await backupFull(context, { home, name: 'full', verify: false }, snapshot)
    snapshot.release()
    await database.close()
    rmSync(join(directory, 'data'), { recursive: true })
    for (const engine of engines) {
      const target = join(directory, engine)
      const began = performance.now()
      await restoreOffline(
        {
          store: settings,
          source: home,
          from: { kind: 'latestBackup' },
          dataDirectory: target,
          engine,
          keepLineage: false,
        },
        systemClock,
        signal,
        () => {},
      )
      const ready = await openDatabase(target, engine)
      const seconds = (performance.now() - began) / 1000
      if (ready.state.dataBytes < BigInt(Math.floor(bytes)))
        throw new Error(`${ready.state.dataBytes} bytes were restored`)
      console.log(
        `  RTO of ${gib} GiB on ${engine}: ${seconds.toFixed(1)} s to ready, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s`,
      )
      await ready.close()
      rmSync(target, { recursive: true })
    }
    await store.close()
    rmSync(directory, { recursive: true })
  }
}
