import { type Finding, findCondition } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { KubeApiError } from '../../kube/api-error.ts'
import { controllerOf, type KubeObject, type Resource } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS, VOLUME_SNAPSHOTS } from '../../kube/resources.ts'
import { FINALIZER, keptLabelsOf } from './names.ts'
import type { Action, Observed } from './observed.ts'

/** What a deletion does next. `done`: the finalizer may go. */
export interface DeletionPlan {
  readonly actions: readonly Action[]
  readonly findings: readonly Finding[]
  readonly done: boolean
}

/** Whether deletionPolicy needs our finalizer: only where something is to be done before the database goes. */
export function wantsFinalizer(database: KvidxDatabase): boolean {
  const policy = database.spec.storage.deletionPolicy ?? 'Retain'
  return policy !== 'Retain'
}

/**
 * Whether a volume is growing, which needs our finalizer with every policy: growth removes the StatefulSet without its pods, and if the database went then,
 * they would run on with no owner. From before that is done until the new StatefulSet has taken them over.
 */
export function leavesPodsAlone({ database, statefulSet, pods }: Observed, actions: readonly Action[]): boolean {
  if (actions.some(action => action.kind === 'delete' && action.propagation === 'Orphan')) return true
  if (!hasFinalizer(database)) return false
  return !statefulSet || isLeaving(statefulSet) || pods.some(pod => controllerOf(pod)?.uid !== statefulSet.metadata.uid)
}

export function hasFinalizer(database: KvidxDatabase): boolean {
  return database.metadata.finalizers?.includes(FINALIZER) ?? false
}

/** Name of the snapshot of deletionPolicy Snapshot; the uid makes it this very database's. */
export function finalSnapshotName(database: KvidxDatabase): string {
  return `${database.metadata.name}-final-${(database.metadata.uid ?? '').slice(0, 8)}`
}

/** Carries out spec.storage.deletionPolicy. Backups are never touched. Pure. */
export function planDeletion(observed: Observed): DeletionPlan {
  const { database, claims, pods, statefulSet } = observed
  const { namespace = 'default' } = database.metadata
  const policy = database.spec.storage.deletionPolicy ?? 'Retain'
  const waiting = (detail: string): DeletionPlan['findings'] => [
    { type: 'Ready', status: 'False', reason: 'Deleting', values: { detail } },
    { type: 'Reconciling', status: 'True', reason: 'Deleting', values: { detail } },
  ]
  // everything in the namespace goes anyway, and a finalizer would only hold it up
  if (observed.namespaceTerminating) return { actions: [], findings: [], done: true }
  // growth removes a StatefulSet without its pods and makes it anew; where the deletion came between, nobody else stops them
  const left = pods.filter(pod => !controllerOf(pod) && !isLeaving(pod))
  const stopLeft = left.map(pod => removal(PODS, pod, 'the database is deleted'))
  if (policy === 'Retain') {
    // what has an owner goes with it, and is not waited for
    const going = statefulSet
      ? isLeaving(statefulSet) && (statefulSet.metadata.finalizers ?? []).includes('orphan')
      : pods.some(pod => !isLeaving(pod))
    const done = left.length === 0 && !going
    return { actions: stopLeft, findings: done ? [] : waiting('stopping the pods'), done }
  }
  // a clean shutdown first: no pod may write while the volume is copied or goes away
  if (statefulSet && !isLeaving(statefulSet))
    return {
      actions: [
        {
          kind: 'delete',
          resource: STATEFUL_SETS,
          namespace,
          name: statefulSet.metadata.name,
          uid: statefulSet.metadata.uid ?? '',
          // it stays, marked, until its pods are gone: its controller makes no new pod and no new claim meanwhile
          propagation: 'Foreground',
          why: 'the database is deleted',
        },
      ],
      findings: waiting('stopping the pods'),
      done: false,
    }
  if (statefulSet || pods.length > 0)
    return { actions: statefulSet ? [] : stopLeft, findings: waiting('stopping the pods'), done: false }
  // a claim that never got a volume has nothing to keep, and no driver would ever copy it
  if (policy === 'Snapshot' && claims[0] && claims[0].status?.phase !== 'Pending') {
    const { finalSnapshot } = observed
    if (!finalSnapshot)
      return {
        actions: [
          {
            kind: 'create',
            resource: VOLUME_SNAPSHOTS,
            object: snapshotOf(database, claims[0]),
            why: 'deletionPolicy Snapshot',
          },
        ],
        findings: waiting('taking a snapshot'),
        done: false,
      }
    const error = finalSnapshot.status?.error?.message
    if (!finalSnapshot.status?.readyToUse)
      return {
        actions: [],
        findings:
          error === undefined
            ? waiting('taking a snapshot')
            : [
                ...waiting('taking a snapshot'),
                {
                  type: 'Stalled',
                  status: 'True',
                  reason: 'DeletionBlocked',
                  values: { detail: `the snapshot failed: ${error}` },
                },
              ],
        done: false,
      }
  }
  const actions = claims
    .filter(claim => !isLeaving(claim))
    .map(claim => removal(PERSISTENT_VOLUME_CLAIMS, claim, `deletionPolicy ${policy}`))
  return { actions, findings: waiting('removing the volumes'), done: actions.length === 0 }
}

/**
 * Why the API server will not take the final snapshot, where only a person can mend that: a driver's API that is not installed, a right that is missing, an
 * object that is refused. Undefined: the retries of the queue may help. Pure.
 */
export function snapshotRefusal(actions: readonly Action[], failure: unknown): string | undefined {
  if (!actions.some(({ kind, resource }) => kind === 'create' && resource === VOLUME_SNAPSHOTS)) return undefined
  if (!(failure instanceof KubeApiError) || ![400, 403, 404, 422].includes(failure.status)) return undefined
  return failure.status === 404
    ? 'this cluster has no VolumeSnapshot API (volumesnapshots.snapshot.storage.k8s.io/v1)'
    : `the VolumeSnapshot is refused: ${failure.message}`
}

/** ms until the next try: as long again as it has been blocked, 5 s to 5 min. A change of the spec is looked at at once. Pure. */
export function blockedDelay({ status }: KvidxDatabase, now: number): number {
  const known = findCondition(status?.conditions, 'Stalled')
  const since = known?.reason === 'DeletionBlocked' ? Date.parse(known.lastTransitionTime) : now
  return Math.min(Math.max(now - since, 5000), 300_000)
}

function isLeaving({ metadata }: KubeObject): boolean {
  return metadata.deletionTimestamp !== undefined
}

function removal(resource: Resource, { metadata }: KubeObject, why: string): Action {
  const { namespace = 'default', name, uid = '' } = metadata
  return { kind: 'delete', resource, namespace, name, uid, why }
}

function snapshotOf(database: KvidxDatabase, claim: KubeObject): KubeObject {
  const { name, namespace } = database.metadata
  const className = database.spec.storage.volumeSnapshotClassName
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: {
      name: finalSnapshotName(database),
      ...(namespace !== undefined && { namespace }),
      labels: keptLabelsOf(name),
      annotations: { 'kvidx.io/lineage': database.status?.lineage ?? '', 'kvidx.io/reason': 'deletionPolicy Snapshot' },
    },
    spec: {
      ...(className !== undefined && { volumeSnapshotClassName: className }),
      source: { persistentVolumeClaimName: claim.metadata.name },
    },
  } as KubeObject
}
