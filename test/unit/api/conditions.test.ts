import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CONDITION_TYPES,
  type Condition,
  conditionOf,
  type Finding,
  findCondition,
  isTrue,
  mergeConditions,
  messageOf,
  setCondition,
} from '../../../src/api/v1alpha1/conditions.ts'
import { REASONS, type Reason, todoOf } from '../../../src/api/v1alpha1/reasons.ts'

const T0 = Date.UTC(2026, 2, 1, 14, 3, 0, 250)
const T1 = T0 + 60_000
const READY: Finding = { type: 'Ready', status: 'True', reason: 'Ready', values: { position: '1.5' } }
const STARTING: Finding = {
  type: 'Ready',
  status: 'False',
  reason: 'Starting',
  values: { pod: 'orders-0', detail: 'x' },
}

describe('conditions', () => {
  it('carry reason, filled-in message, whole seconds and generation', () => {
    expect(conditionOf(READY, T0, 3)).toEqual({
      type: 'Ready',
      status: 'True',
      reason: 'Ready',
      message: 'The database serves reads and writes at position 1.5',
      lastTransitionTime: '2026-03-01T14:03:00Z',
      observedGeneration: 3,
    })
  })

  it('keep lastTransitionTime until the status changes', () => {
    const first = mergeConditions([], [STARTING], T0, 1)
    const other = mergeConditions(first, [{ ...STARTING, values: { pod: 'orders-0', detail: 'y' } }], T1, 2)
    expect(other[0]).toMatchObject({ lastTransitionTime: '2026-03-01T14:03:00Z', observedGeneration: 2 })
    expect(other[0]?.message).toContain('y')
    expect(mergeConditions(other, [READY], T1, 2)[0]?.lastTransitionTime).toBe('2026-03-01T14:04:00Z')
  })

  it('give the same array back when nothing changed, so that nothing is written at rest', () => {
    const first = mergeConditions([], [READY], T0, 1)
    expect(mergeConditions(first, [READY], T1, 1)).toBe(first)
    expect(setCondition(first, conditionOf(READY, T1, 1))).toBe(first)
  })

  it('have Reconciling and Stalled only while they are True', () => {
    const stalled: Finding = {
      type: 'Stalled',
      status: 'True',
      reason: 'InvalidSpec',
      values: { field: 'spec.x', problem: 'y' },
    }
    const first = mergeConditions([], [READY, stalled], T0, 1)
    expect(first.map(({ type }) => type)).toEqual(['Ready', 'Stalled'])
    expect(mergeConditions(first, [READY], T1, 1).map(({ type }) => type)).toEqual(['Ready'])
    expect(setCondition(first, { ...conditionOf(stalled, T1, 1), status: 'False' }).map(({ type }) => type)).toEqual([
      'Ready',
    ])
    expect(setCondition([], { ...conditionOf(stalled, T1, 1), status: 'False' })).toEqual([])
  })

  it('keep what no finding speaks of, also of other controllers', () => {
    const foreign: Condition = {
      type: 'Elsewhere',
      status: 'True',
      reason: 'X',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    }
    const verified: Finding = {
      type: 'BackupVerified',
      status: 'True',
      reason: 'Verified',
      values: { backup: 'a', time: 't' },
    }
    const first = mergeConditions([foreign], [verified], T0, 1)
    const next = mergeConditions(first, [READY], T1, 2)
    expect(next.map(({ type }) => type)).toEqual(['Ready', 'BackupVerified', 'Elsewhere'])
    expect(next[2]).toBe(foreign)
    expect(isTrue(next, 'BackupVerified')).toBe(true)
    expect(findCondition(undefined, 'Ready')).toBeUndefined()
  })

  it('obey these rules for any sequence of findings', () => {
    const finding = fc.record({
      type: fc.constantFrom(...CONDITION_TYPES),
      status: fc.constantFrom('True' as const, 'False' as const, 'Unknown' as const),
      reason: fc.constantFrom(...(Object.keys(REASONS) as Reason[])),
    })
    fc.assert(
      fc.property(fc.array(fc.array(finding, { maxLength: 7 }), { maxLength: 12 }), rounds => {
        let conditions: readonly Condition[] = []
        rounds.forEach((findings, round) => {
          const next = mergeConditions(conditions, findings, T0 + round * 1000, round)
          const types = next.map(({ type }) => type)
          expect(new Set(types).size).toBe(types.length)
          for (const condition of next) {
            if (['Reconciling', 'Stalled'].includes(condition.type)) expect(condition.status).toBe('True')
            const before = conditions.find(({ type }) => type === condition.type)
            // several findings of one type in a round may pass through another status
            const once = findings.filter(({ type }) => type === condition.type).length <= 1
            if (once && before?.status === condition.status)
              expect(condition.lastTransitionTime).toBe(before.lastTransitionTime)
          }
          conditions = next
        })
      }),
    )
  })
})

describe('the table of reasons', () => {
  it('has words that Kubernetes takes, and a runbook for whatever a person must do', () => {
    for (const [reason, entry] of Object.entries(REASONS)) {
      expect(reason).toMatch(/^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/)
      expect(entry.message.length).toBeGreaterThan(5)
      if (entry.severity === 'Critical') expect('runbook' in entry, reason).toBe(true)
    }
  })

  it('keeps a missing value visible and a message within its bound', () => {
    expect(messageOf('DataLost', {})).toBe('The volume holds no database, but there was one (lineage {lineage})')
    expect(messageOf('BackupFailed', { backup: 'a', error: 'x'.repeat(10_000) })).toHaveLength(4096)
    expect(todoOf('DataLost', { name: 'orders', lineage: 'abc' })).toBe(
      'Accept that the volume is new: spec.recovery.allowEmpty: abc. To restore it at the same time, add spec.bootstrap.restore.source: { database: orders, lineage: abc }.',
    )
  })
})
