import { expect, test } from 'vitest'
import type { PrunePlan } from '../../../sidecar/backup/prune.ts'
import { pruneResult } from '../../../sidecar/job/prune-result.ts'

const HOME = 'shop/orders/l1/'
const PLAN = {
  backups: [
    { id: 'old', keep: false, reasons: ['no rule keeps it'] },
    { id: 'new', keep: true, reasons: ['one of the last 3'] },
  ],
  catalog: {
    home: { namespace: 'shop', database: 'orders', lineage: 'l1' },
    backups: [{ path: `${HOME}snapshots/old/` }, { path: `${HOME}snapshots/new/` }],
    damaged: [{ key: `${HOME}increments/torn/manifest.json` }],
  },
} as unknown as PrunePlan

test('what retention lets go is named as removed, but not where the store decides: there what is left is named', () => {
  const ours = pruneResult(PLAN, 's3://b/p', { byStore: false, dryRun: false, result: undefined })
  expect(ours).toEqual({ phase: 'Completed', dryRun: false, removed: ['old'] })
  const theirs = pruneResult(PLAN, 's3://b/p', { byStore: true, dryRun: false, result: undefined })
  expect(theirs).toMatchObject({
    removed: [],
    stored: {
      under: `s3://b/p/${HOME}`,
      locations: [
        `s3://b/p/${HOME}snapshots/old/`,
        `s3://b/p/${HOME}snapshots/new/`,
        `s3://b/p/${HOME}increments/torn/`,
      ],
    },
  })
})
