import { type JobResult, parseJobResult } from '../controllers/backup/job-result.ts'
import type { StatusChange } from '../controllers/backup/record.ts'
import { JOB_EXIT, type JobContext, type JobEnd, type JobExit } from './context.ts'
import { RecordKeeper } from './record-keeper.ts'

/** Verifies a VolumeSnapshot: this pod has a copy of it mounted, which is opened, read from end to end, and goes with the pod. */
export async function runVolumeVerification(context: JobContext, name: string, directory: string): Promise<JobExit> {
  const { log, signal } = context
  const keeper = await RecordKeeper.find(context, name)
  if (keeper?.status.phase !== 'Completed' || keeper.status.verification !== 'Pending') {
    log.info({ backup: name }, 'this backup does not wait for a verification')
    return JOB_EXIT.pointless
  }
  const end = await context.runJob(['volume', '--data-dir', directory], () => {}, signal)
  const change = verdictOf(keeper.status, end)
  if (!change) {
    log.error({ backup: name, exitCode: end.exitCode }, 'the copy could not be looked at')
    return JOB_EXIT.failed
  }
  await keeper.set(change)
  log.info({ backup: name, verification: change.verification }, 'the VolumeSnapshot was looked at')
  return JOB_EXIT.done
}

type Status = RecordKeeper['status']

/** What the copy says of the backup; undefined: nothing, as the job did not come to its end. Pure. */
export function verdictOf(status: Status, { result }: JobEnd): StatusChange | undefined {
  const found = resultOf(result)
  if (!found) return undefined
  if (found.phase !== 'Completed') {
    const { error = 'unknown', code = 'backup_corrupt' } = found.status
    return { phase: 'Failed', verification: 'Failed', error: `its copy is not sound: ${error}`, code }
  }
  const { verification: _, verifiedAt, ...content } = found.status
  // what a power loss would leave has no figures but those that are found in it
  const differences =
    status.consistency === 'Exact'
      ? (['lineage', 'records', 'dataBytes', 'digest'] as const).filter(
          member => status[member] !== undefined && String(status[member]) !== String(content[member]),
        )
      : []
  if (differences.length > 0) {
    const said = differences.map(member => `${member} ${content[member]} instead of ${status[member]}`).join(', ')
    return { phase: 'Failed', verification: 'Failed', error: `its copy has ${said}`, code: 'backup_corrupt' }
  }
  // a database that does not sync each commit begins another epoch when it is opened
  const { position = content.position } = status
  return {
    ...content,
    ...(position !== undefined && { position }),
    phase: 'Completed',
    verification: 'Verified',
    ...(verifiedAt !== undefined && { verifiedAt }),
    detail: 'a copy of it was opened, read and compared',
  }
}

function resultOf(result: string | undefined): JobResult | undefined {
  try {
    return result === undefined ? undefined : parseJobResult(result)
  } catch {
    return undefined
  }
}
