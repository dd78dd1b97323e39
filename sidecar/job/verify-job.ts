import type { BackupContext } from '../backup/backup.ts'
import { type Backup, type LineageCatalog, readBackup, readLineage } from '../backup/catalog.ts'
import type { Home } from '../backup/layout.ts'
import { verifyBackup } from '../backup/verify.ts'
import { formatPosition } from '../database/position.ts'
import type { EngineKind } from '../engine/engine.ts'
import type { DatabaseClient } from './database-client.ts'
import { failureOf, type JobProgress } from './job-report.ts'

export interface VerifyJobResult {
  readonly name: string
  readonly directory: string
  readonly kind: Backup['kind']
  readonly result: 'Verified' | 'Consistent' | 'Failed' | 'Error'
  readonly position: string
  readonly records?: string
  readonly digest?: string
  readonly verifiedAt?: string
  readonly seconds: number
  readonly error?: string
  readonly code?: string
}

/** Verifies backups one after another, newest last. @param client asked what was recorded, where there is a running database */
export async function* runVerifyJob(
  context: BackupContext,
  client: DatabaseClient | undefined,
  home: Home,
  backups: readonly Backup[],
  options: { readonly scratch: string; readonly engine?: EngineKind },
  progress: JobProgress = () => {},
): AsyncGenerator<VerifyJobResult> {
  for (const backup of backups) {
    const began = context.clock.monotonic()
    const { name, directory, kind, position } = backup
    const about = { name, directory, kind, position: formatPosition(position) }
    const seconds = () => Math.round(context.clock.monotonic() - began) / 1000
    try {
      // the catalog again: an earlier verification of the chain may have changed it
      const catalog = await readLineage(context.store, home, context.signal)
      const verification = await verifyOne(context, client, catalog, backup, options, progress)
      const failed = verification.checks.find(check => !check.ok)
      const error =
        verification.error?.message ?? (failed && `${failed.name}: expected ${failed.expected}, found ${failed.found}`)
      yield {
        ...about,
        result: verification.result,
        ...(verification.count !== undefined && { records: verification.count }),
        ...(verification.digest !== undefined && { digest: verification.digest }),
        verifiedAt: verification.completedAt,
        seconds: seconds(),
        ...(error !== undefined && { error }),
        ...(verification.error && { code: verification.error.code }),
      }
    } catch (thrown) {
      const { code, message } = failureOf(thrown)
      yield { ...about, result: 'Error', seconds: seconds(), error: message, code }
    }
  }
}

async function verifyOne(
  context: BackupContext,
  client: DatabaseClient | undefined,
  catalog: LineageCatalog,
  backup: Backup,
  { scratch, engine }: { readonly scratch: string; readonly engine?: EngineKind },
  progress: JobProgress,
) {
  const fresh = await readBackup(context.store, catalog.home, backup.kind, backup.directory, context.signal)
  const recorded = await client?.recordedAt(backup.position)
  const total = Number(backup.manifest.count)
  return verifyBackup(context, catalog, fresh, {
    recorded,
    engine: engine ?? backup.manifest.engine,
    scratch,
    progress: ({ stage, records }) => progress(`${backup.name}: ${stage}`, records, total),
  })
}
