import fc from 'fast-check'
import { expect, test } from 'vitest'
import { UnshippedAge } from '../../../sidecar/backup/unshipped-age.ts'

test('the age of the oldest commit that is not shipped', () => {
  const age = new UnshippedAge()
  age.note(1n, 1000)
  age.note(2n, 2000)
  age.note(3n, 5000)
  expect(age.of(0n, 3n, 6000)).toBe(5000)
  age.shipped(1n)
  expect(age.of(1n, 3n, 6000)).toBe(4000)
  age.shipped(2n)
  expect(age.of(2n, 3n, 6000)).toBe(1000)
  expect(age.of(3n, 3n, 6000)).toBe(0)
})

test('it is never told too small, and at most a tenth of a second too large while it is short', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ wait: fc.integer({ min: 0, max: 400 }), ship: fc.integer({ min: 0, max: 20 }) }), {
        maxLength: 200,
      }),
      steps => {
        const age = new UnshippedAge()
        const times: number[] = []
        let now = 0
        let shipped = 0
        for (const { wait, ship } of steps) {
          now += wait
          times.push(now)
          age.note(BigInt(times.length), now)
          if (ship === 0) {
            shipped = times.length - 1
            age.shipped(BigInt(shipped))
          }
          const exact = now - (times[shipped] as number)
          const told = age.of(BigInt(shipped), BigInt(times.length), now)
          expect(told).toBeGreaterThanOrEqual(exact)
          expect(told).toBeLessThanOrEqual(exact + 100)
        }
      },
    ),
  )
})

test('after an hour of backlog it still knows the oldest', () => {
  const age = new UnshippedAge()
  for (let i = 1; i <= 36_000; i++) age.note(BigInt(i), i * 100)
  expect(age.of(0n, 36_000n, 3_600_000)).toBe(3_599_900)
  const told = age.of(18_000n, 36_000n, 3_600_000)
  expect(told).toBeGreaterThanOrEqual(1_799_900)
  expect(told).toBeLessThanOrEqual(1_799_900 + 12_800)
})
