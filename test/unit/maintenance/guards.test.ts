import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { firstReading, nextReading } from '../../../sidecar/maintenance/clock-guard.ts'
import { degradations } from '../../../sidecar/maintenance/degradations.ts'
import { ENOUGH_SPACE, engineIsFull, judgeSpace, type Room } from '../../../sidecar/maintenance/no-space.ts'

const MIB = 1024 * 1024
const room = (free: number, more: Partial<Room> = {}): Room => ({
  size: 1000 * MIB,
  free: free * MIB,
  log: 0,
  pending: 0,
  reusable: 0,
  ...more,
})
const rules = { reserve: 100 * MIB, ballast: 20 * MIB }

describe('the space of a volume', () => {
  test('is short below the reserve, and enough again only a quarter and the ballast above it', () => {
    expect(judgeSpace(ENOUGH_SPACE, room(101), rules, 0).active).toBe(false)
    const full = judgeSpace(ENOUGH_SPACE, room(99), rules, 0)
    expect(full).toMatchObject({ active: true, message: '99.0 MiB of 1000.0 MiB are free, the reserve is 100.0 MiB' })
    expect(judgeSpace(full, room(144), rules, 1).active).toBe(true)
    expect(judgeSpace(full, room(146), rules, 1).active).toBe(false)
  })

  test('counts pages that can be used again, and not what the log will need a second time', () => {
    expect(judgeSpace(ENOUGH_SPACE, room(50, { reusable: 60 * MIB }), rules, 0).active).toBe(false)
    expect(judgeSpace(ENOUGH_SPACE, room(150, { pending: 60 * MIB }), rules, 0).active).toBe(true)
  })

  test('is short near the limit of a map although the disk has room', () => {
    const below = { limit: 1000 * MIB, used: 960 * MIB }
    expect(judgeSpace(ENOUGH_SPACE, room(500, { below }), rules, 0).active).toBe(true)
    expect(judgeSpace(ENOUGH_SPACE, room(500, { below: { ...below, used: 900 * MIB } }), rules, 0).active).toBe(false)
  })

  test('is short for a while when the engine says so, whatever the figures are', () => {
    const full = engineIsFull('database or disk is full', 1000)
    expect(judgeSpace(full, room(900), rules, 5999)).toBe(full)
    expect(judgeSpace(full, room(900), rules, 6000).active).toBe(false)
  })

  test('never changes its state twice without a change of a quarter of the reserve', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 80, max: 170 }), { minLength: 2, maxLength: 60 }), frees => {
        let state = ENOUGH_SPACE
        let changedAt: number | undefined
        for (const free of frees) {
          const next = judgeSpace(state, room(free), rules, 0)
          if (next.active !== state.active) {
            if (changedAt !== undefined) expect(Math.abs(free - changedAt)).toBeGreaterThanOrEqual(25)
            changedAt = free
          }
          state = next
        }
      }),
    )
  })
})

describe('the clock', () => {
  const HOUR = 3600_000
  const start = { wall: 1_000 * HOUR, monotonic: 5 }

  test('a jump in either direction closes expiry for ten stable minutes', () => {
    for (const by of [61_000, -61_000, 48 * HOUR]) {
      let state = nextReading({ anchor: start }, { wall: start.wall + 1000 + by, monotonic: 1005 })
      expect(state.jump).toBeDefined()
      state = nextReading(state, { wall: start.wall + by + 600_000, monotonic: 600_005 })
      expect(state.jump).toBeDefined()
      state = nextReading(state, { wall: start.wall + by + 601_001, monotonic: 601_006 })
      expect(state.jump).toBeUndefined()
    }
  })

  test('slewing by NTP is no jump, however long it goes on', () => {
    let state = firstReading(start, start.wall)
    for (let second = 2; second < 400_000; second += 40) {
      const monotonic = start.monotonic + second * 1000
      state = nextReading(state, { wall: start.wall + second * 1000 * 1.0005, monotonic })
      expect(state.jump).toBeUndefined()
    }
  })

  test('a start more than a day past the last commit, or before it, waits', () => {
    expect(firstReading(start, 0).jump).toBeUndefined()
    expect(firstReading(start, start.wall - 23 * HOUR).jump).toBeUndefined()
    expect(firstReading(start, start.wall - 25 * HOUR).jump?.message).toBe('the clock is 90000 s past the last commit')
    expect(firstReading(start, start.wall + 2 * HOUR).jump?.message).toBe('the clock is 7200 s behind the last commit')
  })
})

test('degradations are named, each for itself', () => {
  const thresholds = { walSize: 100 * MIB, fragmentation: 0.3 }
  const figures = { fileBytes: 200 * MIB, walBytes: 100 * MIB, freeBytes: 0, fragmentation: 0.3 }
  expect(degradations(figures, thresholds, 5000)).toEqual([])
  expect(degradations({ ...figures, walBytes: 101 * MIB }, thresholds, 0).map(d => d.reason)).toEqual(['LargeWal'])
  expect(degradations({ ...figures, fragmentation: 0.31 }, thresholds, 0).map(d => d.reason)).toEqual(['Fragmented'])
  expect(degradations(undefined, thresholds, 5001).map(d => d.reason)).toEqual(['SlowDisk'])
})
