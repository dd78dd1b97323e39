import type { StatusChange } from '../controllers/backup/record.ts'
import { JOB_EXIT, type JobContext, type JobExit } from './context.ts'
import { RecordKeeper } from './record-keeper.ts'

/** Verifies backups, and writes what was found into the records that there are. @param flags for `kvidx job verify` */
export async function runVerify(context: JobContext, flags: readonly string[]): Promise<JobExit> {
  const end = await context.runJob(['verify', ...flags], () => {}, context.signal)
  await recordVerified(context, end.result)
  return end.exitCode === 0 ? JOB_EXIT.done : JOB_EXIT.pointless
}

/** Writes what a result line says of other backups than the job's own (`results`, `increments`) into the records that there are. */
export async function recordVerified(context: JobContext, line: string | undefined): Promise<void> {
  const { results, increments } = JSON.parse(line ?? '{}') as Record<string, unknown>
  for (const judged of [results, increments].flatMap(list =>
    Array.isArray(list) ? (list as Record<string, unknown>[]) : [],
  )) {
    const { name, result, verifiedAt, error, code } = judged
    const change = changeOf(String(result), verifiedAt, error, code)
    if (!change) continue
    const keeper = await RecordKeeper.find(context, String(name))
    if (keeper?.status.phase === 'Completed') await keeper.set(change)
  }
}

/** Undefined: it says nothing that a record could have. */
function changeOf(result: string, verifiedAt: unknown, error: unknown, code: unknown): StatusChange | undefined {
  if (result === 'Verified' && typeof verifiedAt === 'string')
    return { phase: 'Completed', verification: 'Verified', verifiedAt: verifiedAt.replace(/\.\d+Z$/, 'Z') }
  if (result !== 'Failed') return undefined
  return {
    phase: 'Completed',
    verification: 'Failed',
    error: String(error ?? 'unknown').slice(0, 4096),
    ...(typeof code === 'string' && { code }),
  }
}
