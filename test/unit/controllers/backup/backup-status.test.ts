import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { KvidxBackupStatus } from '../../../../src/api/v1alpha1/kvidx-backup.ts'
import { type BackupRecord, newRecord, timeText } from '../../../../src/controllers/backup/record.ts'
import { backupStatus, type ShippingStatus, shippingOf } from '../../../../src/controllers/database/backup-status.ts'
import type { CronJob } from '../../../../src/controllers/database/objects/cron-jobs.ts'
import { cronJobs } from '../../../../src/controllers/database/objects/cron-jobs.ts'
import { scheduleTimes } from '../../../../src/controllers/database/schedule-times.ts'
import { blueprint, type Spec } from './blueprints.ts'

const DAY = 86_400_000
/** A Monday, 12:00 UTC: the daily schedule ran ten hours ago. */
const NOW = Date.UTC(2026, 10, 23, 12)

const SPEC: Spec = {
  storage: { size: '1Gi' },
  backup: {
    destination: { s3: { bucket: 'backups' } },
    schedules: [
      { name: 'daily', schedule: '0 2 * * *' },
      { name: 'hourly', schedule: '15 * * * *', type: 'Incremental' },
    ],
    continuous: { enabled: true },
  },
}

function made(schedule: string | undefined, end: number, status: KvidxBackupStatus = {}): BackupRecord {
  const name = `orders-${schedule ?? 'manual'}-${end}`
  const record = newRecord({
    namespace: 'shop',
    name,
    database: 'orders',
    type: 'Full',
    verify: true,
    ...(schedule !== undefined && { schedule, job: `job-${end}` }),
  })
  return {
    ...record,
    metadata: { ...record.metadata, creationTimestamp: timeText(end - 60_000) },
    status: { phase: 'Completed', type: 'Full', completedAt: timeText(end), ...status },
  }
}

interface Situation {
  readonly records?: readonly BackupRecord[]
  readonly shipping?: ShippingStatus
  readonly trimmed?: readonly string[]
  readonly since?: number
  readonly now?: number
  readonly spec?: Spec
  readonly before?: ReturnType<typeof backupStatus>['block']
}

function look(situation: Situation = {}) {
  const { records = [], shipping, trimmed, since = NOW - 30 * DAY, now = NOW, spec = SPEC, before } = situation
  const its = blueprint(spec)
  const jobs = cronJobs(its).map(job => ({
    ...job,
    metadata: { ...job.metadata, creationTimestamp: timeText(since) },
  })) as unknown as readonly CronJob[]
  return backupStatus({ blueprint: its, records, cronJobs: jobs, shipping, trimmed, before, now })
}

const reasonOf = (situation: Situation, type = 'BackupsHealthy') => {
  const found = look(situation).findings.find(finding => finding.type === type)
  return found && `${found.status} ${found.reason}`
}

const current = [
  made('daily', NOW - 10 * 3_600_000, { verifiedAt: timeText(NOW - 9 * 3_600_000) }),
  made('hourly', NOW - 44 * 60_000),
]

describe('BackupsHealthy', () => {
  test.each<[string, Situation, string]>([
    ['all is current', { records: current }, 'True BackupsCurrent'],
    ['nothing was due yet', { since: NOW - 60_000 }, 'Unknown NoBackupYet'],
    ['nothing was made for a whole period', { records: [] }, 'False BackupOverdue'],
    [
      'the hourly one stopped',
      { records: [...current.slice(0, 1), made('hourly', NOW - 3 * 3_600_000)] },
      'False BackupOverdue',
    ],
    [
      'the last run failed',
      { records: [...current, made('hourly', NOW - 1000, { phase: 'Failed', error: 'x' })] },
      'False BackupFailed',
    ],
    [
      'one that failed was followed by a good one',
      { records: [...current, made('daily', NOW - 2 * DAY, { phase: 'Failed', error: 'x' })] },
      'True BackupsCurrent',
    ],
    [
      'the store does not answer',
      { records: [...current, made(undefined, NOW, { phase: 'Failed', code: 'store_unreachable' })] },
      'False StoreUnreachable',
    ],
    ['changes are not shipped', { records: current, shipping: { age: 300_000, changes: 7 } }, 'False BackupBehind'],
    ['changes wait for a moment', { records: current, shipping: { age: 59_000, changes: 7 } }, 'True BackupsCurrent'],
    ['changes were lost on the way', { records: current, shipping: { gap: NOW - 1000 } }, 'False ChangeLogTrimmed'],
    ['a Full came after the loss', { records: current, shipping: { gap: NOW - DAY } }, 'True BackupsCurrent'],
    [
      'the log was cut before a schedule had everything',
      { records: current, trimmed: ['schedule/hourly'] },
      'False ChangeLogTrimmed',
    ],
    ['… a schedule that is gone', { records: current, trimmed: ['schedule/weekly'] }, 'True BackupsCurrent'],
    [
      'another history is in the store',
      { records: current, shipping: { error: { code: 'history_conflict', message: '1.7' } } },
      'False HistoryConflict',
    ],
    [
      'all schedules are suspended',
      { spec: { ...SPEC, backup: { ...SPEC.backup, suspend: true } } as Spec },
      'False BackupsSuspended',
    ],
    ['there is no spec.backup', { spec: { storage: { size: '1Gi' } } }, 'Unknown NoBackups'],
  ])('when %s', (_what, situation, expected) => {
    expect(reasonOf(situation)).toBe(expected)
  })

  test('names the schedule for which changes are gone', () => {
    const { findings } = look({ records: current, trimmed: ['continuous', 'schedule/hourly'] })
    expect(findings.find(({ type }) => type === 'BackupsHealthy')?.values).toEqual({ consumer: 'schedule hourly' })
  })

  test('says nothing of a database that sleeps', () => {
    expect(look({ spec: { ...SPEC, hibernate: true } as Spec }).findings).toEqual([])
  })

  test('does not count a failure of an earlier life of the name', () => {
    const failed = made('daily', NOW - 10 * 3_600_000, { phase: 'Failed', error: 'x' })
    const input = {
      blueprint: blueprint(SPEC),
      records: [failed],
      cronJobs: [],
      shipping: undefined,
      before: undefined,
    }
    const reason = (created: number) =>
      backupStatus({ ...input, created: timeText(created), now: NOW }).findings[0]?.reason
    expect(reason(NOW - 11 * 3_600_000)).toBe('BackupFailed')
    expect(reason(NOW - 9 * 3_600_000)).toBe('NoBackupYet')
  })

  test('does not count a backup of an earlier life of the name', () => {
    const its = { ...blueprint(SPEC), lineage: 'new' }
    const records = [made('daily', NOW - 10 * 3_600_000, { lineage: 'old' })]
    const { block } = backupStatus({
      blueprint: its,
      records,
      cronJobs: [],
      shipping: undefined,
      before: undefined,
      now: NOW,
    })
    expect(block?.lastSuccessful).toBeUndefined()
  })
})

describe('BackupVerified', () => {
  const drill = (result: 'Failed' | 'Succeeded', time: number): ShippingStatus => ({
    drill: { result, time: timeText(time), message: 'a file is damaged' },
  })

  test('stays False while the pod does not say how the drill went', () => {
    const situation = { records: current, shipping: drill('Failed', NOW - 1000) }
    const { block: before } = look(situation)
    expect(reasonOf({ records: current, before }, 'BackupVerified')).toBe('False DrillFailed')
  })

  test.each<[string, Situation, string | undefined]>([
    ['a backup was verified', { records: current }, 'True Verified'],
    ['none was yet', { records: [made('hourly', NOW)] }, 'Unknown NotVerified'],
    [
      'the newest proof is old',
      { records: [made('daily', NOW - 3 * DAY, { verifiedAt: timeText(NOW - 3 * DAY) })] },
      'False VerificationOverdue',
    ],
    [
      'a verification failed',
      { records: [...current, made('daily', NOW, { phase: 'Failed', verification: 'Failed', error: 'digest' })] },
      'False VerificationFailed',
    ],
    ['the last drill failed', { records: current, shipping: drill('Failed', NOW - 1000) }, 'False DrillFailed'],
    [
      'the last drill failed, and nothing was ever verified',
      { records: [made('hourly', NOW)], shipping: drill('Failed', NOW - 1000) },
      'False DrillFailed',
    ],
    [
      'a drill failed and a later backup was verified',
      { records: current, shipping: drill('Failed', NOW - 10 * 3_600_000) },
      'True Verified',
    ],
    ['the last drill held', { records: current, shipping: drill('Succeeded', NOW - 1000) }, 'True Verified'],
    [
      'one failed and a later one held',
      { records: [...current, made('daily', NOW - 2 * DAY, { phase: 'Failed', verification: 'Failed' })] },
      'True Verified',
    ],
  ])('when %s', (_what, situation, expected) => {
    expect(reasonOf(situation, 'BackupVerified')).toBe(expected)
  })
})

describe('a schedule that goes on', () => {
  const old = made('daily', NOW - 9 * DAY, { verifiedAt: timeText(NOW - 9 * DAY) })
  const spec = {
    ...SPEC,
    backup: { ...SPEC.backup, schedules: [{ name: 'daily', schedule: '0 2 * * *', verify: true }] },
  } as Spec
  const reasons = (situation: Situation) => look({ records: [old], spec, ...situation }).findings.map(f => f.reason)

  test.each<[string, Spec]>([
    ['the database slept', { ...spec, hibernate: true }],
    ['backups were suspended', { ...spec, backup: { ...spec.backup, suspend: true } } as Spec],
  ])('after %s is overdue only when it misses runs from then on', (_why, quiet) => {
    const before = look({ records: [old], spec: quiet }).block
    const resumed = look({ records: [old], spec, before }).block
    expect(resumed?.schedules).toMatchObject([{ name: 'daily', resumed: timeText(NOW) }])
    expect(reasons({ before })).toEqual(['BackupsCurrent', 'Verified'])
    // at rest the moment stays
    expect(look({ records: [old], spec, before: resumed, now: NOW + 60_000 }).block).toEqual(resumed)
    // the run of the first night may be going on during the second day
    expect(reasons({ before: resumed, now: NOW + DAY })).toEqual(['BackupsCurrent', 'Verified'])
    expect(reasons({ before: resumed, now: NOW + 2 * DAY })).toEqual(['BackupOverdue', 'VerificationOverdue'])
    // one that never stopped
    expect(reasons({ before: look({ records: [old], spec }).block })).toEqual(['BackupOverdue', 'VerificationOverdue'])
  })

  test('is not taken for one that has no next run', () => {
    const never = {
      ...spec,
      backup: { ...spec.backup, schedules: [{ name: 'never', schedule: '0 0 30 2 *' }] },
    } as Spec
    const before = look({ spec: never }).block
    expect(look({ spec: never, before }).block).toEqual(before)
  })
})

describe('status.backup', () => {
  test('names the newest backups, and the next run of each schedule in its time zone', () => {
    const { block } = look({
      records: current,
      spec: { ...SPEC, backup: { ...SPEC.backup, timeZone: 'America/New_York' } } as Spec,
    })
    expect(block).toMatchObject({
      lastSuccessful: { name: current[1]?.metadata.name },
      lastVerified: { name: current[0]?.metadata.name },
      schedules: [
        { name: 'daily', nextRun: '2026-11-24T07:00:00Z', lastBackup: current[0]?.metadata.name },
        { name: 'hourly', nextRun: '2026-11-23T12:15:00Z' },
      ],
    })
  })

  test('at rest does not change with time alone, until a run is due', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 14 * 60_000 }), fc.integer({ min: 0, max: 59_000 }), (later, age) => {
        const shipping = { age, changes: 3, from: NOW - 7 * DAY }
        expect(look({ records: current, shipping, now: NOW + later })).toEqual(look({ records: current, shipping }))
      }),
    )
  })

  test('is absent rather than empty, which server-side apply cannot keep', () => {
    const backup = { ...SPEC.backup, schedules: [], continuous: { enabled: false } }
    expect(look({ spec: { ...SPEC, backup } as Spec }).block).toBeUndefined()
  })

  test('tells of a backlog in steps, not at every look', () => {
    const its = blueprint(SPEC)
    const at = (age: number, before?: number) =>
      backupStatus({
        blueprint: its,
        records: [],
        cronJobs: [],
        shipping: { age },
        before: before === undefined ? undefined : { unshippedSeconds: before },
        now: NOW,
      }).block?.unshippedSeconds
    expect(at(59_999)).toBe(0)
    expect(at(61_000, 0)).toBe(61)
    expect(at(100_000, 61)).toBe(61)
    expect(at(130_000, 61)).toBe(130)
  })
})

describe('the answer of the engine process', () => {
  test('is read as it is given', () => {
    expect(
      shippingOf({
        failures: 0,
        catalog: { time: 'x', backups: 1, segments: 2 },
        recoveryWindow: { from: '2026-11-20T00:00:00.000Z', fromPosition: '1.1', toPosition: '1.9' },
        continuous: {
          state: 'Shipping',
          backlogChanges: 4,
          rpoMs: 120,
          segments: 1,
          bytes: 1,
          gaps: [{ after: '1.1', before: '1.4', time: 5 }],
        },
        drill: {
          kind: 'drill',
          phase: 'Completed',
          time: '2026-11-22T00:00:00Z',
          rtoMs: 1499,
          completedAt: '2026-11-23T00:00:00.123Z',
        },
      }),
    ).toEqual({
      age: 120,
      changes: 4,
      from: Date.UTC(2026, 10, 20),
      gap: 5,
      drill: { time: '2026-11-23T00:00:00Z', result: 'Succeeded', target: '2026-11-22T00:00:00Z', restoreSeconds: 1 },
    })
  })

  test('may be anything at all without harm', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom('continuous', 'catalog', 'recoveryWindow', 'drill'), fc.anything()),
        answer => {
          const plain = JSON.parse(JSON.stringify(answer) ?? '{}') as Record<string, unknown>
          expect(() => shippingOf(plain)).not.toThrow()
        },
      ),
    )
  })
})

describe('times of a schedule', () => {
  test('cross the change to summer time: 02:30 is not there that night', () => {
    const now = Date.UTC(2026, 2, 29, 12)
    const { previous, beforePrevious, next } = scheduleTimes('30 2 * * *', 'Europe/Berlin', now)
    expect([beforePrevious, previous, next].map(time => timeText(time ?? 0))).toMatchInlineSnapshot(`
      [
        "2026-03-28T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
      ]
    `)
  })

  test('of a run that is due this very second say that it was', () => {
    expect(scheduleTimes('0 * * * *', 'Etc/UTC', NOW)).toEqual({
      previous: NOW,
      beforePrevious: NOW - 3_600_000,
      next: NOW + 3_600_000,
    })
  })
})
