import type { Key, KeyRange } from '../engine.ts'

/** A set of keys as disjoint ranges in order. Never changed in place, so whoever walks one keeps what it had. */
export interface RangeSet {
  readonly starts: readonly Key[]
  readonly ends: readonly Key[]
}

export const NO_RANGES: RangeSet = { starts: [], ends: [] }

/** `range` must not be empty. */
export function withRange({ starts, ends }: RangeSet, range: KeyRange): RangeSet {
  // All that touches the new range becomes one with it.
  const first = firstAtLeast(ends, range.start)
  let last = first
  let { start, end } = range
  for (; last < starts.length; last++) {
    const left = starts[last]
    const right = ends[last]
    if (left === undefined || right === undefined || left > range.end) break
    if (left < start) start = left
    if (right > end) end = right
  }
  return {
    starts: [...starts.slice(0, first), start, ...starts.slice(last)],
    ends: [...ends.slice(0, first), end, ...ends.slice(last)],
  }
}

export function contains({ starts, ends }: RangeSet, key: Key): boolean {
  const start = starts[firstAtLeast(ends, key)]
  return start !== undefined && start <= key
}

/** Index of the first element >= `key` of an ascending list. */
export function firstAtLeast(list: { readonly length: number; readonly [index: number]: Key }, key: Key): number {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const value = list[middle]
    if (value !== undefined && value < key) low = middle + 1
    else high = middle
  }
  return low
}
