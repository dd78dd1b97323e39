import type { BackupContext } from '../backup/backup.ts'
import { readLineage } from '../backup/catalog.ts'
import type { Home } from '../backup/layout.ts'
import { verifyIncrements } from '../backup/verify.ts'
import type { EngineKind } from '../engine/engine.ts'
import { failureOf, type JobProgress } from './backup-job.ts'
import type { DatabaseClient } from './database-client.ts'

/** What became of an increment; the names are those of the results of `kvidx job verify`. */
export interface JudgedIncrement {
  readonly name: string
  readonly result: 'Verified' | 'Consistent' | 'Failed' | 'Error'
  readonly verifiedAt?: string
  readonly error?: string
  readonly code?: string
}

/**
 * The increments that were made since the last time are replayed from the Full that they build on, all by one replay, and compared: an increment is not verified
 * when it is made, but at the next Full or drill. Never rejects: what it finds is about them, not about the work that it comes along with.
 */
export async function verifyNewIncrements(
  context: BackupContext,
  client: DatabaseClient,
  home: Home,
  options: { readonly scratch: string; readonly engine: EngineKind },
  progress: JobProgress = () => {},
): Promise<JudgedIncrement[]> {
  let name = 'increments'
  try {
    const catalog = await readLineage(context.store, home, context.signal)
    const last = catalog.backups.findLast(backup => backup.kind === 'Incremental')
    if (!last || last.verification) return []
    name = last.name
    const judged = await verifyIncrements(context, catalog, last, position => client.recordedAt(position), {
      ...options,
      progress: ({ records }) => progress('verifying the increments', records),
    })
    return judged.map(({ name, result, checks, completedAt, error }) => {
      const failed = checks.find(check => !check.ok)
      const why = error?.message ?? (failed && `${failed.name}: expected ${failed.expected}, found ${failed.found}`)
      return {
        name,
        result,
        ...(result === 'Verified' && { verifiedAt: completedAt }),
        ...(why !== undefined && { error: why, code: error?.code ?? 'backup_corrupt' }),
      }
    })
  } catch (thrown) {
    const { code, message } = failureOf(thrown)
    return [{ name, result: 'Error', error: message, code }]
  }
}
