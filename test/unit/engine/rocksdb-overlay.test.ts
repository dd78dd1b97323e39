import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Overlay, REMOVED, UNTOUCHED } from '../../../sidecar/engine/rocksdb/overlay.ts'
import { contains, NO_RANGES, withRange } from '../../../sidecar/engine/rocksdb/ranges.ts'

const MAX = (1n << 64n) - 1n
/** Few keys, so that they meet; with the edges. */
const key = fc.oneof(
  fc.bigInt({ min: 0n, max: 40n }),
  fc.bigInt({ min: MAX - 20n, max: MAX }),
  fc.constantFrom((1n << 63n) - 1n, 1n << 63n),
)
const range = fc.tuple(key, key).map(([a, b]) => (a < b ? { start: a, end: b } : { start: b, end: a }))

describe('a set of ranges', () => {
  test('holds exactly the keys of the ranges that went in, as disjoint ranges in order', () => {
    fc.assert(
      fc.property(
        fc.array(range, { maxLength: 30 }),
        fc.array(key, { minLength: 1, maxLength: 50 }),
        (ranges, keys) => {
          const set = ranges.reduce(withRange, NO_RANGES)
          for (const one of keys) {
            expect(contains(set, one)).toBe(ranges.some(({ start, end }) => start <= one && one <= end))
          }
          set.starts.forEach((start, index) => {
            expect(start <= set.ends[index]!).toBe(true)
            if (index > 0) expect(start > set.ends[index - 1]!).toBe(true)
          })
        },
      ),
    )
  })
})

describe('the overlay of a transaction', () => {
  test('answers like a map on which the same was done', () => {
    const step = fc.oneof(
      fc.record({ put: key, place: fc.nat(1000) }),
      fc.record({ remove: key }),
      fc.record({ removeRange: range }),
      fc.record({ list: range }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.array(key, { maxLength: 20 }), (steps, probes) => {
        const overlay = new Overlay()
        const model = new Map<bigint, number>()
        const gone: { start: bigint; end: bigint }[] = []
        const inside = (k: bigint): boolean => gone.some(({ start, end }) => start <= k && k <= end)
        for (const one of steps) {
          if ('put' in one) {
            overlay.put(one.put, one.place)
            model.set(one.put, one.place)
          } else if ('remove' in one) {
            overlay.put(one.remove, REMOVED)
            model.set(one.remove, REMOVED)
          } else if ('removeRange' in one) {
            overlay.removeRange(one.removeRange)
            gone.push(one.removeRange)
            for (const k of model.keys()) {
              if (one.removeRange.start <= k && k <= one.removeRange.end) model.set(k, REMOVED)
            }
          } else {
            const { start, end } = one.list
            const expected = [...model.keys()].filter(k => start <= k && k <= end).sort((a, b) => (a < b ? -1 : 1))
            expect([...overlay.keys(one.list)]).toEqual(expected)
          }
        }
        for (const k of [...probes, ...model.keys()]) {
          expect(overlay.find(k)).toBe(model.get(k) ?? (inside(k) ? REMOVED : UNTOUCHED))
        }
      }),
    )
  })

  test('keeps its order beyond the number of keys that it leaves unsorted', () => {
    const overlay = new Overlay()
    const keys = Array.from({ length: 10_000 }, (_, index) => (BigInt(index) * 0x9e3779b97f4a7c15n) & MAX)
    keys.forEach((one, index) => {
      overlay.put(one, index)
      if (index % 1000 === 0) expect(overlay.keys({ start: 0n, end: MAX }).length).toBe(index + 1)
    })
    const sorted = [...keys].sort((a, b) => (a < b ? -1 : 1))
    expect([...overlay.keys({ start: 0n, end: MAX })]).toEqual(sorted)
    expect([...overlay.keys({ start: sorted[10]!, end: sorted[20]! })]).toEqual(sorted.slice(10, 21))
  })
})
