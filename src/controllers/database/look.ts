import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { KubeApi } from '../../kube/api.ts'
import { undefinedIfMissing } from '../../kube/api-error.ts'
import type { KubeObject, Resource } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS, PODS, SECRETS, STORAGE_CLASSES } from '../../kube/resources.ts'
import { DATABASE_LABEL, isDataClaim, namesOf } from './names.ts'
import { COMPONENTS } from './objects/desired.ts'
import type { StatefulSet } from './objects/stateful-set.ts'
import type { Claim, Observed, Pod } from './observed.ts'

/** What a reconcile would see of one database, asked from the API server at once: for people's commands. Rejects with KubeApiError. */
export async function look(api: KubeApi, database: KvidxDatabase): Promise<Observed> {
  const { name, namespace = 'default' } = database.metadata
  const names = namesOf(name)
  const labelled = async <T extends KubeObject>(resource: Resource): Promise<readonly T[]> =>
    (await api.list<T>(resource, { namespace, labelSelector: `${DATABASE_LABEL}=${name}` })).items
  const [pods, claims, authSecret, ...lists] = await Promise.all([
    labelled<Pod>(PODS),
    labelled<Claim>(PERSISTENT_VOLUME_CLAIMS),
    undefinedIfMissing(api.get<KubeObject>(SECRETS, { namespace, name: names.authSecret })),
    ...COMPONENTS.map(component => labelled<KubeObject>(component.resource)),
  ])
  const owned = new Map(COMPONENTS.map((component, index) => [component.resource.plural, lists[index] ?? []]))
  const dataClaims = claims.filter(claim => isDataClaim(claim.metadata.name, name))
  const className = dataClaims[0]?.spec.storageClassName
  const storageClass =
    className === undefined
      ? undefined
      : await undefinedIfMissing(
          api.get<KubeObject & { readonly allowVolumeExpansion?: boolean }>(STORAGE_CLASSES, { name: className }),
        )
  return {
    database,
    statefulSet: owned.get('statefulsets')?.find(set => set.metadata.name === names.statefulSet) as
      | StatefulSet
      | undefined,
    owned,
    authSecret,
    pods: pods.filter(pod => pod.metadata.labels?.['app.kubernetes.io/component'] === 'database'),
    claims: dataClaims,
    backupClaim: claims.find(claim => claim.metadata.name === names.backupClaim),
    nodes: new Map(),
    probe: undefined,
    expandable: storageClass && storageClass.allowVolumeExpansion === true,
    namespaceTerminating: false,
    finalSnapshot: undefined,
  }
}

/** What there would be if the operator had just made a database: for plans without a cluster. `undefined`: nothing at all. */
export function nothingThere(database: KvidxDatabase): Observed {
  return {
    database,
    statefulSet: undefined,
    owned: new Map(),
    authSecret: undefined,
    pods: [],
    claims: [],
    nodes: new Map(),
    probe: undefined,
    expandable: undefined,
    namespaceTerminating: false,
    finalSnapshot: undefined,
  }
}
