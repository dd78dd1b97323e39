import type { RowSpan } from './tree.ts'

/**
 * Which of the row ids on a leaf stand in their place: those inside the span that form the longest ascending run of all. One damaged id then puts itself
 * in the wrong, not all behind it. `undefined` ids are cells that cannot be read.
 */
export function inPlace(ids: readonly (bigint | undefined)[], span: RowSpan): boolean[] {
  const inside = ids.map(id => id !== undefined && id >= span.first && id <= span.last)
  let ascending = true
  let last: bigint | undefined
  for (const [index, id] of ids.entries()) {
    if (!inside[index]) continue
    if (last !== undefined && (id as bigint) <= last) ascending = false
    last = id
  }
  return ascending ? inside : longestRun(ids, inside)
}

/** Longest strictly ascending subsequence by patience sorting. */
function longestRun(ids: readonly (bigint | undefined)[], inside: readonly boolean[]): boolean[] {
  /** Index of the smallest last member of a run of each length. */
  const tails: number[] = []
  const before: number[] = ids.map(() => -1)
  for (const [index, id] of ids.entries()) {
    if (!inside[index]) continue
    let low = 0
    let high = tails.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((ids[tails[middle] as number] as bigint) < (id as bigint)) low = middle + 1
      else high = middle
    }
    before[index] = low > 0 ? (tails[low - 1] as number) : -1
    tails[low] = index
  }
  const result = ids.map(() => false)
  for (let index = tails.at(-1) ?? -1; index >= 0; index = before[index] as number) result[index] = true
  return result
}
