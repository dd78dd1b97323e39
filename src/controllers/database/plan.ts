import type { Finding } from '../../api/v1alpha1/conditions.ts'
import { bytes, formatQuantity } from '../../common/quantity.ts'
import type { KubeObject } from '../../kube/object.ts'
import { controllerOf, type OwnerReference } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS, PODS, SECRETS, STATEFUL_SETS } from '../../kube/resources.ts'
import { growthOf } from './auto-grow.ts'
import { covers, hashOf } from './covers.ts'
import { strayClaim } from './labels-missing.ts'
import { APPLIED_ANNOTATION, CREATED_MARK, GROWN_ANNOTATION, keptLabelsOf } from './names.ts'
import { authSecret } from './objects/auth-secret.ts'
import { planBackupClaim } from './objects/backup-claim.ts'
import type { Blueprint } from './objects/blueprint.ts'
import { COMPONENTS } from './objects/desired.ts'
import { podTemplateProblem } from './objects/pod-template-problem.ts'
import type { StatefulSet } from './objects/stateful-set.ts'
import type { Action, Claim, Observed, Pod } from './observed.ts'

/** What is to be done, and what was found out on the way. */
export interface Plan {
  readonly actions: readonly Action[]
  readonly findings: readonly Finding[]
}

/** The steps of a reconcile, each pure: one screen that says all that the operator does for a database. */
export interface Phase {
  readonly name: string
  plan(blueprint: Blueprint, observed: Observed): Plan
}

export const PHASES: readonly Phase[] = [
  { name: 'secret', plan: planSecret },
  { name: 'volumes', plan: planVolumes },
  {
    name: 'backup volume',
    plan: (blueprint, observed) => ({ actions: planBackupClaim(blueprint, observed.backupClaim), findings: [] }),
  },
  { name: 'objects', plan: planObjects },
  { name: 'pods', plan: planPods },
]

/**
 * Runs all phases. Later ones do not depend on what earlier ones do, only on what was seen. @param hold no pods yet: what their volume is made
 * from is not there
 */
export function planAll(blueprint: Blueprint, observed: Observed, hold = false): Plan {
  const plans = PHASES.map(phase => phase.plan(blueprint, observed))
  const actions = plans.flatMap(plan => plan.actions)
  return {
    actions: hold ? actions.filter(({ resource }) => resource !== STATEFUL_SETS) : actions,
    findings: plans.flatMap(plan => plan.findings),
  }
}

/** Tokens are random: made once, then people's to change. A Secret of the spec's own choice is not ours at all. */
function planSecret(blueprint: Blueprint, observed: Observed): Plan {
  if (blueprint.spec.security.auth.secretRef || observed.authSecret) return { actions: [], findings: [] }
  return {
    actions: [
      { kind: 'create', resource: SECRETS, object: authSecret(blueprint, () => ''), why: 'tokens of the data API' },
    ],
    findings: [],
  }
}

function planObjects(blueprint: Blueprint, observed: Observed): Plan {
  const actions: Action[] = []
  const findings: Finding[] = []
  const problem = podTemplateProblem(blueprint.spec)
  if (problem !== undefined)
    findings.push({ type: 'Stalled', status: 'True', reason: 'PodTemplateRefused', values: { problem } })
  for (const component of COMPONENTS) {
    const desired = component.desired(blueprint)
    const live = observed.owned.get(component.resource.plural) ?? []
    for (const wanted of desired) {
      const object = component.resource === STATEFUL_SETS ? statefulSetNow(wanted, blueprint, observed) : wanted
      // the pods go on with the last good template
      if (!object || (component.resource === STATEFUL_SETS && problem !== undefined)) continue
      const there = live.find(candidate => candidate.metadata.name === object.metadata.name)
      const owner = there && controllerOf(there)
      if (there && owner?.uid !== blueprint.owner.uid) {
        findings.push(ofAnother(component.resource.kind, there.metadata.name, owner, blueprint))
        continue
      }
      // what is on its way out cannot be changed any more, and is made anew when it is gone
      if (there?.metadata.deletionTimestamp !== undefined) continue
      const hash = hashOf(object)
      const applied = there?.metadata.annotations?.[APPLIED_ANNOTATION]
      const current = (applied === hash || applied === `${hash}${CREATED_MARK}`) && covers(object, there)
      if (!current)
        actions.push({
          kind: 'apply',
          resource: component.resource,
          object: withHash(object, there ? hash : `${hash}${CREATED_MARK}`),
          ...(there && { live: there }),
          why: there ? 'changed' : 'missing',
        })
    }
    for (const extra of live) {
      if (extra.metadata.deletionTimestamp !== undefined) continue
      if (desired.some(object => object.metadata.name === extra.metadata.name)) continue
      if (controllerOf(extra)?.uid !== blueprint.owner.uid) continue
      actions.push({
        kind: 'delete',
        resource: component.resource,
        namespace: blueprint.namespace,
        name: extra.metadata.name,
        uid: extra.metadata.uid ?? '',
        why: 'no longer wanted',
      })
    }
  }
  return { actions, findings }
}

/**
 * The StatefulSet as it can be applied now. A claim template cannot be changed: planVolumes removes the StatefulSet without its pods, and the
 * next round makes it anew (undefined until then). Where the class cannot expand, the template keeps its size, so that other edits get through.
 */
function statefulSetNow(wanted: KubeObject, blueprint: Blueprint, observed: Observed): KubeObject | undefined {
  if (!observed.statefulSet || !mustBeRecreated(blueprint, observed)) return wanted
  if (observed.expandable !== false) return undefined
  const { spec } = wanted as StatefulSet
  const { volumeClaimTemplates } = observed.statefulSet.spec
  return {
    ...wanted,
    spec: {
      ...spec,
      volumeClaimTemplates: spec.volumeClaimTemplates.map((template, index) => ({
        ...template,
        spec: {
          ...template.spec,
          resources: volumeClaimTemplates[index]?.spec.resources ?? template.spec.resources,
        },
      })),
    },
  } as KubeObject
}

/** An object with our labels and another owner: one of a database of the same name that was deleted just now, or somebody else's. */
function ofAnother(kind: string, name: string, owner: OwnerReference | undefined, blueprint: Blueprint): Finding {
  return owner?.kind === blueprint.owner.kind && owner.name === blueprint.name
    ? {
        type: 'Reconciling',
        status: 'True',
        reason: 'Creating',
        values: { detail: `waiting until ${kind} ${name} of the deleted database is gone` },
      }
    : { type: 'Stalled', status: 'True', reason: 'NameConflict', values: { kind, name } }
}

function withHash(object: KubeObject, hash: string): KubeObject {
  return {
    ...object,
    metadata: { ...object.metadata, annotations: { ...object.metadata.annotations, [APPLIED_ANNOTATION]: hash } },
  }
}

function templateSize(observed: Observed): string | undefined {
  return observed.statefulSet?.spec.volumeClaimTemplates[0]?.spec.resources.requests.storage
}

function mustBeRecreated(blueprint: Blueprint, observed: Observed): boolean {
  const size = templateSize(observed)
  return size !== undefined && bytes(size, 'storage') !== bytes(blueprint.spec.storage.size, 'spec.storage.size')
}

/** Growth: the claims first, then a StatefulSet whose template says the new size; its pods never stop. The spec's size, or what autoGrow made of it. */
function planVolumes(blueprint: Blueprint, observed: Observed): Plan {
  const actions: Action[] = []
  const findings: Finding[] = []
  // whoever adopts a volume says that it is this database's
  if (blueprint.spec.bootstrap?.adopt !== undefined && strayClaim(blueprint, observed))
    actions.push({
      kind: 'patch',
      resource: PERSISTENT_VOLUME_CLAIMS,
      namespace: blueprint.namespace,
      name: blueprint.names.dataClaim(0),
      body: { metadata: { labels: keptLabelsOf(blueprint.name) } },
      why: 'it is adopted, and is found by its labels',
    })
  const growth = growthOf(blueprint, observed)
  const ofSpec = bytes(blueprint.spec.storage.size, 'spec.storage.size')
  for (const claim of observed.claims) {
    const requested = claim.spec.resources.requests.storage
    const { name } = claim.metadata
    const itself = growth.kind === 'grow' && growth.claim === name ? growth : undefined
    const wanted = Math.max(ofSpec, itself?.to ?? 0)
    const target = Math.max(wanted, bytes(requested, name))
    // as people wrote it
    const to = target === ofSpec ? String(blueprint.spec.storage.size) : formatQuantity(target)
    // an unbound claim cannot be changed; it is grown when it is bound
    if (bytes(requested, name) < wanted && claim.status?.phase === 'Bound') {
      if (observed.expandable === false) {
        // where nobody asked for a size nothing is stalled: StorageHealthy says it
        if (!itself)
          findings.push({
            type: 'Stalled',
            status: 'True',
            reason: 'CannotExpand',
            values: { class: claim.spec.storageClassName || '(none)', claim: name, size: requested },
          })
        continue
      }
      const seen = observed.probe?.time
      const annotations = seen !== undefined && { [GROWN_ANNOTATION]: new Date(seen).toISOString() }
      const body = {
        ...(annotations && { metadata: { annotations } }),
        spec: { resources: { requests: { storage: to } } },
      }
      actions.push({
        kind: 'patch',
        resource: PERSISTENT_VOLUME_CLAIMS,
        namespace: blueprint.namespace,
        name,
        body,
        why: `grows from ${requested} to ${to}${itself ? ` by itself: ${itself.why}` : ''}`,
        ...(itself && {
          event: { reason: 'VolumeGrows', values: { claim: name, from: requested, to, why: itself.why } } as const,
        }),
      })
    }
    const capacity = claim.status?.capacity?.storage
    const growing = capacity !== undefined && bytes(capacity, name) < target
    if (growing && observed.expandable !== false)
      findings.push({
        type: 'Reconciling',
        status: 'True',
        reason: 'Resizing',
        values: { claim: name, from: capacity, to, detail: whatResizingWaitsFor(claim) },
      })
  }
  const { statefulSet } = observed
  if (
    statefulSet &&
    mustBeRecreated(blueprint, observed) &&
    observed.expandable !== false &&
    !statefulSet.metadata.deletionTimestamp
  )
    actions.push({
      kind: 'delete',
      resource: STATEFUL_SETS,
      namespace: blueprint.namespace,
      name: statefulSet.metadata.name,
      uid: statefulSet.metadata.uid ?? '',
      propagation: 'Orphan',
      why: 'its claim template cannot be changed; the pods go on',
    })
  return { actions, findings }
}

function whatResizingWaitsFor({ status }: Claim): string {
  const on = (type: string) =>
    status?.conditions?.find(condition => condition.type === type && condition.status === 'True')
  const error = on('ControllerResizeError') ?? on('NodeResizeError')
  if (error) return `it failed and is tried again: ${error.message ?? error.type}`
  return on('FileSystemResizePending') ? 'waiting for the pod to grow the file system' : 'waiting for the storage'
}

/** A StatefulSet never replaces a pod that is not Ready, so a mistake that was rolled out would stay after it was corrected. */
function planPods(blueprint: Blueprint, observed: Observed): Plan {
  const revision = observed.statefulSet?.status?.updateRevision
  const generation = observed.statefulSet?.metadata.generation
  const current =
    revision !== undefined &&
    generation !== undefined &&
    (observed.statefulSet?.status?.observedGeneration ?? 0) >= generation
  if (!current) return { actions: [], findings: [] }
  const actions = observed.pods
    .filter(
      pod =>
        !pod.metadata.deletionTimestamp &&
        !isReady(pod) &&
        !onLostNode(pod, observed) &&
        pod.metadata.labels?.['controller-revision-hash'] !== revision,
    )
    .map(
      pod =>
        ({
          kind: 'delete',
          resource: PODS,
          namespace: blueprint.namespace,
          name: pod.metadata.name,
          uid: pod.metadata.uid ?? '',
          why: 'outdated and not ready',
        }) as const,
    )
  return { actions, findings: [] }
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(condition => condition.type === 'Ready' && condition.status === 'True') ?? false
}

/** The node's kubelet does not report: what its containers do is not known. */
export function onLostNode(pod: Pod, observed: Observed): boolean {
  const node = pod.spec.nodeName === undefined ? undefined : observed.nodes.get(pod.spec.nodeName)
  return (
    node?.status?.conditions?.some(condition => condition.type === 'Ready' && condition.status === 'Unknown') ?? false
  )
}
