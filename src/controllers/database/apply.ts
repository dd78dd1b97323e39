import { randomBytes } from 'node:crypto'
import type { Finding } from '../../api/v1alpha1/conditions.ts'
import type { KubeApi } from '../../kube/api.ts'
import { isAlreadyExists, isNamespaceTerminating, isNotFound, undefinedIfMissing } from '../../kube/api-error.ts'
import { controllerOf, type KubeObject } from '../../kube/object.ts'
import { SECRETS } from '../../kube/resources.ts'
import { TOKENS } from './objects/auth-secret.ts'
import type { Action } from './observed.ts'

/** What carrying out a plan came to. */
export interface Outcome {
  readonly findings: readonly Finding[]
  /** The first thing that went wrong; the reconcile ends with it, after the status was written. */
  readonly error: unknown
}

/**
 * Carries out the actions of a plan, in order. An object of the same name that is not ours is never touched: it becomes a finding. What fails
 * does not keep the rest from being done: a claim that cannot grow must not leave a Service unmended.
 */
export async function carryOut(
  api: KubeApi,
  actions: readonly Action[],
  owner: string,
  signal: AbortSignal,
): Promise<Outcome> {
  const findings: Finding[] = []
  let error: unknown
  for (const action of actions) {
    signal.throwIfAborted()
    try {
      const finding = await carryOutOne(api, action, owner, signal)
      if (finding) findings.push(finding)
    } catch (failure) {
      if (isNamespaceTerminating(failure)) throw failure
      error ??= failure
      const what = `${action.kind} of ${action.resource.kind} ${'object' in action ? action.object.metadata.name : action.name}`
      findings.push({
        type: 'Reconciling',
        status: 'True',
        reason: 'ReconcileFailed',
        values: { phase: what, error: (failure as Error).message },
      })
    }
  }
  return { findings, error }
}

async function carryOutOne(
  api: KubeApi,
  action: Action,
  owner: string,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  switch (action.kind) {
    case 'apply': {
      const { namespace, name } = action.object.metadata
      if (!action.exists) {
        // our watches see only what carries our labels: before the first apply, look whether somebody else has the name
        const there = await undefinedIfMissing(api.get<KubeObject>(action.resource, { namespace, name }, { signal }))
        if (there && controllerOf(there)?.uid !== owner) return conflict(action.resource.kind, name)
      }
      await api.apply(action.resource, action.object, { signal })
      return undefined
    }
    case 'create':
      try {
        await api.create(action.resource, withTokens(action), { signal })
        return undefined
      } catch (error) {
        if (!isAlreadyExists(error)) throw error
        const { namespace, name } = action.object.metadata
        const there = await api.get<KubeObject>(action.resource, { namespace, name }, { signal })
        return controllerOf(there)?.uid === owner || controllerOf(action.object) === undefined
          ? undefined
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
          { uid: action.uid, propagation: action.orphan ? 'Orphan' : 'Background', signal },
        )
      } catch (error) {
        if (!isNotFound(error)) throw error
      }
      return undefined
  }
}

/** The plan is pure; the random part of the Secret is made here. 32 bytes a token. */
function withTokens(action: Action & { kind: 'create' }): KubeObject {
  if (action.resource !== SECRETS) return action.object
  const stringData = Object.fromEntries(TOKENS.map(right => [right, randomBytes(32).toString('base64url')]))
  return { ...action.object, stringData } as KubeObject
}

function conflict(kind: string, name: string): Finding {
  return { type: 'Stalled', status: 'True', reason: 'NameConflict', values: { kind, name } }
}
