import type { Static } from '@sinclair/typebox'
import { words } from '../../common/schema.ts'
import { block, integer, list, optional, text } from '../schema-types.ts'
import { REASONS, type Reason, todoOf } from './reasons.ts'

/**
 * Conditions by kstatus' rules: Reconciling and Stalled are there only while they are True ("abnormal-true"), Ready always; the others
 * tell of one side of the database each.
 */
export const CONDITION_TYPES = [
  'Ready',
  'Reconciling',
  'Stalled',
  'EngineHealthy',
  'StorageHealthy',
  'BackupsHealthy',
  'BackupVerified',
] as const
export type ConditionType = (typeof CONDITION_TYPES)[number]

/** True is the trouble. They are left out when they are not True. */
const ABNORMAL: readonly string[] = ['Reconciling', 'Stalled']

export const conditions = list(
  block(
    { description: 'One side of the state.' },
    {
      type: text({ description: 'What it is about.', minLength: 1, maxLength: 64 }),
      status: words(['True', 'False', 'Unknown'], { description: 'True, False or Unknown.' }),
      reason: text({ description: 'Why, in one word.', minLength: 1, maxLength: 64 }),
      message: text({ description: 'What is wrong and what to do.', maxLength: 4096 }),
      lastTransitionTime: text({ description: 'Since when the status is this.', maxLength: 40, format: 'date-time' }),
      observedGeneration: optional(
        integer({ description: 'The generation that it tells of.', minimum: 0, maximum: 2 ** 53 - 1 }),
      ),
    },
  ),
  { description: 'What is right and what is wrong, since when, and what to do.', maxItems: 16, keys: ['type'] },
)
export type Condition = Static<typeof conditions>[number]

/** What a phase of reconcile found out. */
export interface Finding {
  readonly type: ConditionType
  readonly status: 'True' | 'False' | 'Unknown'
  readonly reason: Reason
  /** Values for the reason's template. */
  readonly values?: Readonly<Record<string, string | number>>
}

/** The condition of a finding. The time is `now` in RFC 3339 with whole seconds. */
export function conditionOf(finding: Finding, now: number, observedGeneration: number): Condition {
  return {
    type: finding.type,
    status: finding.status,
    reason: finding.reason,
    message: adviceOf(finding),
    lastTransitionTime: new Date(now).toISOString().replace(/\.\d+Z$/, 'Z'),
    observedGeneration,
  }
}

/** What is the matter and, where a person must act, what to do: `kubectl describe` shows conditions long after the event is gone. */
function adviceOf({ reason, values }: Finding): string {
  const todo = REASONS[reason].severity === 'Normal' ? '' : todoOf(reason, values)
  const message = messageOf(reason, values)
  const whole = todo === '' ? message : `${message}. ${todo}`
  return whole.length > MESSAGE_LIMIT ? `${whole.slice(0, MESSAGE_LIMIT - 3)}...` : whole
}

const MESSAGE_LIMIT = 4096

/** The reason's message with its values; a value that is missing stays visible as `{name}`. At most 4096 characters. */
export function messageOf(reason: Reason, values: Readonly<Record<string, string | number>> = {}): string {
  const { message } = REASONS[reason]
  const filled = message.replaceAll(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole))
  return filled.length > MESSAGE_LIMIT ? `${filled.slice(0, MESSAGE_LIMIT - 3)}...` : filled
}

/**
 * The conditions with one set. lastTransitionTime changes only with the status; what is the same in everything gives the same array back, so that nothing is
 * written at rest. An abnormal-true condition that is not True is removed. Pure.
 */
export function setCondition(current: readonly Condition[], condition: Condition): readonly Condition[] {
  const index = current.findIndex(({ type }) => type === condition.type)
  if (ABNORMAL.includes(condition.type) && condition.status !== 'True') {
    return index < 0 ? current : current.toSpliced(index, 1)
  }
  const before = current[index]
  if (before === undefined) return [...current, condition]
  const next =
    before.status === condition.status ? { ...condition, lastTransitionTime: before.lastTransitionTime } : condition
  return same(before, next) ? current : current.with(index, next)
}

/**
 * The conditions after all findings of one reconcile. A type that no finding names keeps its condition, but abnormal-true ones end; the order of types is fixed.
 * Pure; gives `current` back when nothing changed.
 */
export function mergeConditions(
  current: readonly Condition[],
  findings: readonly Finding[],
  now: number,
  observedGeneration: number,
): readonly Condition[] {
  let merged = current.filter(
    ({ type }) =>
      !ABNORMAL.includes(type) || findings.some(finding => finding.type === type && finding.status === 'True'),
  )
  for (const finding of findings) merged = [...setCondition(merged, conditionOf(finding, now, observedGeneration))]
  merged.sort((a, b) => rank(a.type) - rank(b.type))
  return merged.length === current.length && merged.every((condition, index) => same(condition, current[index]))
    ? current
    : merged
}

/** The condition of a type, if it is there. */
export function findCondition(
  conditions: readonly Condition[] | undefined,
  type: ConditionType,
): Condition | undefined {
  return conditions?.find(condition => condition.type === type)
}

export function isTrue(conditions: readonly Condition[] | undefined, type: ConditionType): boolean {
  return findCondition(conditions, type)?.status === 'True'
}

function rank(type: string): number {
  const index = (CONDITION_TYPES as readonly string[]).indexOf(type)
  return index < 0 ? CONDITION_TYPES.length : index
}

function same(a: Condition, b: Condition | undefined): boolean {
  return (
    b !== undefined &&
    a.type === b.type &&
    a.status === b.status &&
    a.reason === b.reason &&
    a.message === b.message &&
    a.lastTransitionTime === b.lastTransitionTime &&
    a.observedGeneration === b.observedGeneration
  )
}
