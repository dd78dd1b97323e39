import { expect, test } from 'vitest'
import type { KvidxDatabaseStatus } from '../../../../src/api/v1alpha1/database-status.ts'
import { catalogJobName, planCatalog, sharedClass } from '../../../../src/controllers/database/catalog.ts'
import type { Job } from '../../../../src/kube/job.ts'
import { TO_BUCKET, TO_VOLUME } from '../backup/blueprints.ts'
import { claim, inWords, type Scene, scene } from './scene.ts'

const READY: KvidxDatabaseStatus = {
  conditions: [
    { type: 'Ready', status: 'True', reason: 'Serving', message: '', lastTransitionTime: '2026-11-23T11:00:00Z' },
  ],
}

function plan(input: Scene, ended?: 'Complete' | 'Failed' | 'active') {
  const { blueprint, observed } = scene(input)
  const conditions = ended === 'active' || !ended ? [] : [{ type: ended, status: 'True' }]
  const job: Job = { apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'x' }, status: { conditions } }
  return { ...planCatalog(blueprint, { ...observed, catalogJob: ended && job }), blueprint }
}

test('a store that was never seen is read once the database is ready', () => {
  const { actions, catalog, blueprint } = plan({ spec: TO_VOLUME, status: READY })
  expect(catalog).toBeUndefined()
  expect(inWords(actions)).toEqual([`create Job ${catalogJobName(blueprint)}`])
  const [action] = actions
  const job = JSON.stringify(action && 'object' in action && action.object)
  expect(job).toContain('"pod-job","catalog","--database","orders"')
  expect(job).toContain('"claimName":"orders-backups"')
  expect(job).toContain('"kind":"KvidxDatabase"')
})

test.each([
  ['not ready', { spec: TO_VOLUME }],
  ['asleep', { spec: { ...TO_VOLUME, hibernate: true }, status: READY }],
  ['without backups', { status: READY }],
])('nothing is read for a database that is %s', (_, input) => {
  expect(plan(input)).toMatchObject({ catalog: undefined, actions: [] })
})

test('only the end of the reading counts, and it counts for this store alone', () => {
  const spec = TO_BUCKET
  expect(plan({ spec, status: READY }, 'active')).toMatchObject({ catalog: undefined, actions: [] })
  expect(plan({ spec, status: READY }, 'Failed')).toMatchObject({ catalog: undefined, actions: [] })
  const { catalog, actions } = plan({ spec, status: READY }, 'Complete')
  expect({ catalog, actions }).toEqual({ catalog: 's3://backups/', actions: [] })
  // what stands in status is enough: the Job goes after a while
  expect(plan({ spec, status: { ...READY, backup: { catalog: 's3://backups/' } } }).actions).toEqual([])
  const moved = plan({ spec, status: { ...READY, backup: { catalog: 'volume/orders-backups' } } })
  expect(moved).toMatchObject({ catalog: 'volume/orders-backups', actions: [{ kind: 'create' }] })
})

test('backups beside the data, on the same class, are told of once', () => {
  const backupClaim = { ...claim(), metadata: { name: 'orders-backups', namespace: 'shop' } }
  const { observed } = scene({ spec: TO_VOLUME })
  const store = 'volume/orders-backups'
  expect(sharedClass({ ...observed, backupClaim }, store)).toBe('fast')
  expect(sharedClass({ ...observed, backupClaim }, undefined)).toBeUndefined()
  const slow = { ...backupClaim, spec: { ...backupClaim.spec, storageClassName: 'slow' } }
  expect(sharedClass({ ...observed, backupClaim: slow }, store)).toBeUndefined()
  expect(sharedClass({ ...observed, backupClaim }, 's3://backups/')).toBeUndefined()
  const known = scene({ spec: TO_VOLUME, status: { backup: { catalog: store } } }).observed
  expect(sharedClass({ ...known, backupClaim }, store)).toBeUndefined()
})
