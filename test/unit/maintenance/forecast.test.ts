import fc from 'fast-check'
import { expect, test } from 'vitest'
import { daysUntilFull, type GrowthSample, withSample } from '../../../sidecar/maintenance/forecast.ts'

const DAY = 24 * 3600_000
const GIB = 1024 ** 3
/** One GiB a day, a sample every ten minutes for three days. */
const steady: GrowthSample[] = Array.from({ length: 433 }, (_, i) => ({ time: i * 600_000, used: (i * GIB) / 144 }))

test('steady growth is told to the day', () => {
  expect(daysUntilFull(steady, 30 * GIB)).toBeCloseTo(30, 5)
  expect(daysUntilFull(steady, 0)).toBe(0)
})

test('a burst or a large deletion hardly moves the forecast', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 380 }), fc.integer({ min: -50, max: 50 }), (at, amount) => {
      const disturbed = steady.map((sample, i) =>
        i >= at && i < at + 50 ? { ...sample, used: sample.used + amount * GIB } : sample,
      )
      expect(Math.abs((daysUntilFull(disturbed, 30 * GIB) ?? 0) - 30)).toBeLessThan(10)
    }),
  )
})

test('shrinking, standing still, a short time and few samples give no forecast', () => {
  expect(
    daysUntilFull(
      steady.map(({ time, used }) => ({ time, used: 9 * GIB - used })),
      GIB,
    ),
  ).toBeUndefined()
  expect(
    daysUntilFull(
      steady.map(({ time }) => ({ time, used: 5 })),
      GIB,
    ),
  ).toBeUndefined()
  expect(daysUntilFull(steady.slice(0, 11), GIB)).toBeUndefined()
  expect(daysUntilFull([], GIB)).toBeUndefined()
})

test('samples older than a week, and from the future, are let go', () => {
  const kept = withSample(
    [
      { time: 0, used: 1 },
      { time: 2 * DAY, used: 2 },
      { time: 99 * DAY, used: 3 },
    ],
    { time: 8 * DAY, used: 4 },
  )
  expect(kept.map(sample => sample.used)).toEqual([2, 4])
})
