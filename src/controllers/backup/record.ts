import type { BackupType } from '../../api/v1alpha1/backup.ts'
import { type Finding, mergeConditions } from '../../api/v1alpha1/conditions.ts'
import {
  type BackupPhase,
  KVIDX_BACKUP,
  type KvidxBackup,
  type KvidxBackupStatus,
} from '../../api/v1alpha1/kvidx-backup.ts'
import type { KubeObject, Resource } from '../../kube/object.ts'
import { keptLabelsOf } from '../database/names.ts'
import { IMPORTED_LABEL, JOB_LABEL, SCHEDULE_LABEL } from './names.ts'

export const BACKUPS: Resource = {
  group: KVIDX_BACKUP.group,
  version: KVIDX_BACKUP.version,
  plural: KVIDX_BACKUP.plural,
  kind: KVIDX_BACKUP.kind,
  namespaced: true,
}

/** A KvidxBackup as the API server gives it. */
export type BackupRecord = KvidxBackup & KubeObject

export interface NewRecord {
  readonly namespace: string
  readonly name: string
  readonly database: string
  readonly type: BackupType
  readonly verify: boolean
  /** Absent: made by hand, and kept by retention. */
  readonly schedule?: string
  /** The Job whose pod makes the backup; absent: the operator starts one. */
  readonly job?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** A new record. It has no owner: it outlives the database as its files do. */
export function newRecord(input: NewRecord): BackupRecord {
  const { namespace, name, database, type, verify, schedule, job } = input
  return {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxBackup',
    metadata: {
      namespace,
      name,
      labels: {
        ...keptLabelsOf(database),
        ...(schedule !== undefined && { [SCHEDULE_LABEL]: schedule }),
        ...(job !== undefined && { [JOB_LABEL]: job }),
        ...input.labels,
      },
    },
    spec: { database, type, verify, deletionPolicy: 'Retain' },
  }
}

export function isTerminal(status: KvidxBackupStatus | undefined): boolean {
  return status?.phase === 'Completed' || status?.phase === 'Failed'
}

/** Made by a schedule: the operator never starts a Job for it, and retention may remove it. */
export function isScheduled({ metadata }: KubeObject): boolean {
  return metadata.labels?.[SCHEDULE_LABEL] !== undefined && metadata.labels[JOB_LABEL] !== undefined
}

/** Whether it is to be restored and compared. */
export function wantsVerification({ spec }: KvidxBackup): boolean {
  return spec.verify ?? (spec.type ?? 'Full') === 'Full'
}

/** A VolumeSnapshot is looked at by another pod, which mounts a copy of it. */
export function awaitsVerification({ metadata, status }: BackupRecord): boolean {
  return (
    status?.phase === 'Completed' &&
    status.type === 'VolumeSnapshot' &&
    status.verification === 'Pending' &&
    metadata.labels?.[IMPORTED_LABEL] === undefined
  )
}

export interface StatusChange extends Omit<KvidxBackupStatus, 'conditions' | 'observedGeneration' | 'phase'> {
  readonly phase: BackupPhase
  /** For the condition; the default says what the phase is. */
  readonly detail?: string
}

/** The whole status after a change. Members that the change does not name stay. Pure. @param now Unix ms */
export function changedStatus(record: KvidxBackup, change: StatusChange, now: number): KvidxBackupStatus {
  const { detail, ...members } = change
  const before = record.status ?? {}
  const generation = record.metadata.generation ?? 0
  const status: KvidxBackupStatus = {
    ...before,
    ...members,
    observedGeneration: generation,
    conditions: [...mergeConditions(before.conditions ?? [], findingsOf(change, detail, before), now, generation)],
  }
  // what an earlier attempt said is not true of this one
  if (change.phase !== 'Failed' && change.error === undefined) {
    const { error: _error, code: _code, ...rest } = status
    return rest
  }
  return status
}

/**
 * The body of a merge patch of the status: members that are gone are null, or the server would keep them. `resourceVersion`, where it is
 * given, makes it fail when somebody else wrote meanwhile.
 */
export function statusPatch(record: KvidxBackup, status: KvidxBackupStatus): { readonly status: object } {
  const gone = Object.keys(record.status ?? {}).filter(name => !(name in status))
  return { status: { ...status, ...Object.fromEntries(gone.map(name => [name, null])) } }
}

/** RFC 3339 with whole seconds. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}

function findingsOf(change: StatusChange, detail: string | undefined, before: KvidxBackupStatus): readonly Finding[] {
  switch (change.phase) {
    case 'Completed': {
      const verifiedAt = change.verifiedAt ?? before.verifiedAt
      const said = verifiedAt === undefined ? 'stored and read back' : 'stored, restored and compared'
      return [{ type: 'Ready', status: 'True', reason: 'Completed', values: { detail: detail ?? said } }]
    }
    case 'Failed': {
      const values = { error: change.error ?? detail ?? 'unknown' }
      return [
        { type: 'Ready', status: 'False', reason: 'Failed', values },
        { type: 'Stalled', status: 'True', reason: 'Failed', values },
      ]
    }
    default: {
      const reason = change.phase === 'Pending' ? 'Pending' : 'Running'
      const said = {
        Pending: 'its job has not begun',
        Running: 'reading and storing',
        Verifying: 'restoring it to compare',
      }
      const values = { detail: detail ?? said[change.phase] }
      return [
        { type: 'Ready', status: 'False', reason, values },
        { type: 'Reconciling', status: 'True', reason, values },
      ]
    }
  }
}
