import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bytes } from '../../../../src/common/quantity.ts'
import { growthOf } from '../../../../src/controllers/database/auto-grow.ts'
import { engineFindings } from '../../../../src/controllers/database/health.ts'
import type { ProbeStatus } from '../../../../src/controllers/database/observed.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import type { Spec } from '../backup/blueprints.ts'
import { claim, findingsInWords, inWords, NOW, pod, probe, type Scene, scene, serving } from './scene.ts'

const GIB = 1024 ** 3
const MINUTE = 60_000
const GROW = { enabled: true, maxSize: '100Gi' }

interface Case {
  readonly autoGrow?: Spec['storage']['autoGrow']
  readonly size?: string
  /** Of the claim */
  readonly requested?: string
  readonly capacity?: string
  readonly used: number
  readonly days?: number
  readonly grownAt?: number
  readonly expandable?: boolean
  readonly health?: ProbeStatus['health']
  readonly change?: Scene['change']
}

function sceneOf(input: Case) {
  const { requested = '10Gi', capacity = requested } = input
  const volume = bytes(capacity, 'capacity')
  return scene({
    spec: { storage: { size: input.size ?? '10Gi', autoGrow: input.autoGrow ?? GROW } },
    change: (observed, blueprint) => {
      const plain = claim(requested, { phase: 'Bound', capacity: { storage: capacity } })
      const annotations = input.grownAt !== undefined && {
        annotations: { 'kvidx.io/grown-at': new Date(input.grownAt).toISOString() },
      }
      observed.claims = [{ ...plain, metadata: { ...plain.metadata, ...annotations } }]
      const days = input.days !== undefined && { daysUntilFull: input.days }
      const health = input.health && { health: input.health }
      const free = Math.round(volume * (1 - input.used / 100))
      observed.probe = probe(serving({ volume: { size: volume, free, ...days }, ...health }))
      observed.expandable = input.expandable
      input.change?.(observed, blueprint)
    },
  })
}

/** `to 13Gi` or what else it comes to. */
function inShort(input: Case): string {
  const { blueprint, observed } = sceneOf(input)
  const growth = growthOf(blueprint, observed)
  return growth.kind === 'grow' ? `${growth.to / GIB} GiB, ${growth.why}` : growth.kind
}

const THRESHOLD = '80 % or more in use'

describe('a volume grows by itself', () => {
  test.each<[string, Case, string]>([
    ['not below the threshold', { used: 79.9 }, 'none'],
    ['from the threshold on, by a step, in whole GiB', { used: 80 }, `13 GiB, ${THRESHOLD}`],
    ['by the step of the spec', { used: 81, autoGrow: { ...GROW, step: 100 } }, `20 GiB, ${THRESHOLD}`],
    ['from the threshold of the spec on', { used: 81, autoGrow: { ...GROW, threshold: 90 } }, 'none'],
    [
      'when it is full, below the threshold at once',
      { used: 100, autoGrow: { ...GROW, step: 5 } },
      `13 GiB, ${THRESHOLD}`,
    ],
    [
      'in whole MiB where it is small',
      { used: 90, size: '100Mi', requested: '100Mi' },
      `${125 / 1024} GiB, ${THRESHOLD}`,
    ],
    ['not again at once', { used: 90, grownAt: NOW - 5 * MINUTE }, 'none'],
    [
      'when it last grew by a clock that was ahead',
      { used: 90, grownAt: NOW + 3650 * 24 * 60 * MINUTE },
      `13 GiB, ${THRESHOLD}`,
    ],
    ['up to the limit', { used: 90, autoGrow: { ...GROW, maxSize: '11Gi' } }, `11 GiB, ${THRESHOLD}`],
    [
      'to a limit between units',
      { used: 90, autoGrow: { ...GROW, maxSize: '10500Mi' } },
      `${10_500 / 1024} GiB, ${THRESHOLD}`,
    ],
    ['not beyond the limit', { used: 90, autoGrow: { ...GROW, maxSize: '10Gi' } }, 'limit'],
    [
      'not where it grew beyond a limit that was lowered',
      { used: 90, size: '1Gi', autoGrow: { ...GROW, maxSize: '5Gi' } },
      'limit',
    ],
    ['when the forecast is short', { used: 60, days: 2.9 }, '13 GiB, full in less than 3 days'],
    ['not when the forecast is longer', { used: 60, days: 3.1 }, 'none'],
    ['not for a forecast of a volume that is half empty', { used: 49, days: 0.1 }, 'none'],
    [
      'not for a forecast where it does not count',
      { used: 60, days: 0, autoGrow: { ...GROW, daysUntilFull: 0 } },
      'none',
    ],
    ['not where it is switched off', { used: 99, autoGrow: { enabled: false, maxSize: '100Gi' } }, 'none'],
    ['again after the interval', { used: 90, grownAt: NOW - 10 * MINUTE }, `13 GiB, ${THRESHOLD}`],
    ['not within the interval', { used: 90, grownAt: NOW - 10 * MINUTE + 1 }, 'none'],
    ['not while it grows already', { used: 99, requested: '13Gi', capacity: '10Gi' }, 'none'],
    ['not before the larger size of the spec is there', { used: 99, size: '20Gi' }, 'none'],
    ['from where it is, not from the size of the spec', { used: 90, requested: '40Gi' }, `50 GiB, ${THRESHOLD}`],
    [
      'not by what a pod before this one said',
      { used: 99, change: having({ pods: [pod({ metadata: { ...pod().metadata, uid: 'pod-2' } })] }) },
      'none',
    ],
    ['not while it sleeps', { used: 99, change: having({ pods: [] }) }, 'none'],
    ['not before it is bound', { used: 99, change: having({ claims: [claim('10Gi', { phase: 'Pending' })] }) }, 'none'],
    ['not when nobody answers', { used: 99, change: having({ probe: undefined }) }, 'none'],
  ])('%s', (_, input, expected) => {
    expect(inShort(input)).toBe(expected)
  })

  test('never beyond the limit, never smaller, and after it the use is below the threshold or the limit is reached', () => {
    const percent = fc.integer({ min: 50, max: 95 })
    const sizes = fc.integer({ min: 64, max: 4096 * 1024 })
    fc.assert(
      fc.property(
        sizes,
        sizes,
        percent,
        fc.integer({ min: 5, max: 100 }),
        fc.double({ min: 0, max: 100, noNaN: true }),
        (a, b, threshold, step, used) => {
          const [has, most] = [Math.min(a, b), Math.max(a, b)]
          const autoGrow = { enabled: true, threshold, step, maxSize: `${most}Mi` }
          const { blueprint, observed } = sceneOf({ used, size: '64Mi', requested: `${has}Mi`, autoGrow })
          const growth = growthOf(blueprint, observed)
          if (used < threshold - 0.001) expect(growth.kind).toBe('none')
          if (growth.kind === 'limit') expect(has).toBe(most)
          if (growth.kind !== 'grow') return
          expect(growth.to).toBeGreaterThan(has * 1024 ** 2)
          expect(growth.to).toBeLessThanOrEqual(most * 1024 ** 2)
          const after = (used * has * 1024 ** 2) / growth.to
          expect(after <= threshold + 0.001 || growth.to === most * 1024 ** 2).toBe(true)
        },
      ),
    )
  })
})

describe('growing by itself', () => {
  const planned = (input: Case) => {
    const { blueprint, observed } = sceneOf(input)
    return planAll(blueprint, observed)
  }
  const storageHealth = (input: Case) => {
    const { blueprint, observed } = sceneOf(input)
    return engineFindings(blueprint, observed).find(({ type }) => type === 'StorageHealthy')
  }

  test('patches the claim alone: the StatefulSet keeps the size of the spec', () => {
    const plan = planned({ used: 85 })
    expect(inWords(plan.actions)).toEqual(['patch PersistentVolumeClaim data-orders-0'])
    expect(plan.actions[0]).toMatchObject({
      body: {
        metadata: { annotations: { 'kvidx.io/grown-at': new Date(NOW).toISOString() } },
        spec: { resources: { requests: { storage: '13Gi' } } },
      },
      event: { reason: 'VolumeGrows', values: { from: '10Gi', to: '13Gi' } },
    })
  })

  test('is followed to its end, and then nothing is done', () => {
    const under = planned({ used: 85, requested: '13Gi', capacity: '10Gi' })
    expect(under.actions).toEqual([])
    expect(under.findings).toMatchObject([{ reason: 'Resizing', values: { from: '10Gi', to: '13Gi' } }])
    expect(planned({ used: 65, requested: '13Gi' })).toEqual({ actions: [], findings: [] })
  })

  test('gives way to a larger size of the spec, which the StatefulSet then has', () => {
    const plan = planned({ used: 85, size: '40Gi', change: ofTenGibibytes })
    expect(inWords(plan.actions)).toEqual(['patch PersistentVolumeClaim data-orders-0', 'delete StatefulSet orders'])
    expect(plan.actions[0]).toMatchObject({ body: { spec: { resources: { requests: { storage: '40Gi' } } } } })
    expect(plan.actions[0]).not.toHaveProperty('event')
  })

  test('a size of the spec that the volume has passed already changes the StatefulSet alone', () => {
    const plan = planned({ used: 50, size: '12Gi', requested: '13Gi', change: ofTenGibibytes })
    expect(inWords(plan.actions)).toEqual(['delete StatefulSet orders'])
    expect(plan.findings).toEqual([])
  })

  test('a failure of the storage is told', () => {
    const plan = planned({
      used: 85,
      change: observed => {
        const conditions = [{ type: 'ControllerResizeError', status: 'True', message: 'quota' }]
        observed.claims = [claim('13Gi', { phase: 'Bound', capacity: { storage: '10Gi' }, conditions })]
      },
    })
    expect(plan.findings).toMatchObject([
      { reason: 'Resizing', values: { detail: 'it failed and is tried again: quota' } },
    ])
  })

  test('a class that cannot expand is no stall: StorageHealthy names it, and nothing is patched', () => {
    const input: Case = { used: 82, expandable: false }
    expect(planned(input)).toEqual({ actions: [], findings: [] })
    expect(storageHealth(input)).toMatchObject({
      status: 'False',
      reason: 'CannotExpand',
      values: { class: 'fast', size: '10Gi' },
    })
  })

  test('a limit that is reached stands in StorageHealthy, until the volume is full', () => {
    const autoGrow = { ...GROW, maxSize: '10Gi' }
    expect(storageHealth({ used: 82, autoGrow })).toMatchObject({
      status: 'False',
      reason: 'GrowthLimit',
      values: { size: '10Gi', why: THRESHOLD },
    })
    const health = { state: 'DEGRADED', causes: [{ reason: 'NoSpace', message: '', since: 0 }] }
    expect(storageHealth({ used: 99, autoGrow, health })).toMatchObject({ reason: 'NoSpace' })
  })

  test('of a full volume goes on while writes are refused', () => {
    const health = { state: 'DEGRADED', causes: [{ reason: 'NoSpace', message: '', since: 0 }] }
    expect(inWords(planned({ used: 99, health }).actions)).toEqual(['patch PersistentVolumeClaim data-orders-0'])
    const stuck = having({ pods: [pod({}, 'False')] })
    expect(findingsInWords(planned({ used: 99, change: stuck }).findings)).toEqual(['Reconciling=True/Resizing'])
  })
})

function having(members: Partial<ReturnType<typeof scene>['observed']>): NonNullable<Scene['change']> {
  return observed => void Object.assign(observed, members)
}

/** Made when the spec said 10Gi. */
const ofTenGibibytes: NonNullable<Scene['change']> = observed => {
  const before = sceneOf({ used: 0 }).observed
  observed.owned = before.owned
  observed.statefulSet = before.statefulSet
}
