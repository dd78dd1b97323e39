import type { BackupContext } from '../backup/backup.ts'
import { type Backup, readLineage } from '../backup/catalog.ts'
import type { Home } from '../backup/layout.ts'
import type { Verification } from '../backup/verification.ts'
import { verifyIncrements } from '../backup/verify.ts'
import type { EngineKind } from '../engine/engine.ts'
import type { DatabaseClient } from './database-client.ts'
import { failureOf, type JobProgress } from './job-report.ts'

/** What became of an increment; the names are those of the results of `kvidx job verify`. */
export interface JudgedIncrement {
  readonly name: string
  readonly result: 'Verified' | 'Consistent' | 'Failed' | 'Error'
  readonly verifiedAt?: string
  readonly error?: string
  readonly code?: string
}

/** A replay restores a whole database: with more of them a backup would not end in its time. What is left is judged at the next one. */
const REPLAYS = 4

/**
 * The increments that were not judged yet are replayed from the Full that they build on, those of one Full by one replay, and compared: an increment is not verified
 * when it is made, but at the next Full or drill. Never rejects: what it finds is about them, not about the work that it comes along with.
 */
export async function verifyNewIncrements(
  context: BackupContext,
  client: DatabaseClient,
  home: Home,
  options: { readonly scratch: string; readonly engine: EngineKind },
  progress: JobProgress = () => {},
): Promise<JudgedIncrement[]> {
  const judged: JudgedIncrement[] = []
  let name = 'increments'
  let left = REPLAYS
  try {
    const catalog = await readLineage(context.store, home, context.signal)
    for (const ofBase of unjudged(catalog.backups)) {
      let open = ofBase
      for (let last = open.at(-1); last && left > 0; last = open.at(-1)) {
        left--
        name = last.name
        const found = await verifyIncrements(context, catalog, last, position => client.recordedAt(position), {
          ...options,
          progress: ({ records }) => progress('verifying the increments', records),
        })
        judged.push(...found.map(judgement))
        // one that failed says nothing of those before it: they are replayed without it
        open = open.filter(({ directory }) => !found.some(known => known.directory === directory))
      }
    }
  } catch (thrown) {
    const { code, message } = failureOf(thrown)
    judged.push({ name, result: 'Error', error: message, code })
  }
  return judged
}

/** By the Full that they build on, the newest of those first; each oldest first. Pure. @param backups oldest first */
export function unjudged(backups: readonly Backup[]): readonly (readonly Backup[])[] {
  const known = new Map(backups.map(backup => [backup.directory, backup]))
  const bases = new Map<string, string>()
  for (const { directory, parent } of backups)
    bases.set(directory, parent ? (bases.get(parent.directory) ?? parent.directory) : directory)
  const open = backups.filter(({ kind, verification }) => kind === 'Incremental' && !verification)
  return [...Map.groupBy(open, ({ directory }) => bases.get(directory) ?? '')]
    .toSorted(([a], [b]) => (known.get(b)?.time ?? 0) - (known.get(a)?.time ?? 0))
    .map(([, increments]) => increments)
}

function judgement({ name, result, checks, completedAt, error }: Verification): JudgedIncrement {
  const failed = checks.find(check => !check.ok)
  const why = error?.message ?? (failed && `${failed.name}: expected ${failed.expected}, found ${failed.found}`)
  return {
    name,
    result,
    ...(result === 'Verified' && { verifiedAt: completedAt }),
    ...(why !== undefined && { error: why, code: error?.code ?? 'backup_corrupt' }),
  }
}
