import { describe, expect, test } from 'vitest'
import { type BackupRecord, newRecord } from '../../../../src/controllers/backup/record.ts'
import { planHibernation } from '../../../../src/controllers/database/hibernation.ts'
import { TO_BUCKET } from '../backup/blueprints.ts'
import { inWords, NOW, scene } from './scene.ts'

/** A database that was just told to sleep. */
function asleep(backups: readonly BackupRecord[]) {
  const { blueprint, observed } = scene({
    spec: { ...TO_BUCKET, hibernate: true },
    status: { lineage: 'l2' },
    change: seen => {
      seen.backups = backups
      seen.database = { ...seen.database, metadata: { ...seen.database.metadata, generation: 2 } }
    },
  })
  const plan = planHibernation(blueprint, observed, NOW)
  return { replicas: plan.blueprint.replicas, words: inWords(plan.actions), plan }
}

function last(label: string, phase: 'Pending' | 'Completed' | 'Failed', number = 1): BackupRecord {
  const name = `orders-hibernate-${label}-${number}`
  const labels = { 'kvidx.io/hibernate': label }
  const made = newRecord({ namespace: 'shop', name, database: 'orders', type: 'Full', verify: true, labels })
  return { ...made, status: { phase, completedAt: '2026-11-23T11:00:00Z' } }
}

describe('a database that is to sleep', () => {
  test.each([
    ['has no last backup', [], 1, ['create KvidxBackup orders-hibernate-d3f1c0de-2-1']],
    ['is being saved', [last('d3f1c0de-2', 'Pending')], 1, []],
    ['is saved', [last('d3f1c0de-2', 'Completed')], 0, []],
    [
      'could not be saved, a while ago',
      [last('d3f1c0de-2', 'Failed')],
      1,
      ['create KvidxBackup orders-hibernate-d3f1c0de-2-2'],
    ],
    [
      'was saved when it slept before',
      [last('d3f1c0de-1', 'Completed')],
      1,
      ['create KvidxBackup orders-hibernate-d3f1c0de-2-1'],
    ],
    [
      'was saved in an earlier life of its name, in the same generation',
      [last('00000bad-2', 'Completed'), last('2', 'Completed')],
      1,
      ['create KvidxBackup orders-hibernate-d3f1c0de-2-1'],
    ],
  ])('and %s', (_what, backups, replicas, words) => {
    expect(asleep(backups)).toMatchObject({ replicas, words })
  })

  test('makes records that it knows again', () => {
    const [create] = asleep([]).plan.actions
    const record = (create as unknown as { object: BackupRecord }).object
    expect(asleep([{ ...record, status: { phase: 'Completed' } }])).toMatchObject({ replicas: 0, words: [] })
  })
})
