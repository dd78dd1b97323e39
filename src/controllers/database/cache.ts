import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Informer } from '../../kube/informer.ts'
import type { Job } from '../../kube/job.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import type { BackupRecord } from '../backup/record.ts'
import { catalogJobName } from './catalog.ts'
import { DATABASE_LABEL, isDataClaim, namesOf, ownerOf } from './names.ts'
import type { StatefulSet } from './objects/stateful-set.ts'
import type { Claim, Node, Observed, Pod } from './observed.ts'

/** The informers that a reconcile reads. Everything but databases and nodes is restricted to our label. */
export interface DatabaseCache {
  readonly databases: Informer<KvidxDatabase & KubeObject>
  readonly statefulSets: Informer<StatefulSet>
  readonly pods: Informer<Pod>
  readonly claims: Informer<Claim>
  readonly nodes: Informer<Node>
  readonly secrets: Informer<KubeObject>
  /** Shared with the backup controller, which starts it. */
  readonly backups?: Informer<BackupRecord>
  readonly jobs?: Informer<Job>
  /** Owned kinds that are only compared: by plural name. */
  readonly others: ReadonlyMap<string, Informer<KubeObject>>
}

/** What the cache knows of one database. */
export function observe(
  cache: DatabaseCache,
  database: KvidxDatabase,
): Omit<Observed, 'probe' | 'expandable' | 'namespaceTerminating' | 'finalSnapshot'> {
  const { name, namespace = '' } = database.metadata
  const names = namesOf(name)
  const mine = <T extends KubeObject>(informer: Informer<T>): readonly T[] =>
    informer.store.labelled(DATABASE_LABEL, name).filter(object => object.metadata.namespace === namespace)
  const owned = new Map<string, readonly KubeObject[]>([['statefulsets', mine(cache.statefulSets)]])
  for (const [plural, informer] of cache.others) owned.set(plural, mine(informer))
  const first = database.spec.bootstrap?.restore?.backup
  const pods = mine(cache.pods).filter(pod => pod.metadata.labels?.['app.kubernetes.io/component'] === 'database')
  return {
    database,
    statefulSet: cache.statefulSets.store.get(keyOf({ namespace, name: names.statefulSet })),
    owned,
    authSecret: cache.secrets.store.get(keyOf({ namespace, name: names.authSecret })),
    pods,
    claims: mine(cache.claims)
      .filter(claim => isDataClaim(claim.metadata.name, name))
      .sort((a, b) => a.metadata.name.localeCompare(b.metadata.name, 'en', { numeric: true })),
    backupClaim: cache.claims.store.get(keyOf({ namespace, name: names.backupClaim })),
    backups: (cache.backups?.store.inNamespace(namespace) ?? []).filter(record => record.spec.database === name),
    bootstrapBackup: first === undefined ? undefined : cache.backups?.store.get(keyOf({ namespace, name: first })),
    catalogJob: cache.jobs?.store.get(keyOf({ namespace, name: catalogJobName({ name, owner: ownerOf(database) }) })),
    nodes: nodesOf(cache, pods),
  }
}

function nodesOf(cache: DatabaseCache, pods: readonly Pod[]): ReadonlyMap<string, Node> {
  const nodes = new Map<string, Node>()
  for (const { spec } of pods) {
    const node = spec.nodeName === undefined ? undefined : cache.nodes.store.get(spec.nodeName)
    if (node) nodes.set(node.metadata.name, node)
  }
  return nodes
}
