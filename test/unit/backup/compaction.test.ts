import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Segment } from '../../../sidecar/backup/catalog.ts'
import { type CompactionPolicy, planCompaction } from '../../../sidecar/backup/compaction.ts'
import { follow } from '../../../sidecar/backup/line.ts'

const POLICY: CompactionPolicy = { levels: [1000, 20_000], minFiles: 4, graceMs: 1000 }

function segment(epoch: number, first: number, last: number, size: number, modified = 0): Segment {
  return {
    key: `${epoch}-${first}-${last}`,
    epoch: BigInt(epoch),
    first: BigInt(first),
    last: BigInt(last),
    size,
    modified,
    encrypted: false,
  }
}

/** How far one can read from seq 0 of an epoch. */
function reach(segments: readonly Segment[], epoch: bigint): bigint {
  const pieces = segments.filter(s => s.epoch === epoch).map(s => ({ from: s.first - 1n, to: s.last, source: s }))
  return follow(pieces, 0n, 2n ** 64n).reached
}

describe('the plan of a compaction', () => {
  it('merges runs of small segments, not across gaps, epochs or sizes, and not too few', () => {
    const small = Array.from({ length: 6 }, (_, i) => segment(1, i * 10 + 1, i * 10 + 10, 100))
    const other = Array.from({ length: 4 }, (_, i) => segment(2, 61 + i, 61 + i, 100))
    const behindGap = Array.from({ length: 3 }, (_, i) => segment(2, 80 + i, 80 + i, 100))
    const { merges, obsolete } = planCompaction([...small, ...other, ...behindGap], POLICY, 0)
    expect(merges).toEqual([small, other])
    expect(obsolete).toEqual([])
  })

  it('lets go what a larger segment holds, once that is old enough', () => {
    const parts = [segment(1, 1, 5, 100), segment(1, 6, 9, 100)]
    const merged = segment(1, 1, 9, 190, 5000)
    const all = [parts[0]!, merged, parts[1]!]
    expect(planCompaction(all, POLICY, 5999).obsolete).toEqual([])
    expect(planCompaction(all, POLICY, 6000).obsolete).toEqual(parts.map(segment => ({ segment, cover: merged })))
  })

  it('never loses a change: after any number of rounds everything is as reachable as before, in fewer files', () => {
    const sizes = fc.array(
      fc.record({
        length: fc.integer({ min: 1, max: 9 }),
        size: fc.integer({ min: 50, max: 900 }),
        gap: fc.integer({ min: 0, max: 20 }),
      }),
      { minLength: 1, maxLength: 120 },
    )
    fc.assert(
      fc.property(sizes, items => {
        let segments: Segment[] = []
        let seq = 0
        for (const { length, size, gap } of items) {
          if (gap === 0) seq += 3
          segments.push(segment(1, seq + 1, seq + length, size))
          seq += length
        }
        const before = reach(segments, 1n)
        const count = segments.length
        for (let now = 1; now < 6; now++) {
          const { merges, obsolete } = planCompaction(segments, POLICY, now * 10_000)
          for (const run of merges) {
            const size = run.reduce((sum, s) => sum + s.size, 0)
            expect(size).toBeLessThanOrEqual(20_000)
            segments.push(segment(1, Number(run[0]!.first), Number(run.at(-1)!.last), size, now * 10_000))
          }
          segments = segments
            .filter(s => !obsolete.some(({ segment }) => segment === s))
            .sort((a, b) => Number(a.first - b.first) || Number(a.last - b.last))
          expect(reach(segments, 1n)).toBe(before)
          expect(new Set(segments.map(s => s.key)).size).toBe(segments.length)
        }
        expect(segments.length).toBeLessThanOrEqual(count)
      }),
      { numRuns: 100 },
    )
  })
})
