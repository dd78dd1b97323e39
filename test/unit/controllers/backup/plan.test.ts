import { describe, expect, test } from 'vitest'
import type { KvidxBackupStatus } from '../../../../src/api/v1alpha1/kvidx-backup.ts'
import type { KvidxDatabase } from '../../../../src/api/v1alpha1/kvidx-database.ts'
import { planDeletion } from '../../../../src/controllers/backup/deletion.ts'
import { deletionJob, jobOf, planBackup } from '../../../../src/controllers/backup/plan.ts'
import { type BackupRecord, changedStatus, newRecord, statusPatch } from '../../../../src/controllers/backup/record.ts'
import { type FrozenState, volumeSnapshot } from '../../../../src/controllers/backup/volume-snapshot.ts'
import type { Job } from '../../../../src/kube/job.ts'
import { databaseOf, TO_BUCKET, TO_VOLUME } from './blueprints.ts'

const NOW = Date.UTC(2026, 10, 23, 2, 5)

const FROZEN: FrozenState = {
  lineage: 'l1',
  engine: 'SQLite',
  position: '1.7',
  records: '12',
  dataBytes: '9',
  digest: 'd',
}

interface Made {
  readonly name?: string
  readonly type?: 'Full' | 'Incremental' | 'VolumeSnapshot'
  readonly job?: string
  readonly status?: KvidxBackupStatus
  readonly deletionPolicy?: 'Retain' | 'Delete'
  readonly labels?: Readonly<Record<string, string>>
}

function record({
  name = 'manual',
  type = 'Full',
  job,
  status,
  deletionPolicy = 'Retain',
  labels,
}: Made = {}): BackupRecord {
  const made = newRecord({
    namespace: 'shop',
    name,
    database: 'orders',
    type,
    verify: true,
    ...(job !== undefined && { job, schedule: 'daily' }),
    ...(labels && { labels }),
  })
  return {
    ...made,
    metadata: { ...made.metadata, uid: `uid-${name}`, generation: 1 },
    spec: { ...made.spec, deletionPolicy },
    ...(status && { status }),
  }
}

function database(ready = true, spec = TO_VOLUME): KvidxDatabase {
  return {
    ...databaseOf(spec),
    status: {
      image: 'kvidx:1',
      conditions: [
        { type: 'Ready', status: ready ? 'True' : 'False', reason: 'Ready', message: '', lastTransitionTime: '' },
      ],
    },
  }
}

function job(type?: 'Complete' | 'Failed', name = 'job'): Job {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name },
    ...(type && {
      status: {
        conditions: [{ type, status: 'True', reason: 'DeadlineExceeded', message: 'active longer than specified' }],
      },
    }),
  }
}

describe('a KvidxBackup made by hand', () => {
  test('gets one Job, owned by it, with the name of its own', () => {
    const manual = record()
    const step = planBackup({ record: manual, database: database(), job: undefined })
    expect(step).toMatchObject({
      kind: 'start',
      job: {
        metadata: {
          name: jobOf(manual),
          namespace: 'shop',
          labels: { 'kvidx.io/task': 'backup', 'kvidx.io/backup': 'manual' },
          ownerReferences: [{ kind: 'KvidxBackup', name: 'manual', uid: 'uid-manual', controller: true }],
        },
      },
      change: { phase: 'Pending', job: jobOf(manual) },
    })
  })

  test.each([
    ['its database is not there', undefined, 'there is no KvidxDatabase orders'],
    ['its database is not ready', database(false), 'is not ready'],
    ['its database sleeps', { ...database(), spec: { ...TO_VOLUME, hibernate: true } }, 'sleeps'],
    ['there is no destination', database(true, { storage: { size: '1Gi' } }), 'no destination'],
  ])('waits while %s', (_why, its, detail) => {
    const step = planBackup({ record: record(), database: its as KvidxDatabase | undefined, job: undefined })
    expect(step).toMatchObject({
      kind: 'status',
      change: { phase: 'Pending', detail: expect.stringContaining(detail) },
    })
  })

  test('of type VolumeSnapshot needs no destination, and its pod gets none', () => {
    const step = planBackup({
      record: record({ type: 'VolumeSnapshot' }),
      database: database(true, { storage: { size: '1Gi' } }),
      job: undefined,
    })
    expect(step.kind).toBe('start')
    expect(JSON.stringify(step)).not.toContain('/scratch')
  })

  test('before hibernation is made although the database is to sleep', () => {
    const sleeping = { ...database(), spec: { ...TO_VOLUME, hibernate: true } }
    const last = record({ labels: { 'kvidx.io/hibernate': 'd3f1c0de-2' } })
    expect(planBackup({ record: last, database: sleeping, job: undefined }).kind).toBe('start')
  })
})

describe('a KvidxBackup of a schedule', () => {
  test('never gets a Job from the operator', () => {
    const scheduled = record({ job: 'orders-backup-daily-1' })
    for (const its of [undefined, database()])
      for (const seen of [undefined, job(), job('Complete'), job('Failed')])
        expect(planBackup({ record: scheduled, database: its, job: seen }).kind).not.toBe('start')
  })

  test.each(['Pending', 'Running', 'Verifying'] as const)('leaves no %s record behind', phase => {
    const left = record({ job: 'orders-backup-daily-1', status: { phase, startedAt: '2026-11-23T02:00:00Z' } })
    for (const seen of [undefined, job('Complete'), job('Failed')])
      expect(planBackup({ record: left, database: database(), job: seen })).toMatchObject({
        kind: 'close',
        change: { phase: 'Failed' },
      })
    // its pod is evicted and the Job starts another one
    expect(planBackup({ record: left, database: database(), job: job() }).kind).toBe('nothing')
  })

  test('says what the last attempt said, and how its Job ended', () => {
    const left = record({
      job: 'j',
      status: { phase: 'Pending', error: 'the bucket does not answer', code: 'store_unreachable' },
    })
    expect(planBackup({ record: left, database: database(), job: job('Failed') })).toMatchObject({
      change: {
        error: 'the bucket does not answer (DeadlineExceeded: active longer than specified)',
        code: 'store_unreachable',
      },
    })
  })
})

describe('the status', () => {
  const running = changedStatus(record(), { phase: 'Running', startedAt: '2026-11-23T02:00:00Z' }, NOW)

  test('is written once: the same change gives the same status, whatever the time', () => {
    const again = changedStatus(record({ status: running }), { phase: 'Running' }, NOW + 60_000)
    expect(again).toEqual(running)
  })

  test('keeps to kstatus: Reconciling while it is made, Ready at the end, Stalled when it failed', () => {
    const types = (status: KvidxBackupStatus) => status.conditions?.map(({ type, status: is }) => `${type}=${is}`)
    expect(types(running)).toEqual(['Ready=False', 'Reconciling=True'])
    const completed = changedStatus(record({ status: running }), { phase: 'Completed', position: '1.7' }, NOW)
    expect(types(completed)).toEqual(['Ready=True'])
    const failed = changedStatus(record({ status: running }), { phase: 'Failed', error: 'no' }, NOW)
    expect(types(failed)).toEqual(['Ready=False', 'Stalled=True'])
    expect(completed.startedAt).toBe('2026-11-23T02:00:00Z')
  })

  test('of a later attempt does not have the error of the one before, and the server is told so', () => {
    const before = record({ status: { ...running, phase: 'Pending', error: 'no', code: 'store_unreachable' } })
    const after = changedStatus(before, { phase: 'Running' }, NOW)
    expect(after).not.toHaveProperty('error')
    expect(statusPatch(before, after).status).toMatchObject({ error: null, code: null })
  })
})

describe('the deletion of a KvidxBackup with deletionPolicy Delete', () => {
  const stored = record({ deletionPolicy: 'Delete', status: { phase: 'Completed', location: 'file:///backups/x' } })
  const view = {
    record: stored,
    database: database(),
    job: undefined,
    snapshot: undefined,
    others: [],
    namespaceTerminating: false,
  }

  test('removes the files by a Job, then goes', () => {
    expect(planDeletion(view)).toEqual({ kind: 'start' })
    expect(planDeletion({ ...view, job: job() })).toEqual({ kind: 'wait' })
    expect(planDeletion({ ...view, job: job('Complete') })).toMatchObject({ kind: 'release', files: 'gone' })
    expect(planDeletion({ ...view, job: job('Failed') })).toMatchObject({ kind: 'again' })
    expect(deletionJob(stored, database(true, TO_BUCKET))).toMatchObject({
      spec: { template: { spec: { containers: [{ args: expect.arrayContaining(['delete', '--name', 'manual']) }] } } },
    })
  })

  test('is refused while a kept increment needs it', () => {
    const child = record({ name: 'child', type: 'Incremental', status: { phase: 'Completed', parent: 'manual' } })
    expect(planDeletion({ ...view, others: [stored, child] })).toEqual({ kind: 'refuse', needed: 'child' })
    const going = { ...child, metadata: { ...child.metadata, deletionTimestamp: '2026-11-23T02:00:00Z' } }
    expect(planDeletion({ ...view, others: [going] })).toEqual({ kind: 'start' })
  })

  test.each([
    ['the policy is Retain', { record: record({ status: stored.status as KvidxBackupStatus }) }],
    ['the namespace goes', { namespaceTerminating: true }],
    ['the database is gone', { database: undefined }],
    ['the database has no destination any more', { database: database(true, { storage: { size: '1Gi' } }) }],
  ])('leaves the files when %s', (_why, change) => {
    expect(planDeletion({ ...view, ...change })).toMatchObject({ kind: 'release', files: 'kept' })
  })

  test('has nothing to remove when nothing was stored, and removes a VolumeSnapshot itself', () => {
    expect(planDeletion({ ...view, record: record({ deletionPolicy: 'Delete' }) })).toMatchObject({
      kind: 'release',
      files: 'none',
    })
    const disk = record({ deletionPolicy: 'Delete', type: 'VolumeSnapshot', status: { phase: 'Completed' } })
    const snapshot = volumeSnapshot(databaseOf(TO_VOLUME), disk, FROZEN)
    const seen = (change: object = {}) => ({ ...snapshot, metadata: { ...snapshot.metadata, uid: 'u1', ...change } })
    expect(planDeletion({ ...view, record: disk, snapshot: seen() })).toEqual({ kind: 'removeSnapshot', uid: 'u1' })
    expect(planDeletion({ ...view, record: disk })).toMatchObject({ kind: 'release', files: 'none' })
    const { labels } = snapshot.metadata
    const others = [{}, { ...labels, 'kvidx.io/backup': 'other' }, { ...labels, 'kvidx.io/database': 'carts' }]
    for (const foreign of others)
      expect(planDeletion({ ...view, record: disk, snapshot: seen({ labels: foreign }) })).toMatchObject({
        kind: 'release',
        files: 'kept',
      })
  })
})
