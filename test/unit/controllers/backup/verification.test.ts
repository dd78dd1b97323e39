import { describe, expect, test } from 'vitest'
import { planVerification } from '../../../../src/controllers/backup/plan.ts'
import { awaitsVerification, type BackupRecord, newRecord } from '../../../../src/controllers/backup/record.ts'
import type { Job } from '../../../../src/kube/job.ts'
import { verdictOf } from '../../../../src/pod-job/volume-run.ts'
import { databaseOf, TO_VOLUME } from './blueprints.ts'

const EXACT = {
  phase: 'Completed',
  type: 'VolumeSnapshot',
  verification: 'Pending',
  consistency: 'Exact',
  lineage: 'l1',
  position: '1.42',
  records: 42,
  dataBytes: 4200,
  digest: '0'.repeat(32),
  storedBytes: 20 * 1024 ** 3,
} as const
const FOUND = {
  kind: 'volume',
  phase: 'Completed',
  lineage: 'l1',
  engine: 'SQLite',
  position: '2.42',
  records: 42,
  dataBytes: 4200,
  digest: '0'.repeat(32),
  verifiedAt: '2026-11-23T12:00:00Z',
}

function record(status: BackupRecord['status'], labels: Record<string, string> = {}): BackupRecord {
  const input = { namespace: 'shop', name: 'disk', database: 'orders', type: 'VolumeSnapshot', verify: true } as const
  return { ...newRecord({ ...input, labels }), ...(status && { status }) }
}
const view = (job?: Job, image: string | undefined = 'kvidx:1.0.0') => ({
  record: record(EXACT),
  database: { ...databaseOf(TO_VOLUME), ...(image !== undefined && { status: { image } }) },
  job,
})
const job = (type?: 'Complete' | 'Failed'): Job => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'x' },
  status: { conditions: type ? [{ type, status: 'True', reason: 'Why', message: 'because' }] : [] },
})

describe('a VolumeSnapshot that is to be verified', () => {
  test.each([
    ['stored', EXACT, {}, true],
    ['verified', { ...EXACT, verification: 'Verified' } as const, {}, false],
    ['not asked for', { ...EXACT, verification: 'Skipped' } as const, {}, false],
    ['under way', { ...EXACT, phase: 'Running' } as const, {}, false],
    ['in a store', { ...EXACT, type: 'Full' } as const, {}, false],
    ['found elsewhere', EXACT, { 'kvidx.io/imported': 'true' }, false],
  ])('%s: %#', (_, status, labels, awaits) => expect(awaitsVerification(record(status, labels))).toBe(awaits))

  test('gets a pod with a copy of it that is as large as it was, and that goes with the pod', () => {
    const step = planVerification(view())
    expect(step).toMatchObject({ kind: 'start', change: { phase: 'Completed' } })
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const { containers, volumes } = (step as any).job.spec.template.spec
    expect(containers[0].args.slice(0, 4)).toEqual(['pod-job', 'verify', '--name', 'disk'])
    const copy = volumes.find(({ name }: { name: string }) => name === 'copy')
    expect(copy.ephemeral.volumeClaimTemplate.spec).toMatchObject({
      resources: { requests: { storage: String(EXACT.storedBytes) } },
      storageClassName: 'fast',
      dataSource: { kind: 'VolumeSnapshot', name: 'disk' },
    })
    expect(volumes.map(({ name }: { name: string }) => name)).not.toContain('backups')
  })

  test.each([
    ['there is no database', { ...view(), database: undefined }],
    ['no image is known', { ...view(), database: databaseOf(TO_VOLUME) }],
    ['its job works', view(job())],
  ])('waits while %s', (_, seen) => expect(planVerification(seen)).toEqual({ kind: 'nothing' }))

  test.each(['Complete', 'Failed'] as const)('is not left pending by a job that ended without a word: %s', type => {
    expect(planVerification(view(job(type)))).toMatchObject({
      kind: 'status',
      change: { phase: 'Completed', verification: 'Failed', error: expect.stringContaining('could not be verified') },
    })
  })
})

describe('the verdict on a copy', () => {
  const end = (result: object | undefined) => ({
    exitCode: 0,
    log: '',
    ...(result && { result: JSON.stringify(result) }),
  })

  test('is Verified when it has what was recorded, and the position stays the recorded one', () => {
    expect(verdictOf(EXACT, end(FOUND))).toMatchObject({
      phase: 'Completed',
      verification: 'Verified',
      verifiedAt: '2026-11-23T12:00:00Z',
      position: '1.42',
    })
  })

  test.each([
    ['records', 41],
    ['digest', '1'.repeat(32)],
    ['lineage', 'l2'],
    ['dataBytes', 1],
  ])('is Failed for another %s', (member, value) => {
    expect(verdictOf(EXACT, end({ ...FOUND, [member]: value }))).toMatchObject({
      phase: 'Failed',
      verification: 'Failed',
      code: 'backup_corrupt',
      error: expect.stringContaining(`${member} ${value} instead of`),
    })
  })

  test('of what a power loss would leave is that it is sound, and says what is in it', () => {
    const { position: _p, records: _r, dataBytes: _b, digest: _d, ...crash } = EXACT
    expect(verdictOf({ ...crash, consistency: 'Crash' }, end(FOUND))).toMatchObject({
      verification: 'Verified',
      position: '2.42',
      records: 42,
    })
  })

  test('is Failed for one that cannot be opened, and none without a result', () => {
    const broken = { kind: 'volume', phase: 'Failed', error: 'torn', code: 'engine_corrupt' }
    expect(verdictOf(EXACT, end(broken))).toMatchObject({
      phase: 'Failed',
      verification: 'Failed',
      code: 'engine_corrupt',
    })
    expect(verdictOf(EXACT, end(undefined))).toBeUndefined()
  })
})
