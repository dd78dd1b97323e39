import { describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../../../src/controllers/backup/record.ts'
import { newRecord } from '../../../../src/controllers/backup/record.ts'
import { planClone } from '../../../../src/controllers/database/clone.ts'
import { configOf } from '../../../../src/controllers/database/objects/config-map.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import type { Spec } from '../backup/blueprints.ts'
import { claim, findingsInWords, inWords, scene, specOf } from './scene.ts'

const LINEAGE = '6b0b7b1e-0000-4000-8000-000000000001'
const GIB = 1024 ** 3
const restore = (more: object = {}): Partial<Spec> => ({ bootstrap: { restore: { backup: 'disk', ...more } } }) as Spec

function record(status: BackupRecord['status'], type: 'Full' | 'VolumeSnapshot' = 'VolumeSnapshot'): BackupRecord {
  const made = newRecord({ namespace: 'shop', name: 'disk', database: 'old', type, verify: false })
  return { ...made, ...(status && { status }) }
}

const COMPLETED = { phase: 'Completed', lineage: LINEAGE, storedBytes: GIB } as const

/** A database that has nothing yet. */
function fresh(spec: Partial<Spec>, backup: BackupRecord | undefined) {
  return scene({
    spec,
    change: observed => {
      observed.claims = []
      observed.bootstrapBackup = backup
    },
  })
}

describe('a new database from a VolumeSnapshot', () => {
  test('gets its claim from the snapshot before the StatefulSet makes an empty one', () => {
    const { blueprint, observed } = fresh(restore(), record(COMPLETED))
    const plan = planClone(blueprint, observed)
    expect(plan.hold).toBe(false)
    const [action] = plan.actions
    expect(action).toMatchObject({
      kind: 'create',
      object: {
        metadata: { name: 'data-orders-0', annotations: { 'kvidx.io/cloned-from': LINEAGE } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '1Gi' } },
          dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 'disk' },
        },
      },
    })
    expect(action && 'object' in action && action.object.metadata.ownerReferences).toBeUndefined()
    // in the same round: a pod that starts without it would refuse the volume, and be told only when the file is mounted anew
    expect(configOf(plan.blueprint).dynamic.bootstrap?.clone).toBe(LINEAGE)
  })

  test('is told what its volume is for as long as the claim says so, also without the record', () => {
    const made = { ...claim(), metadata: { ...claim().metadata, annotations: { 'kvidx.io/cloned-from': LINEAGE } } }
    const { blueprint, observed } = scene({
      spec: restore(),
      change: seen => {
        seen.claims = [made]
      },
    })
    const plan = planClone(blueprint, observed)
    expect(plan.actions).toEqual([])
    expect(configOf(plan.blueprint).dynamic.bootstrap?.clone).toBe(LINEAGE)
  })

  test.each([
    ['runs', { phase: 'Running' } as const, {}, 'Reconciling=True/Creating'],
    ['failed', { phase: 'Failed', error: 'x' } as const, {}, 'Stalled=True/InvalidSpec'],
    ['is larger than the new volume', { ...COMPLETED, storedBytes: 2 * GIB }, {}, 'Stalled=True/InvalidSpec'],
    ['cannot give another moment', COMPLETED, { time: '2026-11-23T14:00:00Z' }, 'Stalled=True/InvalidSpec'],
  ])('waits without a pod while the backup %s', (_, status, more, said) => {
    const { blueprint, observed } = fresh(restore(more), record(status))
    const plan = planClone(blueprint, observed)
    expect(plan).toMatchObject({ hold: true, actions: [] })
    expect(findingsInWords(plan.findings)).toEqual([said])
    const nothing = { ...observed, owned: new Map() }
    expect(inWords(planAll(plan.blueprint, nothing).actions)).toContain('apply StatefulSet orders')
    expect(inWords(planAll(plan.blueprint, nothing, plan.hold).actions)).not.toContain('apply StatefulSet orders')
  })

  test.each([
    ['a backup in a store', restore(), record(COMPLETED, 'Full'), []],
    ['no record', restore(), undefined, []],
    ['no bootstrap', {}, record(COMPLETED), []],
    // of an earlier life of the name: the pod refuses it, nothing is overwritten
    ['a volume that was retained', restore(), record(COMPLETED), [claim()]],
  ])('is not what %s gives', (_, spec, backup, claims) => {
    const { blueprint, observed } = fresh(spec, backup)
    const plan = planClone(blueprint, { ...observed, claims })
    expect(plan).toMatchObject({ hold: false, actions: [], findings: [] })
    expect(plan.blueprint.clonedFrom).toBeUndefined()
  })

  test('is not made again once the database had data', () => {
    const { blueprint, observed } = fresh(restore(), record(COMPLETED))
    expect(planClone({ ...blueprint, lineage: LINEAGE }, observed).actions).toEqual([])
  })
})

test('a specification without bootstrap has no word of it in its configuration', () => {
  const { blueprint } = scene({ spec: specOf() })
  expect(configOf(blueprint).dynamic.bootstrap).toBeUndefined()
})
