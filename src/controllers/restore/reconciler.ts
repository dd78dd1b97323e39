import { isDeepStrictEqual } from 'node:util'
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
import type { Informer } from '../../kube/informer.ts'
import type { Job } from '../../kube/job.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import { JOBS } from '../../kube/resources.ts'
import type { BackupRecord } from '../backup/record.ts'
import { planRestore, restoreJobName } from './plan.ts'
import {
  changedRestore,
  isRestoreTerminal,
  RESTORES,
  type RestoreChange,
  type RestoreRecord,
  restorePatch,
} from './record.ts'

export interface RestoreReconcilerOptions {
  readonly api: KubeApi
  readonly restores: Informer<RestoreRecord>
  readonly backups: Informer<BackupRecord>
  readonly jobs: Informer<Job>
  readonly databases: Informer<KvidxDatabase & KubeObject>
  readonly recorder: EventRecorder
  readonly clock: Clock
  readonly log: RuntimeLog
}

/** Reconciles one KvidxRestore: starts its Job once, and closes it when the Job can no longer do so. The Job talks to the database. */
export class RestoreReconciler {
  readonly #options: RestoreReconcilerOptions

  constructor(options: RestoreReconcilerOptions) {
    this.#options = options
  }

  async reconcile(key: string, signal: AbortSignal): Promise<undefined> {
    const record = this.#options.restores.store.get(key)
    if (!record || record.metadata.deletionTimestamp !== undefined || isRestoreTerminal(record.status)) return
    try {
      await this.#live(record, signal)
    } catch (error) {
      if (!isNamespaceTerminating(error) && !isNotFound(error)) throw error
    }
  }

  async #live(record: RestoreRecord, signal: AbortSignal): Promise<void> {
    const { api, databases, backups, jobs, log, recorder } = this.#options
    const { namespace, name } = record.metadata
    const { backup } = record.spec.from
    const ref = { namespace, name: restoreJobName(record) }
    const step = planRestore({
      record,
      database: databases.store.get(keyOf({ namespace, name: record.spec.database })),
      backup: backup === undefined ? undefined : backups.store.get(keyOf({ namespace, name: backup })),
      // what is not in memory yet must not be taken for gone
      job: jobs.store.get(keyOf(ref)) ?? (await undefinedIfMissing(api.get<Job>(JOBS, ref, { signal }))),
    })
    switch (step.kind) {
      case 'nothing':
        return
      case 'start':
        log.info({ restore: keyOf(record.metadata), job: ref.name }, 'starting the job of a restore')
        try {
          await api.create(JOBS, step.job, { signal })
        } catch (error) {
          if (isRefused(error))
            await this.#write(record, { phase: 'Pending', detail: `its Job is refused: ${error.message}` }, signal)
          if (!isAlreadyExists(error)) throw error
        }
        await this.#write(record, step.change, signal)
        return
      case 'status':
        await this.#write(record, step.change, signal)
        return
      case 'close': {
        const fresh = await undefinedIfMissing(api.get<RestoreRecord>(RESTORES, { namespace, name }, { signal }))
        if (!fresh || isRestoreTerminal(fresh.status)) return
        await this.#write(fresh, step.change, signal)
        recorder.record(fresh, {
          type: 'Warning',
          reason: 'Failed',
          action: 'CloseRestore',
          note: `Restore failed: ${step.change.error ?? ''}`,
        })
      }
    }
  }

  /** Only when something differs, and only over what was read: a word of its pod that came meanwhile is newer than ours. */
  async #write(record: RestoreRecord, change: RestoreChange, signal: AbortSignal): Promise<void> {
    const status = changedRestore(record, change, this.#options.clock.now())
    if (isDeepStrictEqual(record.status ?? {}, JSON.parse(JSON.stringify(status)))) return
    const { namespace, name, resourceVersion } = record.metadata
    const patch = { ...restorePatch(record, status), metadata: { resourceVersion } }
    try {
      await this.#options.api.patch(RESTORES, { namespace, name }, patch, { subresource: 'status', signal })
    } catch (error) {
      // its pod wrote: what it wrote brings us back here
      if (!isConflict(error)) throw error
    }
  }
}
