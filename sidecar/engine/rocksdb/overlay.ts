import type { Key, KeyRange } from '../engine.ts'
import { contains, firstAtLeast, NO_RANGES, type RangeSet, withRange } from './ranges.ts'

/** In the place of an arena place: the key is removed. */
export const REMOVED = -1
/** `find`: the transaction says nothing about the key, so the database decides. */
export const UNTOUCHED = -2

/** Above so many keys that are not in order yet they are merged into those that are. */
const UNSORTED_LIMIT = 4096

/**
 * What a transaction has done to records so far: a place in the arena for a stored one, REMOVED for a removed one, and whole ranges that
 * are gone. Order is made only when somebody scans, in steps that keep many scans of one large transaction cheap.
 */
export class Overlay {
  readonly #places = new Map<Key, number>()
  #ranges: RangeSet = NO_RANGES
  #sorted = new BigUint64Array(0)
  #unsorted: Key[] = []

  get empty(): boolean {
    return this.#places.size === 0 && this.#ranges.starts.length === 0
  }

  /** Immutable: what was removed by range until now. */
  get ranges(): RangeSet {
    return this.#ranges
  }

  find(key: Key): number {
    const place = this.#places.get(key)
    if (place !== undefined) return place
    return this.#ranges.starts.length > 0 && contains(this.#ranges, key) ? REMOVED : UNTOUCHED
  }

  put(key: Key, place: number): void {
    const before = this.#places.size
    this.#places.set(key, place)
    if (this.#places.size > before) this.#unsorted.push(key)
  }

  removeRange(range: KeyRange): void {
    for (const key of this.keys(range)) this.#places.set(key, REMOVED)
    this.#ranges = withRange(this.#ranges, range)
  }

  /** Keys of the range that were put or removed one by one, ascending. */
  keys({ start, end }: KeyRange): BigUint64Array {
    if (this.#unsorted.length > UNSORTED_LIMIT) {
      this.#sorted = merged(this.#sorted, this.#unsorted)
      this.#unsorted = []
    }
    const from = firstAtLeast(this.#sorted, start)
    let to = firstAtLeast(this.#sorted, end)
    if (this.#sorted[to] === end) to++
    const recent = this.#unsorted.filter(key => key >= start && key <= end)
    const inOrder = this.#sorted.subarray(from, to)
    return recent.length === 0 ? inOrder : merged(inOrder, recent)
  }

  clear(): void {
    this.#places.clear()
    this.#ranges = NO_RANGES
    this.#sorted = new BigUint64Array(0)
    this.#unsorted = []
  }
}

function merged(sorted: BigUint64Array, more: readonly Key[]): BigUint64Array<ArrayBuffer> {
  const all = new BigUint64Array(sorted.length + more.length)
  all.set(sorted)
  all.set(more, sorted.length)
  return all.sort()
}
