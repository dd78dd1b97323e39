import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { KubeApi } from '../../kube/api.ts'
import { Controller, watch } from '../../kube/controller.ts'
import { Informer } from '../../kube/informer.ts'
import type { RuntimeLog } from '../../kube/log.ts'
import { controlledBy, itself, type KeyMapping, namedByLabel } from '../../kube/mapping.ts'
import type { KubeMetrics } from '../../kube/metrics.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import { contentChanged, specOrMetadataChanged } from '../../kube/predicates.ts'
import { NODES, PERSISTENT_VOLUME_CLAIMS, PODS, SECRETS, STATEFUL_SETS } from '../../kube/resources.ts'
import type { Change } from '../../kube/store.ts'
import type { BackupRecord } from '../backup/record.ts'
import type { DatabaseCache } from './cache.ts'
import { DATABASE_LABEL, MANAGED_BY } from './names.ts'
import { COMPONENTS } from './objects/desired.ts'
import type { StatefulSet } from './objects/stateful-set.ts'
import type { Claim, Node, Pod } from './observed.ts'
import type { DatabaseReconciler } from './reconciler.ts'
import { DATABASES } from './resource.ts'

const OURS = Object.entries(MANAGED_BY)
  .map(([name, value]) => `${name}=${value}`)
  .join(',')

export interface CacheOptions {
  readonly api: KubeApi
  readonly namespaces: readonly string[]
  readonly metrics: KubeMetrics
  readonly log: RuntimeLog
}

/** The informers of the database controller; other controllers may share them. */
export function databaseCache(options: CacheOptions): DatabaseCache {
  const owned = { ...options, labelSelector: OURS, indexLabels: [DATABASE_LABEL] }
  const others = COMPONENTS.filter(component => component.resource !== STATEFUL_SETS).map(
    component =>
      [component.resource.plural, new Informer<KubeObject>({ ...owned, resource: component.resource })] as const,
  )
  return {
    databases: new Informer<KvidxDatabase & KubeObject>({ ...options, resource: DATABASES, transform: withoutCopy }),
    statefulSets: new Informer<StatefulSet>({ ...owned, resource: STATEFUL_SETS }),
    pods: new Informer<Pod>({ ...owned, resource: PODS, transform: withoutSpec }),
    claims: new Informer<Claim>({ ...owned, resource: PERSISTENT_VOLUME_CLAIMS }),
    nodes: new Informer<Node>({ ...options, namespaces: [], resource: NODES, transform: withoutImages }),
    // that it is there is all that matters: tokens are not kept in memory
    secrets: new Informer<KubeObject>({
      ...owned,
      resource: SECRETS,
      transform: ({ apiVersion, kind, metadata }) => ({ apiVersion, kind, metadata }),
    }),
    others: new Map(others),
  }
}

export function informersOf(cache: DatabaseCache): readonly Informer<KubeObject>[] {
  return [
    cache.databases,
    cache.statefulSets,
    cache.pods,
    cache.claims,
    cache.nodes,
    cache.secrets,
    ...cache.others.values(),
  ] as unknown as readonly Informer<KubeObject>[]
}

/** What is read of a pod: most of its size is the template, which the StatefulSet has too. */
function withoutSpec({ apiVersion, kind, metadata, spec, status }: Pod): Pod {
  const containers = spec.containers.map(({ name, image }) => ({ name, ...(image !== undefined && { image }) }))
  const { phase, podIP, reason, conditions, containerStatuses, initContainerStatuses } = status ?? {}
  return {
    apiVersion,
    kind,
    metadata,
    spec: { ...(spec.nodeName !== undefined && { nodeName: spec.nodeName }), containers },
    status: {
      ...(phase !== undefined && { phase }),
      ...(podIP !== undefined && { podIP }),
      ...(reason !== undefined && { reason }),
      ...(conditions && { conditions }),
      ...(containerStatuses && { containerStatuses }),
      ...(initContainerStatuses && { initContainerStatuses }),
    },
  }
}

/** kubectl keeps a copy of the whole object in an annotation. */
function withoutCopy(database: KvidxDatabase & KubeObject): KvidxDatabase & KubeObject {
  const { [LAST_APPLIED]: copy, ...annotations } = database.metadata.annotations ?? {}
  return copy === undefined ? database : { ...database, metadata: { ...database.metadata, annotations } }
}

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'

/** Only conditions and taints of a node are read; the list of its images is most of its size. */
function withoutImages(node: Node): Node {
  return {
    apiVersion: node.apiVersion,
    kind: node.kind,
    metadata: node.metadata,
    ...(node.spec && { spec: { ...(node.spec.taints && { taints: node.spec.taints }) } }),
    status: { conditions: node.status?.conditions ?? [] },
  }
}

export function databaseController(
  cache: DatabaseCache,
  reconciler: DatabaseReconciler,
  options: { readonly metrics: KubeMetrics; readonly log: RuntimeLog; readonly workers: number },
): Controller {
  const byOwner = controlledBy(DATABASES)
  const byLabel = namedByLabel(DATABASE_LABEL)
  /** Databases with a pod on the node. */
  const onNode: KeyMapping<Node> = node =>
    [...cache.pods.store.all()].filter(pod => pod.spec.nodeName === node.metadata.name).flatMap(pod => byLabel(pod))
  const ofBackup: KeyMapping<BackupRecord> = ({ metadata, spec }) => [
    keyOf({ namespace: metadata.namespace, name: spec.database }),
  ]
  return new Controller({
    name: 'database',
    workers: options.workers,
    metrics: options.metrics,
    log: options.log,
    watches: [
      watch(cache.databases, itself, specOrMetadataChanged),
      watch(cache.statefulSets, byOwner, contentChanged),
      watch(cache.pods, byLabel, contentChanged),
      watch(cache.claims, byLabel, contentChanged),
      watch(cache.secrets, byOwner, contentChanged),
      watch(cache.nodes, onNode, readinessChanged),
      ...(cache.jobs ? [watch(cache.jobs, byOwner, contentChanged)] : []),
      ...(cache.backups ? [watch(cache.backups, ofBackup, contentChanged)] : []),
      ...[...cache.others.values()].map(informer => watch(informer, byOwner, contentChanged)),
    ],
    reconcile: (key, signal) => reconciler.reconcile(key, signal),
  })
}

/** A node reports every few seconds; only whether it is Ready matters. */
function readinessChanged(change: Change<Node>): boolean {
  if (change.type !== 'updated') return true
  const readiness = (node: Node) => node.status?.conditions?.find(condition => condition.type === 'Ready')?.status
  return readiness(change.object) !== readiness(change.previous)
}
