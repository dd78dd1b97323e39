import { findCondition } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Clock } from '../../common/clock.ts'
import type { KubeApi } from '../../kube/api.ts'
import { Controller, watch } from '../../kube/controller.ts'
import { Informer } from '../../kube/informer.ts'
import type { Job } from '../../kube/job.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { itself, type KeyMapping } from '../../kube/mapping.ts'
import type { KubeMetrics } from '../../kube/metrics.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import { anyOf, contentChanged, specOrMetadataChanged } from '../../kube/predicates.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import { JOBS } from '../../kube/resources.ts'
import type { Change } from '../../kube/store.ts'
import { MANAGED_BY } from '../database/names.ts'
import { BACKUP_LABEL, JOB_LABEL, TASK_LABEL } from './names.ts'
import { BackupReconciler } from './reconciler.ts'
import { BACKUPS, type BackupRecord, isTerminal } from './record.ts'

const OURS = Object.entries(MANAGED_BY)
  .map(([name, value]) => `${name}=${value}`)
  .join(',')

/** The informers of backups; the database controller reads the records, too. */
export interface BackupCache {
  readonly backups: Informer<BackupRecord>
  readonly jobs: Informer<Job>
}

export interface BackupCacheOptions {
  readonly api: KubeApi
  readonly namespaces: readonly string[]
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/** Start `backups` and `jobs`, and stop them. */
export function backupCache(options: BackupCacheOptions): BackupCache {
  return {
    backups: new Informer<BackupRecord>({ ...options, resource: BACKUPS, indexLabels: [JOB_LABEL] }),
    jobs: new Informer<Job>({
      ...options,
      resource: JOBS,
      labelSelector: `${OURS},${TASK_LABEL}`,
      transform: withoutTemplate,
    }),
  }
}

/** Only how a Job ended is read; its template is most of its size. */
function withoutTemplate({ apiVersion, kind, metadata, status }: Job): Job {
  return { apiVersion, kind, metadata, ...(status && { status }) }
}

export interface BackupControllerDeps {
  readonly api: KubeApi
  readonly cache: BackupCache
  readonly databases: Informer<KvidxDatabase & KubeObject>
  readonly recorder: EventRecorder
  readonly clock: Clock
  readonly metrics?: KubeMetrics
  readonly log: RuntimeLog
  readonly workers?: number
}

/** The controller of KvidxBackups. */
export function backupController(deps: BackupControllerDeps): Controller {
  const { cache, databases } = deps
  const reconciler = new BackupReconciler({ ...deps, backups: cache.backups, jobs: cache.jobs })
  /** The backup that an increment builds on may be waiting to go. */
  const parent: KeyMapping<BackupRecord> = ({ metadata, status }) =>
    status?.parent === undefined ? [] : [keyOf({ namespace: metadata.namespace, name: status.parent })]
  const ofJob: KeyMapping<Job> = ({ metadata }) => {
    const { namespace, name, labels } = metadata
    const backup = labels?.[BACKUP_LABEL]
    if (backup !== undefined) return [keyOf({ namespace, name: backup })]
    return cache.backups.store
      .labelled(JOB_LABEL, name)
      .filter(record => record.metadata.namespace === namespace)
      .map(record => keyOf(record.metadata))
  }
  /** Those that wait for their database, or for it to say where their files are. */
  const waiting: KeyMapping<KvidxDatabase & KubeObject> = ({ metadata }) =>
    cache.backups.store
      .inNamespace(metadata.namespace ?? '')
      .filter(
        record =>
          record.spec.database === metadata.name &&
          (!isTerminal(record.status) || record.metadata.deletionTimestamp !== undefined),
      )
      .map(record => keyOf(record.metadata))
  return new Controller({
    name: 'backup',
    clock: deps.clock,
    log: deps.log,
    ...(deps.metrics && { metrics: deps.metrics }),
    ...(deps.workers !== undefined && { workers: deps.workers }),
    watches: [
      watch(cache.backups, itself, contentChanged),
      watch(cache.backups, parent, contentChanged),
      watch(cache.jobs, ofJob, contentChanged),
      watch(databases, waiting, anyOf(specOrMetadataChanged, readinessChanged)),
    ],
    reconcile: (key, signal) => reconciler.reconcile(key, signal),
  })
}

/** What work that waits for a database waits for. */
export function readinessChanged(change: Change<KubeObject>): boolean {
  if (change.type !== 'updated') return true
  const ready = (database: KubeObject) =>
    findCondition((database as KvidxDatabase & KubeObject).status?.conditions, 'Ready')?.status
  const image = (database: KubeObject) => (database as KvidxDatabase & KubeObject).status?.image
  return ready(change.object) !== ready(change.previous) || image(change.object) !== image(change.previous)
}
