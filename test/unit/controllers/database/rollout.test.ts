import { describe, expect, test } from 'vitest'
import type { KvidxDatabase } from '../../../../src/api/v1alpha1/kvidx-database.ts'
import { NEWEST_TEMPLATE, type StatefulSet } from '../../../../src/controllers/database/objects/stateful-set.ts'
import { type RolloutInput, rolloutOf } from '../../../../src/controllers/database/rollout.ts'
import { databaseOf, type Spec } from '../backup/blueprints.ts'

/** A Monday. */
const THREE_O_CLOCK = Date.UTC(2026, 10, 23, 3)
const MINUTE = 60_000
const OLD = 'kvidx:1.0.0'
const NEW = 'kvidx:1.1.0'
const WINDOW: Partial<Spec> = {
  updatePolicy: { type: 'Window', window: { schedule: '0 3 * * 1', duration: '1h', timeZone: 'Etc/UTC' } },
}

type Status = NonNullable<KvidxDatabase['status']>

const condition = (type: string, status = 'True') => ({
  type,
  status: status as 'True',
  reason: 'Ready',
  message: '',
  lastTransitionTime: '2026-11-01T00:00:00Z',
})
const SERVES: Status = { image: OLD, templateVersion: 1, conditions: [condition('Ready')] }

function rollout(spec: Partial<Spec>, status: Status | undefined, more: Partial<RolloutInput> = {}) {
  const database = { ...databaseOf({ storage: { size: '1Gi' }, ...spec } as Spec), ...(status && { status }) }
  return rolloutOf({ database, statefulSet: undefined, defaultImage: NEW, now: THREE_O_CLOCK, ...more })
}

describe('the image of the pods', () => {
  test.each<[string, ReturnType<typeof rollout>, ReturnType<typeof rollout>]>([
    ['of a new database is the operator’s', rollout({}, undefined), { image: NEW, templateVersion: NEWEST_TEMPLATE }],
    [
      'of a new database can be the spec’s',
      rollout({ image: 'mine:1' }, undefined),
      { image: 'mine:1', templateVersion: NEWEST_TEMPLATE },
    ],
    ['is not known where nobody names one', rollout({}, undefined, { defaultImage: undefined }), undefined],
    ['stays, and a newer default is offered', rollout({}, SERVES), { image: OLD, templateVersion: 1, available: NEW }],
    [
      'is that of the pods where the status is lost',
      rollout({}, undefined, { statefulSet: running(OLD) }),
      { image: OLD, templateVersion: NEWEST_TEMPLATE, available: NEW },
    ],
    [
      'and the template too',
      rollout({}, undefined, { statefulSet: running(OLD, '1') }),
      { image: OLD, templateVersion: 1, available: NEW },
    ],
    [
      'and stays where the spec names it',
      rollout({ image: OLD }, undefined, { statefulSet: running(OLD, '1') }),
      { image: OLD, templateVersion: 1 },
    ],
    [
      'and both move where the spec names another',
      rollout({ image: NEW }, undefined, { statefulSet: running(OLD, '1') }),
      { image: NEW, templateVersion: NEWEST_TEMPLATE },
    ],
    [
      'but not to a template that is no number',
      rollout({}, undefined, { statefulSet: running(OLD, 'x') }),
      { image: OLD, templateVersion: NEWEST_TEMPLATE, available: NEW },
    ],
    [
      'is what the status says, whatever stands in the StatefulSet',
      rollout({}, SERVES, { statefulSet: running(OLD, '2') }),
      { image: OLD, templateVersion: 1, available: NEW },
    ],
    ['stays where the default is the same', rollout({}, { ...SERVES, image: NEW }), { image: NEW, templateVersion: 1 }],
    [
      'stays where the default is older: the operator was taken back',
      rollout(WINDOW, { ...SERVES, image: 'kvidx:1.2.0' }),
      { image: 'kvidx:1.2.0', templateVersion: 1 },
    ],
    [
      'of another name is offered whatever its version is',
      rollout({}, SERVES, { defaultImage: 'other:0.1.0' }),
      { image: OLD, templateVersion: 1, available: 'other:0.1.0' },
    ],
    [
      'is the spec’s at once, and the newest template comes with it',
      rollout({ image: NEW }, SERVES),
      { image: NEW, templateVersion: NEWEST_TEMPLATE },
    ],
    [
      'is the spec’s, and the template stays while it is the same',
      rollout({ image: OLD }, SERVES),
      { image: OLD, templateVersion: 1 },
    ],
    [
      'does not move a template that only a later operator knows',
      rollout({ image: NEW }, { ...SERVES, templateVersion: 99 }),
      { image: NEW, templateVersion: 99 },
    ],
  ])('%s', (_, is, expected) => {
    expect(is).toEqual(expected)
  })
})

describe('a newer default image, with updatePolicy Window', () => {
  const at = (offset: number, status: Status = SERVES, spec: Partial<Spec> = {}) =>
    rollout({ ...WINDOW, ...spec }, status, { now: THREE_O_CLOCK + offset })
  const begins = { image: NEW, templateVersion: NEWEST_TEMPLATE, begins: true }
  const waits = { image: OLD, templateVersion: 1, available: NEW }

  test.each<[string, ReturnType<typeof rollout>, object]>([
    ['is rolled out when the window opens, with the newest template', at(0), begins],
    ['is rolled out until it closes', at(60 * MINUTE - 1), begins],
    ['waits before', at(-1001), waits],
    ['waits after', at(60 * MINUTE), waits],
    ['waits on other days', at(24 * 60 * MINUTE), waits],
    ['waits where the database is not Ready', at(0, { ...SERVES, conditions: [condition('Ready', 'False')] }), waits],
    [
      'waits where something else goes on',
      at(0, { ...SERVES, conditions: [condition('Ready'), condition('Reconciling')] }),
      waits,
    ],
    ['waits where it is suspended', at(0, SERVES, { suspend: true }), waits],
    [
      'has its window in its own time zone',
      at(-60 * MINUTE, SERVES, {
        updatePolicy: { type: 'Window', window: { schedule: '0 3 * * 1', timeZone: 'Europe/Berlin' } },
      }),
      begins,
    ],
    ['is not rolled out with Manual', at(0, SERVES, { updatePolicy: { type: 'Manual' } }), waits],
    [
      'is not rolled out where the spec names an image',
      at(0, SERVES, { image: OLD }),
      { image: OLD, templateVersion: 1 },
    ],
  ])('%s', (_, is, expected) => {
    expect(is).toEqual(expected)
  })

  test('once begun, stays when the window closes', () => {
    expect(at(90 * MINUTE, { ...SERVES, image: NEW, templateVersion: NEWEST_TEMPLATE })).toEqual({
      image: NEW,
      templateVersion: NEWEST_TEMPLATE,
    })
  })
})

function running(image: string, version?: string): StatefulSet {
  return {
    metadata: { name: 'orders', annotations: version === undefined ? {} : { 'kvidx.io/template-version': version } },
    spec: {
      template: {
        spec: {
          containers: [
            { name: 'app', image: 'app' },
            { name: 'kvidx', image },
          ],
        },
      },
    },
  } as unknown as StatefulSet
}
