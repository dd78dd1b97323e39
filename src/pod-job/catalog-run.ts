import { importRecords, type StoredEntry } from '../controllers/backup/imported.ts'
import { JOB_EXIT, type JobContext, type JobExit } from './context.ts'
import { persist } from './persist.ts'

/**
 * Rebuilds the records of a store: each backup in it that has none gets one. Those that are there are left alone, so it may be repeated. A store that a
 * cluster never saw is how its backups outlive the one that made them.
 */
export async function runCatalog(context: JobContext, flags: readonly string[]): Promise<JobExit> {
  const { api, namespace, database, clock, log, signal } = context
  const lines: string[] = []
  const end = await context.runJob(['catalog', ...flags], line => void lines.push(line), signal)
  if (end.exitCode !== 0) {
    log.error({ exitCode: end.exitCode }, 'the store could not be read')
    return JOB_EXIT.failed
  }
  const entries = [...entriesOf(lines)]
  const where = { namespace, database }
  const result = await persist(context, () => importRecords(api, where, entries, clock, signal), signal)
  for (const { name, why } of result.refused)
    log.info({ backup: name, why }, 'no record can have the name of this backup; kvidx backup list shows it')
  log.info({ found: entries.length, imported: result.imported.length }, 'the records of the store are complete')
  return JOB_EXIT.done
}

function* entriesOf(lines: readonly string[]): Generator<StoredEntry> {
  for (const line of lines) {
    const entry = JSON.parse(line) as StoredEntry & { readonly kind?: string }
    if (entry.kind === 'entry') yield entry
  }
}
