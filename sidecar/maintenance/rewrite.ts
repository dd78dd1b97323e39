import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { KvidxError } from '../../src/common/errors.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import { removeQuarantined } from '../restore/quarantine.ts'
import { removeStaged } from '../volume/swap.ts'

/**
 * Makes a compact copy in staging/ and swaps it in. The old files go only after the new ones were read and hold the same: a crash on the way leaves one of
 * the two, and the next start finishes the swap. Errors: cancelled and conflict (nothing has changed), engine_corrupt (the old files are in quarantine).
 */
export async function rewriteBeside(
  database: LocalDatabase,
  signal: AbortSignal,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const { layout } = database
  const id = `compact-${randomUUID()}`
  const { writer } = database.session()
  try {
    const copy = async () => {
      await writer.call('compactInto', { directory: join(layout.staging, id) }, signal, progress)
    }
    const quarantined = await database.replace('compact', id, copy, true)
    await compare(database, quarantined)
    await removeQuarantined(layout, quarantined)
  } finally {
    await removeStaged(layout, id)
  }
}

async function compare(database: LocalDatabase, quarantined: string): Promise<void> {
  const snapshot = await database.session().readers.snapshot(new AbortController().signal)
  try {
    const { state } = snapshot
    const { count, digest } = await snapshot.call('totals', {})
    if (count !== state.count || digest !== state.digest)
      throw new KvidxError(
        'engine_corrupt',
        `the compact copy holds ${count} records and not the ${state.count} of the database, or others: the old files are in quarantine/${quarantined}`,
      )
  } finally {
    snapshot.release()
  }
}
