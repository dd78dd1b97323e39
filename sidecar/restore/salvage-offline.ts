import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { databaseConfig } from '../database/config.ts'
import { removeCleanExit } from '../volume/clean-exit.ts'
import { readIdentity } from '../volume/identity.ts'
import { prepareLayout, volumeLayout } from '../volume/layout.ts'
import { lockVolume } from '../volume/lock.ts'
import type { RecoveryNote } from '../volume/recovery-note.ts'
import { clearSuspicion, readSuspicion } from '../volume/suspicion.ts'
import { finishSwap } from '../volume/swap.ts'
import type { FillProgress } from './fill.ts'
import { salvage } from './repair.ts'

/**
 * Salvages the database of a volume that no process serves: what can be read takes its place, the damaged files go to quarantine. Errors: not_found (no
 * volume), locked, setting_unsupported (not SQLite), engine_corrupt (nothing can be read).
 */
export async function salvageOffline(
  dataDirectory: string,
  clock: Clock,
  signal: AbortSignal,
  progress: (progress: FillProgress) => void,
): Promise<RecoveryNote> {
  if (!existsSync(dataDirectory)) throw new KvidxError('not_found', `${dataDirectory}: there is no such directory`)
  const layout = volumeLayout(dataDirectory)
  const { identity } = await readIdentity(layout)
  if (!identity)
    throw new KvidxError('not_found', `${dataDirectory} is no volume of a database: it has no identity.json`)
  await prepareLayout(layout)
  const lock = lockVolume(layout.lock, hostname())
  try {
    await finishSwap(layout)
    const { namespace, name, engine } = identity
    const { damage = 'a person asked for it' } = await readSuspicion(layout)
    const config = databaseConfig({ namespace, name, engine, dataDirectory })
    const note = await salvage(
      new KvidxError('engine_corrupt', damage),
      { config: () => config, layout, clock, progress: now => now && progress(now) },
      signal,
    )
    await clearSuspicion(layout)
    // the marker was that of the damaged files
    await removeCleanExit(layout)
    return note
  } finally {
    lock.release()
  }
}
