import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Clock } from '../../common/clock.ts'
import type { KubeApi } from '../../kube/api.ts'
import { Controller, watch } from '../../kube/controller.ts'
import { Informer } from '../../kube/informer.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { itself, type KeyMapping, namedByLabel } from '../../kube/mapping.ts'
import type { KubeMetrics } from '../../kube/metrics.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import { anyOf, contentChanged, specOrMetadataChanged } from '../../kube/predicates.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import { type BackupCache, readinessChanged } from '../backup/controller.ts'
import { RESTORE_LABEL } from '../backup/names.ts'
import { RestoreReconciler } from './reconciler.ts'
import { isRestoreTerminal, RESTORES, type RestoreRecord } from './record.ts'

/** Start it, and stop it. */
export function restoreInformer(options: {
  readonly api: KubeApi
  readonly namespaces: readonly string[]
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}): Informer<RestoreRecord> {
  return new Informer<RestoreRecord>({ ...options, resource: RESTORES })
}

export interface RestoreControllerDeps {
  readonly api: KubeApi
  readonly restores: Informer<RestoreRecord>
  readonly cache: BackupCache
  readonly databases: Informer<KvidxDatabase & KubeObject>
  readonly recorder: EventRecorder
  readonly clock: Clock
  readonly metrics?: KubeMetrics
  readonly log: RuntimeLog
  readonly workers?: number
}

/** The controller of KvidxRestores. */
export function restoreController(deps: RestoreControllerDeps): Controller {
  const { restores, cache, databases } = deps
  const reconciler = new RestoreReconciler({ ...deps, ...cache })
  const waiting: KeyMapping<KvidxDatabase & KubeObject> = ({ metadata }) =>
    restores.store
      .inNamespace(metadata.namespace ?? '')
      .filter(record => record.spec.database === metadata.name && !isRestoreTerminal(record.status))
      .map(record => keyOf(record.metadata))
  return new Controller({
    name: 'restore',
    clock: deps.clock,
    log: deps.log,
    ...(deps.metrics && { metrics: deps.metrics }),
    ...(deps.workers !== undefined && { workers: deps.workers }),
    watches: [
      watch(restores, itself, contentChanged),
      watch(cache.jobs, namedByLabel(RESTORE_LABEL), contentChanged),
      watch(databases, waiting, anyOf(specOrMetadataChanged, readinessChanged)),
      // so that its kind is known before the first reconcile
      watch(cache.backups, () => []),
    ],
    reconcile: (key, signal) => reconciler.reconcile(key, signal),
  })
}
