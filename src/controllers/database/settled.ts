import { withDefaults } from '../../api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { KubeObject } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS, SECRETS } from '../../kube/resources.ts'
import { nothingThere } from './look.ts'
import { namesOf } from './names.ts'
import { blueprintOf } from './objects/blueprint.ts'
import { COMPONENTS } from './objects/desired.ts'
import { NEWEST_TEMPLATE, type StatefulSet } from './objects/stateful-set.ts'
import type { Claim, Observed, Pod } from './observed.ts'
import { planAll } from './plan.ts'
import { UNKNOWN_IMAGE } from './preview.ts'

/** What there is once the operator has carried out everything for a database and its pod serves: for plans without a cluster. Pure. */
export function settled(database: KvidxDatabase): Observed {
  const { spec } = database
  const { name, namespace } = database.metadata
  const names = namesOf(name)
  const blueprint = blueprintOf(database, withDefaults(spec), spec.image ?? UNKNOWN_IMAGE, NEWEST_TEMPLATE)
  const { actions } = planAll(blueprint, nothingThere(database))
  const owned = new Map<string, KubeObject[]>(COMPONENTS.map(({ resource }) => [resource.plural, []]))
  for (const action of actions) if (action.kind === 'apply') owned.get(action.resource.plural)?.push(action.object)
  const made = (plural: string) =>
    actions.find(action => action.kind === 'create' && action.resource.plural === plural) as
      | { readonly object: KubeObject }
      | undefined
  const size = String(spec.storage.size)
  const claim: Claim = {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: names.dataClaim(0), namespace: namespace ?? 'default' },
    spec: { resources: { requests: { storage: size } } },
    status: { phase: 'Bound', capacity: { storage: size } },
  }
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: names.pod(0), namespace: namespace ?? 'default' },
    spec: { containers: [] },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  }
  const backupClaim = made(PERSISTENT_VOLUME_CLAIMS.plural)?.object as Claim | undefined
  return {
    ...nothingThere(database),
    owned,
    statefulSet: owned.get('statefulsets')?.[0] as StatefulSet | undefined,
    authSecret: made(SECRETS.plural)?.object,
    pods: blueprint.replicas === 0 ? [] : [pod],
    claims: [claim],
    backupClaim: backupClaim && { ...backupClaim, status: { phase: 'Bound' } },
  }
}
