import { randomBytes } from 'node:crypto'
import type { Finding } from '../../api/v1alpha1/conditions.ts'
import type { KubeApi } from '../../kube/api.ts'
import {
  isAlreadyExists,
  isConflict,
  isNamespaceTerminating,
  isNotFound,
  KubeApiError,
  undefinedIfMissing,
} from '../../kube/api-error.ts'
import { controllerOf, type KubeObject, type Resource } from '../../kube/object.ts'
import {
  CONFIG_MAPS,
  CRON_JOBS,
  NETWORK_POLICIES,
  POD_DISRUPTION_BUDGETS,
  ROLES,
  SECRETS,
  SERVICE_ACCOUNTS,
  SERVICES,
  STATEFUL_SETS,
} from '../../kube/resources.ts'
import { labelsMissing } from './labels-missing.ts'
import { APPLIED_ANNOTATION, CREATED_MARK } from './names.ts'
import { TOKENS } from './objects/auth-secret.ts'
import type { Action } from './observed.ts'

/** What carrying out a plan came to. */
export interface Outcome {
  readonly done: readonly Action[]
  readonly findings: readonly Finding[]
  /** The first thing that went wrong; the reconcile ends with it, after the status was written. */
  readonly error: unknown
}

/**
 * Carries out the actions of a plan: what a pod needs all at once, the rest in order. An object of the same name that is not ours is never touched: it
 * becomes a finding. What fails does not keep the rest from being done: a claim that cannot grow must not leave a Service unmended.
 */
export async function carryOut(
  api: KubeApi,
  actions: readonly Action[],
  owner: string,
  signal: AbortSignal,
): Promise<Outcome> {
  const done: Action[] = []
  const findings: Finding[] = []
  let error: unknown
  for (const wave of wavesOf(actions)) {
    signal.throwIfAborted()
    // all of them have ended before anything is thrown: nothing is written behind the back of the next reconcile
    const results = await Promise.allSettled(wave.map(action => carryOutOne(api, action, owner, signal)))
    for (const [index, result] of results.entries()) {
      const action = wave[index] as Action
      if (result.status === 'fulfilled') {
        if (result.value) findings.push(result.value)
        else done.push(action)
        continue
      }
      const failure: unknown = result.reason
      if (isNamespaceTerminating(failure)) throw failure
      const refusal = refusedSpec(action, failure)
      if (refusal) {
        findings.push(refusal)
        continue
      }
      error ??= failure
      // somebody wrote at the same moment: the next try is at once
      if (isConflict(failure)) continue
      const what = `${action.kind} of ${action.resource.kind} ${'object' in action ? action.object.metadata.name : action.name}`
      findings.push({
        type: 'Reconciling',
        status: 'True',
        reason: 'ReconcileFailed',
        values: { phase: what, error: (failure as Error).message },
      })
    }
  }
  return { done, findings, error }
}

/** Neighbours that do not depend on each other, together: one round trip, and one write of etcd's log, for all that a new database needs. */
function wavesOf(actions: readonly Action[]): readonly (readonly Action[])[] {
  const waves: Action[][] = []
  let together = false
  for (const action of actions) {
    const alone = !MADE_TOGETHER.includes(action.resource) || (action.kind !== 'apply' && action.kind !== 'create')
    const wave = waves.at(-1)
    if (together && !alone && wave && wave.length < MOST_AT_ONE_TIME) wave.push(action)
    else waves.push([action])
    together = !alone
  }
  return waves
}

/** Of one database; with all workers at it, the renewal of the lease must still come through. */
const MOST_AT_ONE_TIME = 4

/** Not RoleBindings, whose Roles the API server looks up; not the StatefulSet, whose pods need all of these. */
const MADE_TOGETHER: readonly Resource[] = [
  SECRETS,
  SERVICE_ACCOUNTS,
  ROLES,
  CONFIG_MAPS,
  SERVICES,
  NETWORK_POLICIES,
  POD_DISRUPTION_BUDGETS,
  CRON_JOBS,
]

async function carryOutOne(
  api: KubeApi,
  action: Action,
  owner: string,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  switch (action.kind) {
    case 'apply':
      return apply(api, action, owner, signal)
    case 'create':
      try {
        await api.create(action.resource, withTokens(action), { signal })
        return undefined
      } catch (error) {
        if (!isAlreadyExists(error)) throw error
        const { namespace, name } = action.object.metadata
        const there = await api.get<KubeObject>(action.resource, { namespace, name }, { signal })
        // the volume of backups belongs to nobody: one that is there is used as it is
        if (controllerOf(action.object) === undefined) return undefined
        // what was made once is not ours to change (we have no right to change a Secret): a person is told
        return controllerOf(there)?.uid === owner
          ? labelsMissing(action.resource, there, action.object.metadata.labels)
          : conflict(action.resource.kind, name)
      }
    case 'patch':
      await api.patch(action.resource, { namespace: action.namespace, name: action.name }, action.body, { signal })
      return undefined
    case 'delete':
      try {
        await api.delete(
          action.resource,
          { namespace: action.namespace, name: action.name },
          { uid: action.uid, propagation: action.propagation ?? 'Background', signal },
        )
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
      return undefined
  }
}

/** Our watches see only what carries our labels, so what they do not see may be somebody else's: create, and never apply, the first time. */
async function apply(
  api: KubeApi,
  action: Action & { kind: 'apply' },
  owner: string,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  const { resource, object } = action
  const { namespace, name } = object.metadata
  let { live } = action
  if (!live) {
    try {
      // a misspelt field of the spec must not be dropped here and refused later
      await api.create(resource, object, { signal, ...(FROM_SPEC.has(resource) && { fieldValidation: 'Strict' }) })
      return undefined
    } catch (error) {
      if (!isAlreadyExists(error)) throw error
    }
    live = await undefinedIfMissing(api.get<KubeObject>(resource, { namespace, name }, { signal }))
    if (!live) throw new KubeApiError({ status: 409, reason: 'Conflict', message: `${resource.kind} ${name} is going` })
    if (controllerOf(live)?.uid !== owner) return conflict(resource.kind, name)
    // ours, without the labels by which we watch
  }
  if (live.metadata.annotations?.[APPLIED_ANNOTATION]?.endsWith(CREATED_MARK))
    await api.ownCreated(resource, { namespace, name }, { signal })
  const hash = object.metadata.annotations?.[APPLIED_ANNOTATION] ?? ''
  const annotations = { ...object.metadata.annotations, [APPLIED_ANNOTATION]: hash.replace(CREATED_MARK, '') }
  await api.apply(resource, { ...object, metadata: { ...object.metadata, annotations } } as KubeObject, { signal })
  return undefined
}

/** The plan is pure; the random part of the Secret is made here. 32 bytes a token. */
function withTokens(action: Action & { kind: 'create' }): KubeObject {
  if (action.resource !== SECRETS) return action.object
  const stringData = Object.fromEntries(TOKENS.map(right => [right, randomBytes(32).toString('base64url')]))
  return { ...action.object, stringData } as KubeObject
}

/** What the spec hands on to the API server unread, and the field of the spec that it stands in. */
const FROM_SPEC: ReadonlyMap<Resource, string> = new Map([
  [STATEFUL_SETS, 'spec.podTemplate'],
  [NETWORK_POLICIES, 'spec.security.networkPolicy.from'],
  [CRON_JOBS, 'spec.backup'],
])
/** So an apply is answered, with status 500, that names a field which the kind does not have. */
const UNKNOWN_FIELD = /failed to create typed patch object \(.*?\): /s

/** The API server does not take an object: a mistake of the spec that only it can see, and no retry mends. */
function refusedSpec(action: Action, failure: unknown): Finding | undefined {
  const handedOn = FROM_SPEC.get(action.resource)
  if (!(failure instanceof KubeApiError) || action.kind !== 'apply' || handedOn === undefined) return undefined
  const unknown = UNKNOWN_FIELD.exec(failure.message)
  if (failure.status !== 422 && failure.status !== 400 && !unknown) return undefined
  const [cause, ...causes] = failure.details.causes ?? []
  const problem = unknown
    ? failure.message.slice(unknown.index + unknown[0].length)
    : cause
      ? [cause, ...causes].map(({ field, message }) => `${field}: ${message}`).join('; ')
      : failure.message
  const invalid = (field: string): Finding => ({
    type: 'Stalled',
    status: 'True',
    reason: 'InvalidSpec',
    values: { field, problem },
  })
  if (action.resource !== STATEFUL_SETS)
    return invalid(cause?.field === 'spec.timeZone' ? 'spec.backup.timeZone' : handedOn)
  // containers[0] is the database's own
  return /containers\[0\]\.resources/.test(cause?.field ?? '')
    ? invalid('spec.resources')
    : { type: 'Stalled', status: 'True', reason: 'PodTemplateRefused', values: { problem } }
}

function conflict(kind: string, name: string): Finding {
  return { type: 'Stalled', status: 'True', reason: 'NameConflict', values: { kind, name } }
}
