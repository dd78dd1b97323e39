import { type Finding, findCondition } from '../../api/v1alpha1/conditions.ts'
import { REASONS, type Reason } from '../../api/v1alpha1/reasons.ts'
import { growthOf } from './auto-grow.ts'
import { strayClaim } from './labels-missing.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { StatefulSet } from './objects/stateful-set.ts'
import type { Observed, Pod, ProbeStatus } from './observed.ts'
import { isReady, onLostNode } from './plan.ts'

type Values = Readonly<Record<string, string | number>>
type Cause = { readonly reason: Reason; readonly values: Values; readonly stalled?: true }

/** Ready, Reconciling and Stalled of a database that should run. Pure. */
export function readiness(
  blueprint: Blueprint,
  observed: Observed,
  planned: readonly Finding[],
  changing: boolean,
): readonly Finding[] {
  const pod = observed.pods.find(candidate => candidate.metadata.name === blueprint.names.pod(0))
  const stall = planned.find(finding => finding.type === 'Stalled')
  if (blueprint.replicas === 0) return settled([...planned.filter(isStalled), ...hibernation(observed)])
  const trouble = whyNotReady(blueprint, observed, pod)
  const cause = trouble && causeNow(trouble, blueprint, stall)
  const findings: Finding[] = [...planned]
  if (!cause) {
    const position = observed.database.status?.data?.position ?? observed.probe?.status?.data?.position ?? '0.0'
    findings.push({
      type: 'Ready',
      status: 'True',
      reason: blueprint.spec.suspend ? 'Suspended' : 'Ready',
      values: { position },
    })
    if (isRollingOut(observed.statefulSet, pod) && !blueprint.spec.suspend)
      findings.push({
        type: 'Reconciling',
        status: 'True',
        reason: 'Updating',
        values: { detail: 'the pod is replaced' },
      })
  } else {
    findings.push({ type: 'Ready', status: 'False', reason: cause.reason, values: cause.values })
    if (cause.reason !== 'Suspended')
      findings.push({
        type: cause.stalled ? 'Stalled' : 'Reconciling',
        status: 'True',
        reason: cause.reason,
        values: cause.values,
      })
  }
  // behind what keeps it from serving, which may be that very claim
  const { bootstrap, suspend } = blueprint.spec
  const stray = suspend || bootstrap?.adopt !== undefined ? undefined : strayClaim(blueprint, observed)
  if (stray) findings.push(stray)
  if (changing && !findings.some(finding => finding.type === 'Reconciling' || finding.type === 'Stalled'))
    findings.push({
      type: 'Reconciling',
      status: 'True',
      reason: 'Updating',
      values: { detail: 'objects are being changed' },
    })
  return settled(findings)
}

/** What goes on by itself is not the cause where something needs a person, or where nobody is at work. */
function causeNow(cause: Cause, blueprint: Blueprint, stall: Finding | undefined): Cause {
  if (REASONS[cause.reason].severity !== 'Normal') return cause
  if (blueprint.spec.suspend) return { reason: 'Suspended', values: {} }
  return stall ? { reason: stall.reason, values: stall.values ?? {}, stalled: true } : cause
}

function isStalled(finding: Finding): boolean {
  return finding.type === 'Stalled'
}

/** One of each type; and nothing reconciles where something is stalled, or kstatus would never say so. */
function settled(findings: readonly Finding[]): readonly Finding[] {
  const first = firstOfEach(findings)
  return first.some(isStalled) ? first.filter(finding => finding.type !== 'Reconciling') : first
}

/** The earlier finding of a type wins: plans speak of causes, readiness of effects. */
function firstOfEach(findings: readonly Finding[]): readonly Finding[] {
  return findings.filter((finding, index) => findings.findIndex(other => other.type === finding.type) === index)
}

function hibernation(observed: Observed): readonly Finding[] {
  if (observed.pods.length > 0)
    return [
      { type: 'Ready', status: 'False', reason: 'Hibernating', values: { detail: 'stopping the pods' } },
      { type: 'Reconciling', status: 'True', reason: 'Hibernating', values: { detail: 'stopping the pods' } },
    ]
  return [{ type: 'Ready', status: 'False', reason: 'Hibernated' }]
}

/** The pod is not yet as the StatefulSet says. */
export function isRollingOut(statefulSet: StatefulSet | undefined, pod: Pod | undefined): boolean {
  if (!statefulSet) return true
  const seen = (statefulSet.status?.observedGeneration ?? 0) >= (statefulSet.metadata.generation ?? 0)
  const revision = statefulSet.status?.updateRevision
  return !seen || (revision !== undefined && pod?.metadata.labels?.['controller-revision-hash'] !== revision)
}

function whyNotReady(blueprint: Blueprint, observed: Observed, pod: Pod | undefined): Cause | undefined {
  if (!observed.statefulSet) return { reason: 'Creating', values: { detail: 'StatefulSet' } }
  if (!pod) {
    // a quota or a policy in the way is told to the StatefulSet alone, as an event
    const why = `if it does not come, kubectl describe statefulset ${blueprint.names.statefulSet} says why`
    return { reason: 'Creating', values: { detail: `pod ${blueprint.names.pod(0)}; ${why}` } }
  }
  const name = pod.metadata.name
  if (onLostNode(pod, observed)) {
    const node = pod.spec.nodeName ?? ''
    const since =
      observed.nodes.get(node)?.status?.conditions?.find(condition => condition.type === 'Ready')?.lastTransitionTime ??
      ''
    return { reason: 'NodeLost', values: { node, pod: name, since }, stalled: true }
  }
  const status = observed.probe?.pod === pod.metadata.uid ? observed.probe?.status : undefined
  if (isReady(pod)) return undefined
  if (pod.metadata.deletionTimestamp)
    return { reason: 'Starting', values: { pod: name, detail: 'the old one is stopping' } }
  const claim = observed.claims.find(candidate => candidate.metadata.name === blueprint.names.dataClaim(0))
  if (claim?.status?.phase === 'Lost')
    return { reason: 'VolumeMissing', values: { claim: claim.metadata.name, phase: 'Lost' }, stalled: true }
  return (
    containerTrouble(pod) ??
    (status && engineTrouble(status, blueprint)) ??
    (status && engineAtWork(status, blueprint)) ??
    schedulingTrouble(pod) ?? {
      reason: 'Starting',
      values: { pod: name, detail: status?.lifecycle ?? pod.status?.phase ?? 'Pending' },
    }
  )
}

const PULL_FAILURES = ['ErrImagePull', 'ImagePullBackOff', 'InvalidImageName', 'ErrImageNeverPull']

function containerTrouble(pod: Pod): Cause | undefined {
  for (const container of [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])]) {
    const waiting = container.state?.waiting
    const image = pod.spec.containers.find(candidate => candidate.name === container.name)?.image ?? ''
    if (waiting?.reason && PULL_FAILURES.includes(waiting.reason))
      return { reason: 'ImagePullFailed', values: { image, detail: waiting.message ?? waiting.reason } }
    if (
      waiting?.reason === 'CrashLoopBackOff' ||
      waiting?.reason === 'CreateContainerConfigError' ||
      waiting?.reason === 'RunContainerError'
    ) {
      const last = container.lastState?.terminated
      const detail = last
        ? `${waiting.reason}: last ended with ${last.reason ?? 'code'} (${last.exitCode ?? '?'})`
        : (waiting.message ?? waiting.reason)
      return { reason: 'PodFailing', values: { container: container.name, pod: pod.metadata.name, detail } }
    }
  }
  return undefined
}

function schedulingTrouble(pod: Pod): Cause | undefined {
  const scheduled = pod.status?.conditions?.find(condition => condition.type === 'PodScheduled')
  if (scheduled?.status !== 'False') return undefined
  return {
    reason: 'PodPending',
    values: { pod: pod.metadata.name, detail: scheduled.message ?? scheduled.reason ?? '' },
  }
}

/** Why the engine does not open its volume, in the words of the operations port. */
function engineTrouble(status: ProbeStatus, blueprint: Blueprint): Cause | undefined {
  const { failure } = status
  if (!failure) return undefined
  const text = (name: string) => String(failure.details[name] ?? '')
  const { name } = blueprint
  switch (failure.code) {
    case 'data_lost':
      return { reason: 'DataLost', values: { lineage: text('lineage'), name }, stalled: true }
    case 'foreign_volume':
      return { reason: 'ForeignVolume', values: { owner: text('owner'), lineage: text('lineage') }, stalled: true }
    case 'volume_not_empty':
      return { reason: 'VolumeNotEmpty', values: { lineage: text('lineage') }, stalled: true }
    case 'locked':
      return { reason: 'Locked', values: { holder: `pod ${text('pod')} on node ${text('node')}` } }
    case 'engine_corrupt':
      return { reason: 'Corrupt', values: { damage: failure.message, name }, stalled: true }
    default: {
      const source = sourceOf(blueprint)
      return source !== undefined && !status.lineage
        ? { reason: 'BootstrapFailed', values: { source, error: failure.message } }
        : { reason: 'NotReady', values: { detail: failure.message } }
    }
  }
}

/** What takes long before the database serves. */
function engineAtWork({ lifecycle }: ProbeStatus, blueprint: Blueprint): Cause | undefined {
  switch (lifecycle) {
    case 'bootstrapping':
      return { reason: 'Bootstrapping', values: { source: sourceOf(blueprint) ?? 'a backup' } }
    case 'repairing':
      return { reason: 'Recovering', values: { policy: blueprint.spec.recovery.onCorruption } }
    case 'swapping':
      return { reason: 'Restoring', values: {} }
    default:
      return undefined
  }
}

/** Where the first data of a database that has none comes from. */
function sourceOf({ spec, lineage }: Blueprint): string | undefined {
  const { restore, import: imported } = spec.bootstrap ?? {}
  if (lineage !== undefined || (!restore && !imported)) return undefined
  if (imported) return `the export ${imported.path}`
  return restore?.backup === undefined ? `a backup of ${restore?.source?.database}` : `backup ${restore.backup}`
}

/** EngineHealthy and StorageHealthy, from the last answer of the operations port. */
export function engineFindings(blueprint: Blueprint, observed: Observed): readonly Finding[] {
  const { probe } = observed
  if (blueprint.replicas === 0) return []
  const status = probe?.status
  // what a pod said that is gone is not how the engine is
  if (status && !observed.pods.some(({ metadata }) => metadata.uid === probe.pod))
    return [unavailable('the pod that answered is gone')]
  if (!status) return probe?.error === undefined ? [] : [unavailable(probe.error)]
  const trouble = engineTrouble(status, blueprint)
  const causes = status.health?.causes ?? []
  const ofVolume = ['NoSpace', 'AlmostFull', 'FullSoon']
  const ofEngine = causes.filter(cause => !ofVolume.includes(cause.reason))
  const engine: Finding = trouble
    ? { type: 'EngineHealthy', status: 'False', reason: trouble.reason, values: trouble.values }
    : ofEngine.length > 0
      ? { type: 'EngineHealthy', status: 'False', ...engineCause(ofEngine, status) }
      : { type: 'EngineHealthy', status: 'True', reason: 'Healthy' }
  // an engine that is not open yet has no health to tell of
  const known = trouble !== undefined || status.health !== undefined
  return [...(known ? [engine] : []), ...storageFindings(blueprint, observed, status)]
}

function unavailable(error: string): Finding {
  return { type: 'EngineHealthy', status: 'Unknown', reason: 'FiguresUnavailable', values: { error } }
}

/** One cause alone may have a reason of its own; several are told together. */
function engineCause(
  causes: NonNullable<ProbeStatus['health']>['causes'],
  { recovery, data }: ProbeStatus,
): Pick<Finding, 'values'> & { readonly reason: Reason } {
  const [only, ...others] = causes
  if (others.length === 0 && only?.reason === 'ForeignWrites')
    return { reason: 'ForeignWrites', values: { epoch: data?.position.split('.')[0] ?? '' } }
  if (others.length === 0 && recovery && (only?.reason === 'Salvaged' || only?.reason === 'RestoredAfterDamage')) {
    const { quarantine, reached, records, lost = 'an unknown number' } = recovery
    return { reason: only.reason, values: { kept: records, lost, quarantine, reached } }
  }
  return {
    reason: 'Degraded',
    values: { causes: causes.map(cause => `${cause.reason}: ${cause.message}`).join('; ') },
  }
}
/** Back below a threshold by so much before it counts as that: a figure that lies on it must not make a write of each look. */
const PERCENT_BACK = 2
const DAYS_BACK = 1.5

function storageFindings(blueprint: Blueprint, observed: Observed, status: ProbeStatus): readonly Finding[] {
  const { volume } = status
  const claim = blueprint.names.dataClaim(0)
  if (!volume) return []
  const used = volume.size - volume.free
  const percent = Math.round((used / Math.max(1, volume.size)) * 100)
  const values = { claim, used: `${percent} %`, size: gibibytes(volume.size) }
  if (status.health?.causes.some(cause => cause.reason === 'NoSpace'))
    return [{ type: 'StorageHealthy', status: 'False', reason: 'NoSpace', values }]
  const stuck = whyItDoesNotGrow(blueprint, observed)
  if (stuck) return [{ type: 'StorageHealthy', status: 'False', ...stuck }]
  const { usedPercent, daysUntilFull } = blueprint.spec.monitoring
  const said = findCondition(observed.database.status?.conditions, 'StorageHealthy')?.reason
  if (percent >= usedPercent - (said === 'AlmostFull' ? PERCENT_BACK : 0))
    return [
      {
        type: 'StorageHealthy',
        status: 'False',
        reason: 'AlmostFull',
        values: { ...values, used: `more than ${usedPercent} %` },
      },
    ]
  if (
    volume.daysUntilFull !== undefined &&
    volume.daysUntilFull < daysUntilFull * (said === 'FullSoon' ? DAYS_BACK : 1)
  )
    return [
      {
        type: 'StorageHealthy',
        status: 'False',
        reason: 'FullSoon',
        values: { claim, days: `less than ${daysUntilFull}` },
      },
    ]
  // a figure that moves would be a write for each move: it stands in status.storage
  return [
    {
      type: 'StorageHealthy',
      status: 'True',
      reason: 'EnoughSpace',
      values: { used: `less than ${usedPercent} %`, size: values.size },
    },
  ]
}

/** autoGrow should do something and cannot. */
function whyItDoesNotGrow(
  blueprint: Blueprint,
  observed: Observed,
): { readonly reason: Reason; readonly values: Values } | undefined {
  const growth = growthOf(blueprint, observed)
  if (growth.kind === 'limit')
    return {
      reason: 'GrowthLimit',
      values: { claim: growth.claim, why: growth.why, size: String(blueprint.spec.storage.autoGrow.maxSize) },
    }
  const claim = growth.kind === 'grow' && observed.claims.find(({ metadata }) => metadata.name === growth.claim)
  if (!claim || observed.expandable !== false) return undefined
  const { storageClassName, resources } = claim.spec
  return {
    reason: 'CannotExpand',
    values: { class: storageClassName || '(none)', claim: claim.metadata.name, size: resources.requests.storage },
  }
}

function gibibytes(amount: number): string {
  return `${(amount / 1024 ** 3).toFixed(1)} GiB`
}
