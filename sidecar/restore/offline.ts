import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import type { Home } from '../backup/layout.ts'
import type { StoreSettings } from '../backup/store/settings.ts'
import type { EngineKind } from '../engine/engine.ts'
import { type Identity, readIdentity, writeIdentity } from '../volume/identity.ts'
import { prepareLayout, volumeLayout } from '../volume/layout.ts'
import { lockVolume } from '../volume/lock.ts'
import { forgetSeeded, seedVolume } from '../volume/seed.ts'
import { finishSwap } from '../volume/swap.ts'
import { type Filled, type FillProgress, FillThread, type RestoreFrom } from './fill.ts'

export interface OfflineRestore {
  readonly store: StoreSettings
  readonly source: Home
  readonly from: RestoreFrom
  /** A volume: new, or what an interrupted restore left. */
  readonly dataDirectory: string
  readonly engine: EngineKind
  /** What the new database is called; default: as the source. */
  readonly namespace?: string
  readonly name?: string
  /** The volume was lost and this is the same database: its lineage goes on, in a new epoch. */
  readonly keepLineage: boolean
}

/** Restores into a new volume, with no running process and no cluster. Errors: volume_not_empty, locked, those of a restore. */
export async function restoreOffline(
  request: OfflineRestore,
  clock: Clock,
  signal: AbortSignal,
  progress: (progress: FillProgress) => void,
): Promise<Filled & { readonly identity: Identity }> {
  const { source, engine } = request
  const layout = volumeLayout(request.dataDirectory)
  await mkdir(layout.root, { recursive: true, mode: 0o700 })
  const found = await readIdentity(layout)
  if (found.identity)
    throw new KvidxError(
      'volume_not_empty',
      `${layout.root} holds the database ${found.identity.namespace}/${found.identity.name} already; a restore needs a new directory`,
      { path: layout.root, lineage: found.identity.lineage },
    )
  await prepareLayout(layout)
  const lock = lockVolume(layout.lock, hostname())
  try {
    await finishSwap(layout)
    const now = clock.now()
    const identity: Identity = {
      formatVersion: 1,
      namespace: request.namespace ?? source.namespace,
      name: request.name ?? source.database,
      lineage: request.keepLineage ? source.lineage : randomUUID(),
      engine,
      created: now,
      bootstrappedFrom: JSON.stringify({ ...source, from: describe(request.from) }),
    }
    let filled: Filled | undefined
    const complete = await seedVolume(
      layout,
      identity,
      async directory => {
        const thread = await FillThread.start(
          {
            kind: 'restore',
            store: request.store,
            where: source,
            from: request.from,
            engine: { kind: engine, directory, tuning: { syncMode: 'Full' } },
            ...(request.keepLineage && { continues: [] }),
            now,
          },
          progress,
        )
        try {
          filled = await thread.filled(signal)
          return { ...filled }
        } finally {
          await thread.end()
        }
      },
      signal,
    )
    await writeIdentity(layout, complete)
    await forgetSeeded(layout)
    return { ...(filled ?? (complete.origin as unknown as Filled)), identity: complete }
  } finally {
    lock.release()
  }
}

function describe(from: RestoreFrom): Record<string, string> {
  return Object.fromEntries(
    Object.entries(from).map(([name, value]) => [
      name,
      typeof value === 'object' ? `${value.epoch}.${value.seq}` : String(value),
    ]),
  )
}
