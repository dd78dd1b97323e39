import type { BackupType } from '../api/v1alpha1/backup.ts'
import type { SidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { asKvidxError } from '../common/errors.ts'
import { type JobResult, parseJobResult } from '../controllers/backup/job-result.ts'
import { SLOT_ANNOTATION, scheduledName } from '../controllers/backup/names.ts'
import { type StatusChange, timeText, wantsVerification } from '../controllers/backup/record.ts'
import type { Job } from '../kube/job.ts'
import { JOBS } from '../kube/resources.ts'
import { JOB_EXIT, type JobContext, type JobEnd, type JobExit } from './context.ts'
import { RecordKeeper } from './record-keeper.ts'
import { recordVerified } from './verify-run.ts'

export interface BackupRunInput {
  /** Exactly one of the two: the schedule of a CronJob, or the KvidxBackup that the operator started a Job for. */
  readonly schedule?: string
  readonly name?: string
  readonly config: SidecarConfig
  /** Flags for `kvidx job`: --config, --server, --token-file. */
  readonly flags: readonly string[]
  /** Makes a backup of type VolumeSnapshot. */
  readonly snapshotVolume: (keeper: RecordKeeper, signal: AbortSignal) => Promise<StatusChange>
}

/**
 * One backup in a pod: the record first, then the work, then what came of it. Safe to repeat: a retry finds the record of the attempt before
 * it, and `kvidx job` finds the manifest of a backup that was stored without anybody hearing of it.
 */
export async function runBackup(context: JobContext, input: BackupRunInput): Promise<JobExit> {
  const { api, namespace, log, signal } = context
  const job = await api.get<Job>(JOBS, { namespace, name: context.job }, { signal })
  const keeper = input.schedule === undefined ? await given(context, input) : await scheduled(context, input, job)
  if (!keeper) return JOB_EXIT.pointless
  const { record } = keeper
  const { name } = record.metadata
  if (record.status?.phase === 'Completed') {
    log.info({ backup: name }, 'this backup was made before')
    return JOB_EXIT.done
  }
  const began = record.status?.startedAt ?? timeText(context.clock.now())
  const verify = wantsVerification(record)
  await keeper.set({
    phase: 'Running',
    job: context.job,
    startedAt: began,
    verification: verify ? 'Pending' : 'Skipped',
    detail: `pod ${context.pod}`,
  })
  await context.databaseAnswers()
  try {
    const type: BackupType = record.spec.type ?? 'Full'
    const change =
      type === 'VolumeSnapshot'
        ? await input.snapshotVolume(keeper, signal)
        : await store(context, input, keeper, type, verify)
    return await conclude(context, keeper, job, change)
  } catch (thrown) {
    const error = signal.aborted ? new Error(`pod ${context.pod} was stopped`) : asKvidxError(thrown)
    const code = signal.aborted ? 'cancelled' : asKvidxError(thrown).code
    return conclude(context, keeper, job, { phase: 'Failed', error: error.message, code })
  }
}

async function given(context: JobContext, { name = '' }: BackupRunInput): Promise<RecordKeeper | undefined> {
  const keeper = await RecordKeeper.find(context, name)
  if (!keeper) context.log.error({ backup: name }, 'there is no such KvidxBackup any more')
  return keeper
}

async function scheduled(
  context: JobContext,
  { schedule = '', config }: BackupRunInput,
  job: Job,
): Promise<RecordKeeper | undefined> {
  const { log, namespace, database, clock } = context
  const settings = config.dynamic.backup?.schedules.find(candidate => candidate.name === schedule)
  if (!settings) {
    log.error({ schedule }, 'the database has no schedule of this name any more')
    return undefined
  }
  const slot = Date.parse(job.metadata.annotations?.[SLOT_ANNOTATION] ?? '')
  // a Job that a person made from the CronJob has no slot: it counts from its creation
  const made = Date.parse(job.metadata.creationTimestamp ?? '') || clock.now()
  return RecordKeeper.create(context, {
    namespace,
    name: scheduledName(database, schedule, Number.isNaN(slot) ? made + (made % 60_000 === 0 ? 1000 : 0) : slot),
    database,
    type: settings.type,
    verify: settings.verify,
    schedule,
    job: context.job,
  })
}

async function store(
  context: JobContext,
  input: BackupRunInput,
  keeper: RecordKeeper,
  type: BackupType,
  verify: boolean,
): Promise<StatusChange> {
  const { name } = keeper.record.metadata
  const args = [
    'backup',
    ...['--name', name, '--type', type, ...(verify ? ['--verify'] : [])],
    ...(input.schedule === undefined ? [] : ['--schedule', input.schedule]),
    ...input.flags,
  ]
  let writing: Promise<unknown> = Promise.resolve()
  const end = await context.runJob(
    args,
    line => {
      const progress = progressOf(line)
      if (progress?.phase !== 'Verifying' || keeper.status.phase === 'Verifying') return
      // progress is a courtesy: that it could not be written must not fail the backup
      writing = writing
        .then(() => keeper.set({ ...progress.status, phase: 'Verifying' }, context.signal))
        .catch(() => {})
    },
    context.signal,
  )
  await writing
  await recordVerified(context, end.result)
  return changeOf(end, verify)
}

function progressOf(line: string): JobResult | undefined {
  try {
    return parseJobResult(line)
  } catch {
    return undefined
  }
}

/** What the end of `kvidx job` means for the record. Only exit code 0 with phase Completed is a success. */
export function changeOf(end: JobEnd, verify: boolean): StatusChange {
  const result = end.result === undefined ? undefined : progressOf(end.result)
  if (!result) {
    const said = end.log.trim().split('\n').at(-1) ?? ''
    return {
      phase: 'Failed',
      code: 'internal',
      error: `the job ended with exit code ${end.exitCode} and no result: ${said}`,
    }
  }
  if (end.exitCode === 0 && result.phase === 'Completed') {
    const verification = result.status.verifiedAt === undefined ? (verify ? 'Pending' : 'Skipped') : 'Verified'
    return { ...result.status, phase: 'Completed', verification }
  }
  const { verifiedAt: _verifiedAt, verification: _verification, ...status } = result.status
  const refuted = verify && status.completedAt !== undefined && REFUTED.includes(status.code ?? '')
  return {
    ...status,
    phase: 'Failed',
    error: status.error ?? `the job ended with exit code ${end.exitCode} in phase ${result.phase}`,
    ...(refuted && { verification: 'Failed' as const }),
  }
}

/** Codes that say something of what is stored, and not of the way there. */
const REFUTED: readonly string[] = ['backup_corrupt', 'backup_gap', 'foreign_lineage', 'wrong_encryption_key']

/** Codes for which another attempt can only end in the same way. */
const POINTLESS: readonly string[] = [
  'invalid_parameter',
  'setting_unsupported',
  'invalid_manifest',
  'store_denied',
  'unauthorized',
  'forbidden',
  'foreign_lineage',
  'wrong_encryption_key',
  'history_conflict',
]

async function conclude(context: JobContext, keeper: RecordKeeper, job: Job, change: StatusChange): Promise<JobExit> {
  const { log } = context
  const { name: backup } = keeper.record.metadata
  if (change.phase === 'Completed') {
    await keeper.set(change)
    log.info({ backup, position: change.position, verification: change.verification }, 'backup completed')
    return JOB_EXIT.done
  }
  const pointless = POINTLESS.includes(change.code ?? '')
  const stopped = context.signal.aborted
  // the pods that failed before this one; Kubernetes gives up after backoffLimit of them
  const last = !stopped && (pointless || (job.status?.failed ?? 0) >= (job.spec?.backoffLimit ?? 0))
  const error = change.error ?? 'unknown'
  log.error({ backup, error, code: change.code, last }, 'backup failed')
  // whether a stopped pod gets a successor, the Job decides: the operator closes the record when it does not
  await keeper.set(
    last ? change : { ...change, phase: 'Pending', error, detail: `an attempt failed and is repeated: ${error}` },
  )
  return pointless ? JOB_EXIT.pointless : JOB_EXIT.failed
}
