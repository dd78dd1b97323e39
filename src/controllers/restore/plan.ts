import { isTrue } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Job } from '../../kube/job.ts'
import type { KubeObject } from '../../kube/object.ts'
import { jobName, RESTORE_LABEL, TASK_LABEL } from '../backup/names.ts'
import { blueprintFor, stateOfJob } from '../backup/plan.ts'
import type { BackupRecord } from '../backup/record.ts'
import { jobLabels, jobSpec } from '../database/objects/job-pod.ts'
import type { RestoreChange, RestoreRecord } from './record.ts'

/** What is seen of one KvidxRestore. */
export interface RestoreView {
  readonly record: RestoreRecord
  readonly database: KvidxDatabase | undefined
  readonly job: Job | undefined
  /** The KvidxBackup that `from.backup` names, if it has a record. */
  readonly backup: BackupRecord | undefined
}

export type RestoreStep =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'start'; readonly job: KubeObject; readonly change: RestoreChange }
  | { readonly kind: 'status'; readonly change: RestoreChange }
  /** As status, but only if the record at the server is still not terminal. */
  | { readonly kind: 'close'; readonly change: RestoreChange }

const DEADLINE_SECONDS = 24 * 3600
const TTL_SECONDS = 86_400

export function restoreJobName({ metadata }: RestoreRecord): string {
  return jobName(metadata.name, metadata.uid ?? '', 'restore')
}

/** The next step for a record that is not terminal. Pure. */
export function planRestore(view: RestoreView): RestoreStep {
  const { record, database, job } = view
  const { status } = record
  const name = restoreJobName(record)
  const state = stateOfJob(job)
  if (state === 'failed' || state === 'complete') {
    const said = job?.status?.conditions?.find(({ type }) => type === 'Failed')
    const how = said ? `Job ${name} failed (${said.reason ?? ''}: ${said.message ?? ''})` : `Job ${name} ended`
    const error = status?.error === undefined ? `${how} without saying what came of it` : `${status.error}; ${how}`
    return { kind: 'close', change: { phase: 'Failed', error, code: status?.code ?? 'job_failed' } }
  }
  if (state === 'active')
    return status?.phase === undefined ? { kind: 'status', change: { phase: 'Pending' } } : { kind: 'nothing' }
  // it had begun: what the database did of it, its epoch tells
  if (status?.startedAt !== undefined) {
    const error = `Job ${name} is gone, and what came of it is not known; see the epoch of the database`
    return { kind: 'close', change: { phase: 'Failed', error, code: 'job_gone' } }
  }
  if (view.backup?.spec.type === 'VolumeSnapshot') {
    const error = `${view.backup.metadata.name} is a VolumeSnapshot: it is restored by a new database whose claim is made from it`
    return { kind: 'status', change: { phase: 'Failed', error, code: 'invalid_parameter' } }
  }
  const waits = whyNot(record, database)
  if (waits !== undefined || !database) return { kind: 'status', change: { phase: 'Pending', detail: waits ?? '' } }
  return { kind: 'start', job: restoreJob(record, database), change: { phase: 'Pending' } }
}

function whyNot({ spec }: RestoreRecord, database: KvidxDatabase | undefined): string | undefined {
  const what = `KvidxDatabase ${spec.database}`
  if (!database) return `there is no ${what}`
  if (database.metadata.deletionTimestamp !== undefined) return `${what} is being deleted`
  const { backup } = database.spec
  if (!backup) return `${what} has no destination in spec.backup`
  // without continuous the credentials of a bucket are in the pods of jobs alone, and a restore is read by the database itself
  if (backup.destination.s3?.credentialsSecretRef && !backup.continuous?.enabled)
    return `${what} cannot reach its bucket: set spec.backup.continuous.enabled, or restore into a new database by spec.bootstrap.restore`
  if (database.spec.hibernate) return `${what} sleeps`
  if (!isTrue(database.status?.conditions, 'Ready')) return `${what} is not ready`
  return undefined
}

function restoreJob(record: RestoreRecord, database: KvidxDatabase): KubeObject {
  const { name, namespace, uid = '' } = record.metadata
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name: restoreJobName(record),
      ...(namespace !== undefined && { namespace }),
      labels: { ...jobLabels(database.metadata.name), [TASK_LABEL]: 'restore', [RESTORE_LABEL]: name },
      ownerReferences: [
        { apiVersion: record.apiVersion, kind: record.kind, name, uid, controller: true, blockOwnerDeletion: true },
      ],
    },
    spec: {
      // the database reads its store itself: the pod needs only the admin token
      ...jobSpec(
        blueprintFor(database),
        { args: ['pod-job', 'restore', '--name', name], store: false },
        DEADLINE_SECONDS,
      ),
      ttlSecondsAfterFinished: TTL_SECONDS,
    },
  } as KubeObject
}
