import { isDeepStrictEqual } from 'node:util'
import type { BackupPhase } from '../../api/v1alpha1/kvidx-backup.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Clock } from '../../common/clock.ts'
import type { KubeApi } from '../../kube/api.ts'
import {
  isAlreadyExists,
  isConflict,
  isNamespaceTerminating,
  isNotFound,
  isRefused,
  undefinedIfMissing,
} from '../../kube/api-error.ts'
import type { ReconcileResult } from '../../kube/controller.ts'
import type { Informer } from '../../kube/informer.ts'
import type { Job } from '../../kube/job.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { type KubeObject, keyOf, type Resource } from '../../kube/object.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import { JOBS, NAMESPACES, VOLUME_SNAPSHOTS } from '../../kube/resources.ts'
import { hasStoredFinalizer, isVolumeSnapshot, planDeletion, wantsStoredFinalizer } from './deletion.ts'
import { IMPORTED_LABEL, jobName, STORED_FINALIZER } from './names.ts'
import { type BackupStep, deletionJob, jobOf, planBackup, planVerification } from './plan.ts'
import {
  awaitsVerification,
  BACKUPS,
  type BackupRecord,
  changedStatus,
  isTerminal,
  type StatusChange,
  statusPatch,
} from './record.ts'
import type { VolumeSnapshot } from './volume-snapshot.ts'

export interface BackupReconcilerOptions {
  readonly api: KubeApi
  readonly backups: Informer<BackupRecord>
  readonly jobs: Informer<Job>
  readonly databases: Informer<KvidxDatabase & KubeObject>
  readonly recorder: EventRecorder
  readonly clock: Clock
  readonly log: RuntimeLog
}

/** A failed deletion in the store is tried again after so long, ms. */
const DELETE_AGAIN = 600_000

/** Reconciles one KvidxBackup: starts the Job of one made by hand, closes records whose pod can no longer do it, carries out deletionPolicy. */
export class BackupReconciler {
  readonly #options: BackupReconcilerOptions

  constructor(options: BackupReconcilerOptions) {
    this.#options = options
  }

  async reconcile(key: string, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    const record = this.#options.backups.store.get(key)
    if (!record) return undefined
    try {
      if (record.metadata.deletionTimestamp !== undefined) return await this.#delete(record, signal)
      if (wantsStoredFinalizer(record) !== hasStoredFinalizer(record)) await this.#keepFinalizer(record, signal)
      if (awaitsVerification(record)) return await this.#verify(record, signal)
      if (isTerminal(record.status) || record.metadata.labels?.[IMPORTED_LABEL] !== undefined) return undefined
      return await this.#live(record, signal)
    } catch (error) {
      if (isNamespaceTerminating(error) || isNotFound(error)) return undefined
      throw error
    }
  }

  async #live(record: BackupRecord, signal: AbortSignal): Promise<undefined> {
    const job = await this.#job(record, jobOf(record), signal)
    return this.#step(record, planBackup({ record, database: this.#database(record), job }), signal)
  }

  async #verify(record: BackupRecord, signal: AbortSignal): Promise<undefined> {
    const { name, uid = '' } = record.metadata
    const job = await this.#job(record, jobName(name, uid, 'verify'), signal)
    return this.#step(record, planVerification({ record, database: this.#database(record), job }), signal)
  }

  async #step(record: BackupRecord, step: BackupStep, signal: AbortSignal): Promise<undefined> {
    const { log } = this.#options
    const { namespace, name } = record.metadata
    switch (step.kind) {
      case 'nothing':
        return
      case 'start':
        log.info({ backup: keyOf(record.metadata), job: step.job.metadata.name }, 'starting the job of a backup')
        await this.#createJob(record, step.job, step.change.phase, signal)
        await this.#write(record, step.change, signal)
        return
      case 'status':
        await this.#write(record, step.change, signal)
        return
      case 'close': {
        const fresh = await undefinedIfMissing(
          this.#options.api.get<BackupRecord>(BACKUPS, { namespace, name }, { signal }),
        )
        if (!fresh || isTerminal(fresh.status)) return
        await this.#write(fresh, step.change, signal)
        this.#tell(fresh, 'Warning', 'Failed', 'CloseBackup', `Backup failed: ${step.change.error ?? ''}`)
      }
    }
  }

  async #delete(record: BackupRecord, signal: AbortSignal): Promise<ReconcileResult | undefined> {
    if (!hasStoredFinalizer(record)) return undefined
    const { api, backups, log } = this.#options
    const { namespace = '', name, uid = '' } = record.metadata
    const ref = { namespace, name: jobName(name, uid, 'delete') }
    const space = await undefinedIfMissing(api.get<KubeObject>(NAMESPACES, { name: namespace }, { signal }))
    const database = this.#database(record)
    const step = planDeletion({
      record,
      database,
      job: await this.#job(record, ref.name, signal),
      snapshot: isVolumeSnapshot(record)
        ? await undefinedIfMissing(api.get<VolumeSnapshot>(VOLUME_SNAPSHOTS, { namespace, name }, { signal }))
        : undefined,
      others: backups.store.inNamespace(namespace),
      namespaceTerminating: space === undefined || space.metadata.deletionTimestamp !== undefined,
    })
    switch (step.kind) {
      case 'release':
        log.info({ backup: keyOf(record.metadata), files: step.files, why: step.why }, 'a backup goes')
        if (step.files === 'kept')
          this.#tell(record, 'Warning', 'FilesKept', 'DeleteBackup', `What is stored stays: ${step.why}`)
        return this.#release(record, signal)
      case 'refuse': {
        const detail = `backup ${step.needed} needs this one; it goes when that one is gone`
        await this.#write(record, { phase: record.status?.phase ?? 'Pending', detail }, signal)
        this.#tell(record, 'Warning', 'DeleteRefused', 'DeleteBackup', `Not deleted: ${detail}`)
        return undefined
      }
      case 'removeSnapshot':
        await ignoreMissing(api.delete(VOLUME_SNAPSHOTS, { namespace, name }, { signal, uid: step.uid }))
        return this.#release(record, signal)
      case 'start':
        if (database)
          await this.#createJob(record, deletionJob(record, database), record.status?.phase ?? 'Pending', signal)
        return undefined
      case 'wait':
        return undefined
      case 'again': {
        const failed = await this.#job(record, ref.name, signal)
        const ended = Date.parse(failed?.status?.conditions?.[0]?.lastTransitionTime ?? '') || 0
        const left = ended + DELETE_AGAIN - this.#options.clock.now()
        if (left > 0) {
          this.#tell(record, 'Warning', 'DeleteFailed', 'DeleteBackup', `The files could not be removed: ${step.error}`)
          return { requeueAfter: left }
        }
        await ignoreMissing(api.delete(JOBS, ref, { propagation: 'Background', signal }))
        return { requeueAfter: 5000 }
      }
    }
  }

  #database(record: BackupRecord): (KvidxDatabase & KubeObject) | undefined {
    const { namespace } = record.metadata
    return this.#options.databases.store.get(keyOf({ namespace, name: record.spec.database }))
  }

  /** From memory, else from the server: what is not in memory yet must not be taken for gone. */
  #job({ metadata }: BackupRecord, name: string, signal: AbortSignal): Promise<Job | undefined> {
    const { namespace } = metadata
    const known = this.#options.jobs.store.get(keyOf({ namespace, name }))
    return known
      ? Promise.resolve(known)
      : undefinedIfMissing(this.#options.api.get<Job>(JOBS, { namespace, name }, { signal }))
  }

  /** @param phase stays when the Job is refused: the record says why, and the queue tries again */
  async #createJob(record: BackupRecord, job: KubeObject, phase: BackupPhase, signal: AbortSignal): Promise<void> {
    try {
      await this.#options.api.create(JOBS as Resource, job, { signal })
    } catch (error) {
      if (isAlreadyExists(error)) return
      if (isRefused(error)) await this.#write(record, { phase, detail: `its Job is refused: ${error.message}` }, signal)
      throw error
    }
  }

  async #keepFinalizer(record: BackupRecord, signal: AbortSignal): Promise<void> {
    const others = (record.metadata.finalizers ?? []).filter(name => name !== STORED_FINALIZER)
    await this.#setFinalizers(record, wantsStoredFinalizer(record) ? [...others, STORED_FINALIZER] : others, signal)
  }

  async #release(record: BackupRecord, signal: AbortSignal): Promise<undefined> {
    const others = (record.metadata.finalizers ?? []).filter(name => name !== STORED_FINALIZER)
    await ignoreMissing(this.#setFinalizers(record, others, signal))
  }

  async #setFinalizers(record: BackupRecord, finalizers: readonly string[], signal: AbortSignal): Promise<void> {
    const { namespace, name, resourceVersion } = record.metadata
    // with the version that was seen: another controller's finalizer must not be lost
    await this.#options.api.patch(
      BACKUPS,
      { namespace, name },
      { metadata: { finalizers, resourceVersion } },
      { signal },
    )
  }

  /** Only when something differs, and only over what was read: a word of its pod that came meanwhile is newer than ours. */
  async #write(record: BackupRecord, change: StatusChange, signal: AbortSignal): Promise<void> {
    const status = changedStatus(record, change, this.#options.clock.now())
    if (isDeepStrictEqual(record.status ?? {}, JSON.parse(JSON.stringify(status)))) return
    const { namespace, name, resourceVersion } = record.metadata
    const patch = {
      ...statusPatch(record, status),
      metadata: { resourceVersion },
    }
    try {
      await this.#options.api.patch(BACKUPS, { namespace, name }, patch, { subresource: 'status', signal })
    } catch (error) {
      if (!isConflict(error)) throw error
      // its pod wrote: what it wrote brings us back here
    }
  }

  #tell(record: BackupRecord, type: 'Normal' | 'Warning', reason: string, action: string, note: string): void {
    this.#options.recorder.record(record, { type, reason, action, note })
  }
}

async function ignoreMissing(work: Promise<unknown>): Promise<undefined> {
  try {
    await work
  } catch (error) {
    if (!isNotFound(error)) throw error
  }
  return undefined
}
