import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Job } from '../../kube/job.ts'
import { STORED_FINALIZER } from './names.ts'
import { stateOfJob } from './plan.ts'
import type { BackupRecord } from './record.ts'
import { isSnapshotOf, type VolumeSnapshot } from './volume-snapshot.ts'

export interface DeletionView {
  readonly record: BackupRecord
  readonly database: KvidxDatabase | undefined
  /** The Job that removes the files. */
  readonly job: Job | undefined
  /** The VolumeSnapshot of its name, whosever it is. */
  readonly snapshot: VolumeSnapshot | undefined
  /** Other backups of the namespace. */
  readonly others: readonly BackupRecord[]
  readonly namespaceTerminating: boolean
}

export type DeletionStep =
  /** The record goes; `files` says what becomes of what is stored. */
  | { readonly kind: 'release'; readonly files: 'kept' | 'gone' | 'none'; readonly why: string }
  | { readonly kind: 'refuse'; readonly needed: string }
  | { readonly kind: 'start' }
  | { readonly kind: 'wait' }
  | { readonly kind: 'removeSnapshot'; readonly uid: string }
  /** The Job failed: it is removed and started again later. */
  | { readonly kind: 'again'; readonly error: string }

export function wantsStoredFinalizer({ spec }: BackupRecord): boolean {
  return spec.deletionPolicy === 'Delete'
}

export function hasStoredFinalizer({ metadata }: BackupRecord): boolean {
  return metadata.finalizers?.includes(STORED_FINALIZER) ?? false
}

export function isVolumeSnapshot({ spec, status }: BackupRecord): boolean {
  return (status?.type ?? spec.type) === 'VolumeSnapshot'
}

/** What the deletion of a record with our finalizer does next. When in doubt the files stay. Pure. */
export function planDeletion(view: DeletionView): DeletionStep {
  const { record, database, job, snapshot, others, namespaceTerminating } = view
  const { name } = record.metadata
  if (!wantsStoredFinalizer(record)) return { kind: 'release', files: 'kept', why: 'deletionPolicy Retain' }
  if (namespaceTerminating) return { kind: 'release', files: 'kept', why: 'the namespace is being deleted' }
  const child = others.find(
    ({ metadata, spec, status }) =>
      metadata.name !== name &&
      metadata.deletionTimestamp === undefined &&
      spec.database === record.spec.database &&
      status?.phase === 'Completed' &&
      status.parent === name,
  )
  if (child) return { kind: 'refuse', needed: child.metadata.name }
  if (isVolumeSnapshot(record)) {
    if (!snapshot) return { kind: 'release', files: 'none', why: 'there is no VolumeSnapshot of it' }
    return isSnapshotOf(snapshot, record)
      ? { kind: 'removeSnapshot', uid: snapshot.metadata.uid ?? '' }
      : { kind: 'release', files: 'kept', why: `VolumeSnapshot ${name} was not made for it` }
  }
  if (record.status?.location === undefined) return { kind: 'release', files: 'none', why: 'nothing was stored' }
  const state = stateOfJob(job)
  if (state === 'complete') return { kind: 'release', files: 'gone', why: 'the files were removed' }
  if (state === 'active') return { kind: 'wait' }
  if (state === 'failed') {
    const said = job?.status?.conditions?.find(({ type }) => type === 'Failed')
    return { kind: 'again', error: `${said?.reason ?? 'Failed'}: ${said?.message ?? ''}` }
  }
  if (!database?.spec.backup || database.metadata.deletionTimestamp !== undefined)
    return {
      kind: 'release',
      files: 'kept',
      why: `KvidxDatabase ${record.spec.database} no longer says where they are`,
    }
  return { kind: 'start' }
}
