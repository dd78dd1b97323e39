import { parseJobResult } from '../controllers/backup/job-result.ts'
import { IMPORTED_LABEL, SCHEDULE_LABEL } from '../controllers/backup/names.ts'
import { BACKUPS, type BackupRecord } from '../controllers/backup/record.ts'
import { JOB_EXIT, type JobContext, type JobExit } from './context.ts'
import { RecordKeeper } from './record-keeper.ts'

/** What the name of a KvidxBackup may be. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/

/**
 * Rebuilds the records of a store: each backup in it that has none gets one. Those that are there are left alone, so it may be repeated. A store that a
 * cluster never saw is how its backups outlive the one that made them.
 */
export async function runCatalog(context: JobContext, flags: readonly string[]): Promise<JobExit> {
  const { api, namespace, database, log, signal } = context
  const lines: string[] = []
  const end = await context.runJob(['catalog', ...flags], line => void lines.push(line), signal)
  if (end.exitCode !== 0) {
    log.error({ exitCode: end.exitCode }, 'the store could not be read')
    return JOB_EXIT.failed
  }
  const records = (await api.list<BackupRecord>(BACKUPS, { namespace, signal })).items
  // one without status is what an attempt before this one left
  const known = new Set(
    records.filter(({ status }) => status?.phase !== undefined).map(({ metadata }) => metadata.name),
  )
  let imported = 0
  for (const { name, type, verify, schedule, line } of entriesOf(lines)) {
    if (known.has(name)) continue
    known.add(name)
    if (!NAME.test(name)) {
      log.info({ backup: name }, 'no record can have the name of this backup; kvidx backup list shows it')
      continue
    }
    const keeper = await RecordKeeper.create(context, {
      namespace,
      name,
      database,
      type,
      verify,
      labels: { [IMPORTED_LABEL]: 'true', ...(schedule !== undefined && { [SCHEDULE_LABEL]: schedule }) },
    })
    const { phase, status } = parseJobResult(line)
    const { verification } = JSON.parse(line) as { verification: 'Verified' | 'Failed' | 'Skipped' | 'Pending' }
    await keeper.set({ ...status, phase, verification, detail: 'found in the store' }, signal)
    imported++
  }
  log.info({ found: lines.length - 1, imported }, 'the records of the store are complete')
  return JOB_EXIT.done
}

interface Entry {
  readonly name: string
  readonly type: 'Full' | 'Incremental'
  readonly verify: boolean
  readonly schedule?: string
  readonly line: string
}

function* entriesOf(lines: readonly string[]): Generator<Entry> {
  for (const line of lines) {
    const entry = JSON.parse(line) as Omit<Entry, 'line'> & { readonly kind?: string }
    if (entry.kind === 'entry') yield { ...entry, line }
  }
}
