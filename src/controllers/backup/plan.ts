import { isTrue } from '../../api/v1alpha1/conditions.ts'
import { withDefaults } from '../../api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { milliseconds } from '../../common/duration.ts'
import type { Job } from '../../kube/job.ts'
import type { KubeObject } from '../../kube/object.ts'
import { ownedMeta } from '../database/names.ts'
import { type Blueprint, blueprintOf } from '../database/objects/blueprint.ts'
import { type JobPodInput, jobLabels, jobSpec } from '../database/objects/job-pod.ts'
import { NEWEST_TEMPLATE } from '../database/objects/stateful-set.ts'
import { BACKUP_LABEL, HIBERNATE_LABEL, type JobTask, jobName, TASK_LABEL } from './names.ts'
import { type BackupRecord, isScheduled, type StatusChange } from './record.ts'

/** What is seen of one KvidxBackup. */
export interface BackupView {
  readonly record: BackupRecord
  readonly database: KvidxDatabase | undefined
  /** The Job that makes the backup, looked for also at the server. */
  readonly job: Job | undefined
}

/** What is to be done for it. */
export type BackupStep =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'start'; readonly job: KubeObject; readonly change: StatusChange }
  | { readonly kind: 'status'; readonly change: StatusChange }
  /** As status, but only if the record at the server is still not terminal: its pod may have written the end meanwhile. */
  | { readonly kind: 'close'; readonly change: StatusChange }

const NOTHING: BackupStep = { kind: 'nothing' }

/** A Job by hand may take as long as the longest schedule of the database, and at least this, ms. */
const LEAST_TIMEOUT = 6 * 3_600_000
/** A finished Job of ours is kept for a day, seconds. */
const TTL_SECONDS = 86_400
/** Of work without a schedule that says how long it may take, seconds. */
const TASK_TIMEOUT = 12 * 3600

/** The next step for a record that is not terminal, not imported and not being deleted. Pure. */
export function planBackup({ record, database, job }: BackupView): BackupStep {
  const { status } = record
  const name = jobOf(record)
  if (job) {
    const failed = endOf(job, 'Failed')
    if (failed) {
      const said = `${failed.reason ?? 'Failed'}: ${failed.message ?? ''}`
      const error = status?.error === undefined ? `Job ${name} failed (${said})` : `${status.error} (${said})`
      return { kind: 'close', change: { phase: 'Failed', error, code: status?.code ?? 'job_failed' } }
    }
    if (endOf(job, 'Complete')) {
      const error = `Job ${name} ended without saying what came of it`
      return { kind: 'close', change: { phase: 'Failed', error, code: 'job_failed' } }
    }
    return status?.phase === undefined ? { kind: 'status', change: { phase: 'Pending', job: name } } : NOTHING
  }
  if (isScheduled(record) || status?.job !== undefined) {
    const error = `Job ${name} is gone, and what came of it is not known; kvidx backup list looks in the store`
    return { kind: 'close', change: { phase: 'Failed', error, code: 'job_gone' } }
  }
  const waits = whyNot(record, database)
  if (waits !== undefined || !database) return { kind: 'status', change: { phase: 'Pending', detail: waits ?? '' } }
  return { kind: 'start', job: backupJob(record, database), change: { phase: 'Pending', job: name } }
}

/** Name of the Job that makes the backup. */
export function jobOf(record: BackupRecord): string {
  const { name, uid = '', labels } = record.metadata
  return isScheduled(record) ? (labels?.['kvidx.io/job'] ?? '') : jobName(name, uid, 'backup')
}

/** Why no Job can be started for a database; undefined: nothing stands in the way. */
function whyNot({ metadata, spec }: BackupRecord, database: KvidxDatabase | undefined): string | undefined {
  if (!database) return `there is no KvidxDatabase ${spec.database}`
  if (database.metadata.deletionTimestamp !== undefined) return `KvidxDatabase ${spec.database} is being deleted`
  if (!database.spec.backup && spec.type !== 'VolumeSnapshot')
    return `KvidxDatabase ${spec.database} has no destination in spec.backup`
  if (imageOf(database) === undefined) return `no image is known for KvidxDatabase ${spec.database}`
  const last = metadata.labels?.[HIBERNATE_LABEL] !== undefined
  if (database.spec.hibernate && !last) return `KvidxDatabase ${spec.database} sleeps`
  if (!isTrue(database.status?.conditions, 'Ready') && !last) return `KvidxDatabase ${spec.database} is not ready`
  return undefined
}

function imageOf({ spec, status }: KvidxDatabase): string | undefined {
  return spec.image ?? status?.image
}

function endOf({ status }: Job, type: 'Failed' | 'Complete') {
  return status?.conditions?.find(condition => condition.type === type && condition.status === 'True')
}

/** How the Job of a deletion stands; `absent` when there is none. */
export function stateOfJob(job: Job | undefined): 'absent' | 'active' | 'failed' | 'complete' {
  if (!job) return 'absent'
  return endOf(job, 'Failed') ? 'failed' : endOf(job, 'Complete') ? 'complete' : 'active'
}

/** What the pods of jobs for a database are made from. */
export function blueprintFor(database: KvidxDatabase): Blueprint {
  const spec = withDefaults(database.spec)
  const blueprint = blueprintOf(
    database,
    spec,
    imageOf(database) ?? '',
    database.status?.templateVersion ?? NEWEST_TEMPLATE,
  )
  // until it sleeps, its pod has the volume
  return { ...blueprint, replicas: database.status?.hibernated ? 0 : spec.replicas }
}

function backupJob(record: BackupRecord, database: KvidxDatabase): KubeObject {
  return ownedJob(record, database, 'backup', { store: record.spec.type !== 'VolumeSnapshot' })
}

/** The Job that removes the files of a backup from the store. */
export function deletionJob(record: BackupRecord, database: KvidxDatabase): KubeObject {
  return ownedJob(record, database, 'delete', { store: true })
}

/** The next step for a VolumeSnapshot that awaits its verification. Pure. @param job the Job that verifies it */
export function planVerification({ record, database, job }: BackupView): BackupStep {
  const { name } = record.metadata
  const state = stateOfJob(job)
  if (state === 'active') return NOTHING
  if (state !== 'absent') {
    const said = job && endOf(job, 'Failed')
    const why = said
      ? `${said.reason ?? 'Failed'}: ${said.message ?? ''}`
      : 'its job ended without saying what came of it'
    const change = { phase: 'Completed', verification: 'Failed', error: `it could not be verified (${why})` } as const
    return { kind: 'status', change: { ...change, code: 'job_failed' } }
  }
  if (!database || imageOf(database) === undefined) return NOTHING
  const copyOf = { snapshot: name, size: record.status?.storedBytes ?? 0 }
  const detail = 'stored; a copy of it is being opened to verify it'
  return {
    kind: 'start',
    job: ownedJob(record, database, 'verify', { store: false, copyOf }),
    change: { phase: 'Completed', detail },
  }
}

/** A Job that a person asks for: one task for a database, with the store that its spec names. */
export function taskJob(database: KvidxDatabase, name: string, task: JobTask, args: readonly string[]): KubeObject {
  const blueprint = blueprintFor(database)
  const { namespace, owner } = blueprint
  const meta = ownedMeta(name, namespace, database.metadata.name, owner)
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { ...meta, labels: { ...jobLabels(database.metadata.name), [TASK_LABEL]: task } },
    spec: {
      ...jobSpec(blueprint, { args: ['pod-job', task, ...args], store: true }, TASK_TIMEOUT),
      ttlSecondsAfterFinished: TTL_SECONDS,
    },
  } as KubeObject
}

function ownedJob(
  record: BackupRecord,
  database: KvidxDatabase,
  task: JobTask,
  mounts: Omit<JobPodInput, 'args'>,
): KubeObject {
  const blueprint = blueprintFor(database)
  const { name, namespace, uid = '' } = record.metadata
  const timeouts = (blueprint.spec.backup?.schedules ?? []).map(schedule =>
    milliseconds(schedule.timeout, 'spec.backup.schedules.timeout'),
  )
  const deadline = Math.ceil(Math.max(LEAST_TIMEOUT, ...timeouts) / 1000)
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: jobName(name, uid, task),
      ...(namespace !== undefined && { namespace }),
      labels: { ...jobLabels(database.metadata.name), [TASK_LABEL]: task, [BACKUP_LABEL]: name },
      ownerReferences: [
        {
          apiVersion: record.apiVersion,
          kind: record.kind,
          name,
          uid,
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      ...jobSpec(blueprint, { args: ['pod-job', task, '--name', name], ...mounts }, deadline),
      ttlSecondsAfterFinished: TTL_SECONDS,
    },
  } as KubeObject
}
