import { type Finding, mergeConditions } from '../../api/v1alpha1/conditions.ts'
import {
  KVIDX_RESTORE,
  type KvidxRestore,
  type KvidxRestoreStatus,
  type RestorePhase,
} from '../../api/v1alpha1/kvidx-restore.ts'
import type { KubeObject, Resource } from '../../kube/object.ts'

export const RESTORES: Resource = {
  group: KVIDX_RESTORE.group,
  version: KVIDX_RESTORE.version,
  plural: KVIDX_RESTORE.plural,
  kind: KVIDX_RESTORE.kind,
  namespaced: true,
}

/** A KvidxRestore as the API server gives it. */
export type RestoreRecord = KvidxRestore & KubeObject

export interface RestoreChange extends Omit<KvidxRestoreStatus, 'conditions' | 'observedGeneration' | 'phase'> {
  readonly phase: RestorePhase
  /** For the condition; the default says what the phase is. */
  readonly detail?: string
  /** With code superseded: the epoch that the database is in. */
  readonly inEpoch?: string
}

/** Never run again: applying the object anew changes nothing. */
export function isRestoreTerminal(status: KvidxRestoreStatus | undefined): boolean {
  return status?.phase === 'Completed' || status?.phase === 'Failed'
}

/** The whole status after a change. Members that the change does not name stay. Pure. @param now Unix ms */
export function changedRestore(record: KvidxRestore, change: RestoreChange, now: number): KvidxRestoreStatus {
  const { detail, inEpoch, ...members } = change
  const { error: _error, code: _code, ...before } = record.status ?? {}
  const generation = record.metadata.generation ?? 0
  const findings = findingsOf(record, change, detail, inEpoch)
  const conditions = [...mergeConditions(record.status?.conditions ?? [], findings, now, generation)]
  return { ...before, ...members, observedGeneration: generation, conditions }
}

/** The body of a merge patch of the status: members that are gone are null. */
export function restorePatch(record: KvidxRestore, status: KvidxRestoreStatus): { readonly status: object } {
  const gone = Object.keys(record.status ?? {}).filter(name => !(name in status))
  return { status: { ...status, ...Object.fromEntries(gone.map(name => [name, null])) } }
}

const SAID: Readonly<Record<RestorePhase, string>> = {
  Pending: 'its job has not begun',
  Staging: 'the restored data is being built beside the database, which goes on serving',
  Verifying: 'count and digest are being compared',
  Swapping: 'writes wait, and the restored data takes the place of the old',
  Completed: 'restored',
  Failed: 'unknown',
}

function findingsOf(
  { spec }: KvidxRestore,
  change: RestoreChange,
  detail: string | undefined,
  inEpoch: string | undefined,
): readonly Finding[] {
  const { phase } = change
  if (phase === 'Completed') {
    const said = spec.dryRun === true ? 'nothing was changed; the counts say what would be' : SAID.Completed
    return [{ type: 'Ready', status: 'True', reason: 'Completed', values: { detail: detail ?? said } }]
  }
  if (phase === 'Failed') {
    const error = change.error ?? detail ?? SAID.Failed
    const cause =
      change.code === 'superseded'
        ? ({ reason: 'Superseded', values: { epoch: inEpoch ?? '?', atEpoch: spec.atEpoch } } as const)
        : change.code === 'insufficient_space'
          ? ({ reason: 'InsufficientSpace', values: { error } } as const)
          : ({ reason: 'Failed', values: { error } } as const)
    return [
      { type: 'Ready', status: 'False', ...cause },
      { type: 'Stalled', status: 'True', ...cause },
    ]
  }
  const reason = phase === 'Pending' ? 'Pending' : 'Running'
  const values = { detail: detail ?? SAID[phase] }
  return [
    { type: 'Ready', status: 'False', reason, values },
    { type: 'Reconciling', status: 'True', reason, values },
  ]
}
