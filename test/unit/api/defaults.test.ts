import { describe, expect, it } from 'vitest'
import type { KvidxDatabaseSpec } from '../../../src/api/v1alpha1/database-spec.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { kvidxDatabaseSchema } from '../../../src/api/v1alpha1/kvidx-database.ts'
import { ENGINES } from '../../../src/api/v1alpha1/tuning.ts'
import { validate } from '../../../src/api/validate.ts'

const SMALL: KvidxDatabaseSpec = { storage: { size: '1Gi' } }
const asObject = (spec: unknown) => ({
  apiVersion: 'kvidx.io/v1alpha1',
  kind: 'KvidxDatabase',
  metadata: { name: 'a' },
  spec,
})

describe('defaults', () => {
  it('fill in every block and leave what was written as it is', () => {
    const spec = withDefaults({ ...SMALL, tuning: { cacheSize: '64Mi' }, maintenance: { expiry: { interval: '5s' } } })
    expect(spec).toMatchObject({
      engine: 'SQLite',
      replicas: 1,
      tuning: {
        syncMode: 'Full',
        cacheSize: '64Mi',
        journalMode: 'WAL',
        busyTimeout: '30s',
        mmapSize: '0',
        pageSize: '4Ki',
      },
      maintenance: { expiry: { interval: '5s', batchSize: 10_000 }, checkpoint: { walSize: '100Mi' } },
      storage: { size: '1Gi', deletionPolicy: 'Retain', autoGrow: { enabled: false } },
    })
    expect(spec.backup).toBeUndefined()
    expect(spec.bootstrap).toBeUndefined()
  })

  it.each(ENGINES)('of %s are valid and do not change when they are filled in again', engine => {
    const spec = withDefaults({ ...SMALL, engine })
    expect(validate(kvidxDatabaseSchema, asObject(spec))).toEqual([])
    expect(withDefaults(spec as KvidxDatabaseSpec)).toEqual(spec)
  })

  it('verify Fulls and nothing else, unless somebody says so', () => {
    const spec = withDefaults({
      ...SMALL,
      backup: {
        destination: { volume: { size: '1Gi' } },
        schedules: [
          { name: 'a', schedule: '@daily' },
          { name: 'b', schedule: '@daily', verify: false },
          { name: 'c', schedule: '@daily', type: 'Incremental' },
          { name: 'd', schedule: '@daily', type: 'VolumeSnapshot', verify: true },
        ],
      },
    })
    expect(spec.backup?.schedules.map(({ verify }) => verify)).toEqual([true, false, false, true])
  })

  it('never change what was given', () => {
    const given = Object.freeze({ ...SMALL, storage: Object.freeze({ size: '1Gi' }) })
    withDefaults(given)
    expect(given).toEqual(SMALL)
    const [a, b] = [withDefaults(SMALL), withDefaults(SMALL)]
    expect(a.storage.autoGrow).not.toBe(b.storage.autoGrow)
  })
})
