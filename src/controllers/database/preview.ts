import type { Finding } from '../../api/v1alpha1/conditions.ts'
import { withDefaults } from '../../api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { bytes } from '../../common/quantity.ts'
import { PODS } from '../../kube/resources.ts'
import { differences } from './differences.ts'
import { type Blueprint, blueprintOf } from './objects/blueprint.ts'
import { COMPONENTS } from './objects/desired.ts'
import { podTemplateProblem } from './objects/pod-template-problem.ts'
import { statefulSet as setOf } from './objects/stateful-set.ts'
import type { Action, Observed } from './observed.ts'
import { planAll } from './plan.ts'
import { templateOf } from './rollout.ts'

/** Where no image is known: what stands in its place does not look like a change. */
export const UNKNOWN_IMAGE = '<image of the operator>'

export interface ObjectChange {
  readonly change: 'create' | 'change' | 'delete' | 'recreate'
  readonly kind: string
  readonly name: string
  /** Paths of the fields that change, with their values before and after as JSON. */
  readonly fields: readonly string[]
}

/** What an edit will do. */
export interface Preview {
  readonly namespace: string
  readonly name: string
  readonly objects: readonly ObjectChange[]
  /** None: the pods go on. Start: there was no pod. Restart: the pod is replaced. Stop: it hibernates. */
  readonly pods: 'None' | 'Start' | 'Restart' | 'Stop'
  /** For people. */
  readonly unavailability: string
  readonly volumes: readonly { readonly claim: string; readonly from: string; readonly to: string }[]
  /** What would stand in the conditions: mistakes, and what cannot be done. */
  readonly findings: readonly Finding[]
  readonly suspended: boolean
}

/**
 * What the operator would do for the database as it is in `changed`, given what there is. Pure.
 * @param current the database before the edit; undefined: a new one
 * Errors: invalid_parameter for a value that cannot be rendered.
 */
export function preview(changed: KvidxDatabase, current: KvidxDatabase | undefined, observed: Observed): Preview {
  const after = blueprintFor(changed, current, observed)
  const before = current && blueprintFor(current, current, observed)
  const { actions, findings } = planAll(after, observed)
  const objects = actions.flatMap(action => objectChange(action, before, after, observed))
  const { name, namespace } = after
  // in the cluster the StatefulSet comes back in the next round
  const pods = podsOf(after, before, observed, actions)
  return {
    namespace,
    name,
    objects,
    pods,
    unavailability: UNAVAILABILITY[pods],
    volumes: volumesOf(after, observed),
    findings: findings.filter(finding => finding.type === 'Stalled'),
    suspended: after.spec.suspend,
  }
}

const UNAVAILABILITY: Readonly<Record<Preview['pods'], string>> = {
  None: 'none',
  Start: 'none: it was not running',
  Restart:
    'one restart of the only pod: a clean stop, a start and the recovery of the engine, some seconds as a rule (at most the grace period for the stop)',
  Stop: 'from the change until spec.hibernate is false again',
}

function blueprintFor(database: KvidxDatabase, current: KvidxDatabase | undefined, observed: Observed): Blueprint {
  const live = observed.statefulSet?.spec.template.spec.containers.find(container => container.name === 'kvidx')?.image
  const status = current?.status
  const image = database.spec.image ?? status?.image ?? live ?? UNKNOWN_IMAGE
  const merged = {
    ...database,
    metadata: { ...database.metadata, ...(current?.metadata.uid !== undefined && { uid: current.metadata.uid }) },
    ...(status && { status }),
  }
  return blueprintOf(merged, withDefaults(database.spec), image, templateOf(merged, image, observed.statefulSet))
}

function objectChange(
  action: Action,
  before: Blueprint | undefined,
  after: Blueprint,
  observed: Observed,
): readonly ObjectChange[] {
  const { kind } = action.resource
  if (action.kind === 'delete') {
    if (action.propagation !== 'Orphan')
      return [{ change: 'delete', kind, name: action.name, fields: [`(${action.why})`] }]
    const fields = differences(setOf(after), observed.statefulSet, before && setOf(before))
    return [{ change: 'recreate', kind, name: action.name, fields: [`(${action.why})`, ...fields] }]
  }
  if (action.kind === 'patch') return [{ change: 'change', kind, name: action.name, fields: [action.why] }]
  const { name } = action.object.metadata
  if (action.kind === 'create' || !action.live) return [{ change: 'create', kind, name, fields: [] }]
  const old = before && COMPONENTS.find(component => component.resource === action.resource)?.desired(before)
  const previous = old?.find(object => object.metadata.name === name)
  return [{ change: 'change', kind, name, fields: differences(action.object, action.live, previous) }]
}

function podsOf(
  after: Blueprint,
  before: Blueprint | undefined,
  observed: Observed,
  actions: readonly Action[],
): Preview['pods'] {
  if (after.spec.suspend) return 'None'
  const running = observed.pods.length > 0 || (before !== undefined && before.replicas > 0 && observed.statefulSet)
  if (after.replicas === 0) return running ? 'Stop' : 'None'
  if (!running) return 'Start'
  if (actions.some(action => action.kind === 'delete' && action.resource === PODS)) return 'Restart'
  // the pods go on with the last good template
  if (podTemplateProblem(after.spec) !== undefined) return 'None'
  const live = observed.statefulSet?.spec.template
  if (!live) return 'None'
  const previous = before && setOf(before).spec.template
  return differences(setOf(after).spec.template, live, previous).length > 0 ? 'Restart' : 'None'
}

function volumesOf(after: Blueprint, observed: Observed): Preview['volumes'] {
  const to = String(after.spec.storage.size)
  return observed.claims
    .map(claim => ({ claim: claim.metadata.name, from: claim.spec.resources.requests.storage, to }))
    .filter(({ from }) => bytes(from, 'storage') < bytes(to, 'spec.storage.size'))
}
