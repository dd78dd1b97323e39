import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  planRetention,
  type RetainedBackup,
  type RetainedSegment,
  type RetentionPolicy,
} from '../../../sidecar/backup/retention.ts'
import type { EpochRecord } from '../../../sidecar/database/database.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const EPOCHS: EpochRecord[] = [{ epoch: 1n, forkSeq: 0n, reason: 'created', time: 0n }]
const GUIDE: RetentionPolicy = { daily: 7, weekly: 4, monthly: 12, last: 0, windowMs: 0, timeZone: 'Etc/UTC' }
const START = Date.UTC(2023, 10, 23)
const NOW = Date.UTC(2026, 10, 23, 22)

function full(time: number, rest: Partial<RetainedBackup> = {}): RetainedBackup {
  return {
    id: new Date(time).toISOString(),
    kind: 'Full',
    time,
    commitTime: time - 1000,
    position: { epoch: 1n, seq: BigInt(Math.floor((time - START) / 1000)) },
    good: true,
    verified: true,
    manual: false,
    ...rest,
  }
}

function increment(time: number, parent: RetainedBackup, rest: Partial<RetainedBackup> = {}): RetainedBackup {
  return full(time, { id: `inc ${new Date(time).toISOString()}`, kind: 'Incremental', parent, ...rest })
}

function kept(backups: RetainedBackup[], policy: Partial<RetentionPolicy> = {}, now = NOW): string[] {
  const plan = planRetention({ backups, segments: [], epochs: EPOCHS }, { ...GUIDE, ...policy }, now)
  expect(plan.backups.map(decision => decision.id)).toEqual(backups.map(backup => backup.id))
  for (const decision of plan.backups) expect(decision.reasons.length).toBeGreaterThan(0)
  return plan.backups.filter(decision => decision.keep).map(decision => decision.id)
}

/** Calendar units by another way than the planner's: Sweden writes dates as ISO does, and weeks are counted from a known Monday. */
function unitsOf(time: number, timeZone: string): { day: string; week: number; month: string } {
  const day = new Date(time).toLocaleDateString('sv-SE', { timeZone })
  const week = Math.floor((Date.parse(day) - Date.parse('2018-01-01')) / (7 * DAY))
  return { day, week, month: day.slice(0, 7) }
}

describe('retention by the calendar', () => {
  it('keeps the last of 7 days, the last of 4 weeks and the first of 12 months of three years of daily backups', () => {
    const backups: RetainedBackup[] = []
    for (let time = START + 2 * HOUR; time < NOW; time += DAY) backups.push(full(time))
    expect(kept(backups).map(id => id.slice(0, 10))).toEqual([
      // first of each of the 12 latest months
      ...['2025-12-01', '2026-01-01', '2026-02-01', '2026-03-01', '2026-04-01', '2026-05-01'],
      ...['2026-06-01', '2026-07-01', '2026-08-01', '2026-09-01', '2026-10-01', '2026-11-01'],
      // Sundays of the weeks before, then the latest days
      ...['2026-11-08', '2026-11-15', '2026-11-17', '2026-11-18', '2026-11-19', '2026-11-20', '2026-11-21'],
      ...['2026-11-22', '2026-11-23'],
    ])
  })

  it('keeps exactly the 7/4/12 of any history with gaps, in any zone, across DST', () => {
    const zones = [
      'Etc/UTC',
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Pacific/Apia',
      'Asia/Kathmandu',
    ]
    const hours = fc.uniqueArray(fc.integer({ min: 0, max: 3 * 365 * 24 }), { minLength: 1, maxLength: 400 })
    fc.assert(
      fc.property(
        hours,
        fc.constantFrom(...zones),
        fc.nat({ max: 9 }),
        fc.nat({ max: 6 }),
        fc.nat({ max: 14 }),
        (when, timeZone, daily, weekly, monthly) => {
          const backups = when.sort((a, b) => a - b).map(hour => full(START + hour * HOUR + 17))
          const expected = new Set<string>()
          const pick = (unit: 'day' | 'week' | 'month', count: number, first: boolean) => {
            const groups = new Map<string | number, RetainedBackup>()
            for (const backup of first ? [...backups].reverse() : backups)
              groups.set(unitsOf(backup.time, timeZone)[unit], backup)
            const chosen = [...groups.values()].sort((a, b) => b.time - a.time).slice(0, count)
            for (const backup of chosen) expected.add(backup.id)
            expect(chosen).toHaveLength(Math.min(count, groups.size))
          }
          pick('day', daily, false)
          pick('week', weekly, false)
          pick('month', monthly, true)
          // beside the calendar: the newest verified one, and the parents of the last 24 h (here: the newest, as all are older)
          expected.add(backups.at(-1)!.id)
          const later = START + 4 * 365 * DAY
          expect(kept(backups, { daily, weekly, monthly, timeZone }, later)).toEqual([...expected].sort())
        },
      ),
      { numRuns: 60 },
    )
  })

  it('counts a backup for the day on the wall of its time zone', () => {
    // 00:30 and 23:30 of the 25th of October in Berlin, a day of 25 hours
    const early = full(Date.UTC(2026, 9, 24, 22, 30))
    const late = full(Date.UTC(2026, 9, 25, 22, 30))
    const policy = { daily: 7, weekly: 0, monthly: 0 }
    expect(kept([early, late], { ...policy, timeZone: 'Europe/Berlin' })).toEqual([late.id])
    expect(kept([early, late], { ...policy, timeZone: 'Etc/UTC' })).toEqual([early.id, late.id])
  })

  it('refuses a time zone that does not exist', () => {
    expect(() => kept([full(START)], { timeZone: 'Europe/Atlantis' })).toThrow(/Europe\/Atlantis/)
  })

  it('keeps the newest N besides, and nothing by a count of 0', () => {
    const backups = Array.from({ length: 10 }, (_, i) => full(START + i * DAY))
    const none = { daily: 0, weekly: 0, monthly: 0 }
    expect(kept(backups, { ...none, last: 3 })).toEqual(backups.slice(-3).map(b => b.id))
    expect(kept(backups, none)).toEqual([backups.at(-1)!.id])
  })

  it('counts VolumeSnapshots apart', () => {
    const fulls = Array.from({ length: 10 }, (_, i) => full(START + i * DAY))
    const disks = Array.from({ length: 10 }, (_, i) =>
      full(START + i * DAY + HOUR, { kind: 'VolumeSnapshot', id: `disk ${i}` }),
    )
    const result = kept([...fulls, ...disks], { daily: 7, weekly: 0, monthly: 0 })
    expect(result.filter(id => id.startsWith('disk'))).toEqual(disks.slice(-7).map(d => d.id))
    expect(result.filter(id => !id.startsWith('disk'))).toEqual(fulls.slice(-7).map(f => f.id))
  })
})

describe('what retention never does', () => {
  const history = fc
    .array(
      fc.record({
        gap: fc.integer({ min: 1, max: 200 }),
        kind: fc.constantFrom('Full', 'Full', 'Incremental', 'Incremental', 'VolumeSnapshot'),
        good: fc.boolean(),
        verified: fc.boolean(),
        manual: fc.integer({ max: 9, min: 0 }).map(n => n === 0),
        parent: fc.nat(3),
      }),
      { minLength: 1, maxLength: 80 },
    )
    .map(items => {
      const backups: RetainedBackup[] = []
      let time = START
      for (const { gap, kind, good, verified, manual, parent } of items) {
        time += gap * HOUR
        const parents = backups.filter(b => b.kind !== 'VolumeSnapshot')
        const chosen = parents.at(-1 - parent)
        const state = { good: good || verified, verified, manual }
        if (kind === 'Incremental' && chosen) backups.push(increment(time, chosen, state))
        else
          backups.push(full(time, { ...state, kind: kind === 'VolumeSnapshot' ? kind : 'Full', id: `${kind} ${time}` }))
      }
      return backups
    })
  const policies = fc.record({
    daily: fc.nat(8),
    weekly: fc.nat(5),
    monthly: fc.nat(13),
    last: fc.nat(4),
    windowMs: fc.nat(40).map(days => days * DAY),
    timeZone: fc.constantFrom('Etc/UTC', 'America/New_York', 'Asia/Kolkata'),
  })

  it('breaks no chain, removes no hand-made one, no newest verified, no parent of the last 24 h', () => {
    fc.assert(
      fc.property(history, policies, fc.nat(60), (backups, policy, later) => {
        const now = backups.at(-1)!.time + later * HOUR
        const result = new Set(kept(backups, policy, now))
        for (const backup of backups) {
          if (result.has(backup.id) && backup.parent)
            expect(result.has(backup.parent.id), `parent of ${backup.id}`).toBe(true)
          if (backup.manual) expect(result.has(backup.id), 'made by hand').toBe(true)
          if (backup.kind !== 'VolumeSnapshot' && backup.time >= now - DAY) expect(result.has(backup.id)).toBe(true)
        }
        const before = backups.findLast(b => b.kind !== 'VolumeSnapshot' && b.time < now - DAY)
        if (before) expect(result.has(before.id), 'the newest parent of a day ago').toBe(true)
        const proven = backups.findLast(b => b.kind === 'Full' && b.verified)
        if (proven) expect(result.has(proven.id), 'the newest verified Full').toBe(true)
        if (backups.some(b => b.kind === 'Full'))
          expect(backups.some(b => b.kind === 'Full' && result.has(b.id))).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  it('is stable: what it keeps, it keeps when asked again after the deletion', () => {
    fc.assert(
      fc.property(history, policies, (backups, policy) => {
        const now = backups.at(-1)!.time + HOUR
        const first = kept(backups, policy, now)
        const left = backups.filter(b => first.includes(b.id))
        expect(kept(left, policy, now)).toEqual(first)
      }),
      { numRuns: 300 },
    )
  })

  it('lets every moment of the window be restored that could be before', () => {
    const fc_segments = fc.array(
      fc.record({ length: fc.integer({ min: 1, max: 40 }), lost: fc.integer({ min: 0, max: 7 }).map(n => n === 0) }),
      {
        minLength: 1,
        maxLength: 60,
      },
    )
    fc.assert(
      fc.property(
        fc_segments,
        fc.uniqueArray(fc.nat(999), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 900 }),
        (parts, at, window) => {
          // one change an hour: seq n was committed in hour n
          const segments: RetainedSegment[] = []
          let seq = 0
          for (const { length, lost } of parts) {
            if (!lost) segments.push(segment(seq + 1, seq + length, START + (seq + length) * HOUR))
            seq += length
          }
          const fulls = at
            .map(fraction => Math.floor((fraction * seq) / 1000))
            .filter((value, i, all) => all.indexOf(value) === i)
            .sort((a, b) => a - b)
            .map(n => full(START + n * HOUR, { position: { epoch: 1n, seq: BigInt(n) }, commitTime: START + n * HOUR }))
          const now = START + seq * HOUR
          const policy = { ...GUIDE, daily: 0, weekly: 0, monthly: 0, windowMs: window * HOUR }
          const plan = planRetention({ backups: fulls, segments, epochs: EPOCHS }, policy, now)
          const keptFulls = fulls.filter((_, i) => plan.backups[i]!.keep)
          const keptSegments = segments.filter((_, i) => plan.segments[i]!.keep)
          const first = Math.max(0, seq - window)
          for (let moment = first; moment <= seq; moment++) {
            if (restorable(fulls, segments, moment))
              expect(restorable(keptFulls, keptSegments, moment), `hour ${moment}`).toBe(true)
          }
        },
      ),
      { numRuns: 200 },
    )
  })
})

describe('segments and branches', () => {
  const epochs: EpochRecord[] = [
    { epoch: 1n, forkSeq: 0n, reason: 'created', time: 0n },
    { epoch: 2n, parentEpoch: 1n, forkSeq: 100n, reason: 'restored', time: 0n },
  ]

  it('lets go what lies before the base of the window, and an abandoned branch once the window has passed it', () => {
    const base = full(NOW - 30 * DAY, { position: { epoch: 2n, seq: 150n } })
    const segments = [
      segment(1, 100, NOW - 60 * DAY),
      { ...segment(101, 140, NOW - 50 * DAY), id: 'old branch' },
      { ...segment(141, 180, NOW - 2 * DAY), id: 'young branch' },
      { ...segment(101, 150, NOW - 40 * DAY), epoch: 2n, id: 'before the base' },
      { ...segment(151, 160, NOW - 20 * DAY), epoch: 2n, id: 'after the base' },
      { ...segment(140, 155, NOW - 20 * DAY), epoch: 2n, id: 'across the base' },
    ]
    const plan = planRetention({ backups: [base], segments, epochs }, { ...GUIDE, windowMs: 7 * DAY }, NOW)
    expect(plan.segments.filter(d => d.keep).map(d => d.id)).toEqual([
      'young branch',
      'after the base',
      'across the base',
    ])
  })

  it('lets all of an ended lineage go, its newest verified and its segments, but what was made by hand and what the numbers keep', () => {
    const zeros = { ...GUIDE, daily: 0, weekly: 0, monthly: 0 }
    const [old, newest] = [full(NOW - 90 * DAY), full(NOW - 60 * DAY)]
    const segments = [segment(1, 5, NOW - 60 * DAY)]
    const keeps = (backups: RetainedBackup[], policy: RetentionPolicy) => {
      const plan = planRetention({ backups, segments, epochs: EPOCHS }, policy, NOW)
      return [...plan.backups, ...plan.segments].filter(({ keep }) => keep).map(({ id }) => id)
    }
    const child = increment(NOW - 59 * DAY, newest)
    expect(keeps([old, newest, child], { ...zeros, ended: true })).toEqual([])
    expect(keeps([old, newest, child], zeros)).toContain(newest.id)
    expect(keeps([old, newest, child], { ...zeros, last: 1, ended: true })).toEqual([newest.id])
    const mine = { ...child, manual: true }
    expect(keeps([old, newest, mine], { ...zeros, ended: true })).toEqual([newest.id, mine.id])
  })

  it('keeps every segment while there is no good Full', () => {
    const backups = [full(NOW - 30 * DAY, { good: false, verified: false })]
    const plan = planRetention({ backups, segments: [segment(1, 5, START)], epochs }, GUIDE, NOW)
    expect(plan.segments[0]!.keep).toBe(true)
    expect(plan.backups[0]!.keep).toBe(true)
  })

  it('lets an unproven Full go only when a newer good one exists and a day has passed', () => {
    const unproven = full(NOW - 3 * DAY, { good: false, verified: false })
    const newer = full(NOW - 2 * DAY)
    expect(kept([unproven], { daily: 0 })).toEqual([unproven.id])
    expect(kept([unproven, newer], { daily: 0 })).toEqual([newer.id])
  })
})

function segment(first: number, last: number, time: number): RetainedSegment {
  return { id: `segment ${first}-${last}`, epoch: 1n, first: BigInt(first), last: BigInt(last), time }
}

/** By trying every way: is there a Full at or before the moment from which stored changes lead to it? */
function restorable(fulls: readonly RetainedBackup[], segments: readonly RetainedSegment[], moment: number): boolean {
  return fulls.some(base => {
    const at = Number(base.position.seq)
    if (at > moment) return false
    for (let seq = at + 1; seq <= moment; seq++) {
      if (!segments.some(s => Number(s.first) <= seq && seq <= Number(s.last))) return false
    }
    return true
  })
}
