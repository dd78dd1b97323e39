import type { LostRange } from './report.ts'
import { LARGEST_ROWID, type RowSpan, SMALLEST_ROWID } from './tree.ts'

interface Span {
  readonly start: bigint
  end: bigint
  recovered: number
}

/** Spans of keys that could not be read, joined and in unsigned order, each with the records that were found in it after all. */
export class LostRanges {
  #spans: Span[] = []
  #sorted = true

  get count(): number {
    this.#sort()
    return this.#spans.length
  }

  get isEmpty(): boolean {
    return this.#spans.length === 0
  }

  /** Adds row ids; a span over both signs is two ranges of unsigned keys. */
  add(span: RowSpan): void {
    if (span.first > span.last) return
    if (span.first < 0n && span.last >= 0n) {
      this.add({ first: span.first, last: -1n })
      this.add({ first: 0n, last: span.last })
      return
    }
    this.#spans.push({ start: BigInt.asUintN(64, span.first), end: BigInt.asUintN(64, span.last), recovered: 0 })
    this.#sorted = false
  }

  addEverything(): void {
    this.add({ first: SMALLEST_ROWID, last: LARGEST_ROWID })
  }

  /** The range that holds the key: its `recovered` counts up when the record is taken. */
  find(key: bigint): { recovered: number } | undefined {
    this.#sort()
    let low = 0
    let high = this.#spans.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const span = this.#spans[middle] as Span
      if (key < span.start) high = middle - 1
      else if (key > span.end) low = middle + 1
      else return span
    }
    return undefined
  }

  list(limit: number): LostRange[] {
    this.#sort()
    return this.#spans.slice(0, limit)
  }

  #sort(): void {
    if (this.#sorted) return
    this.#spans.sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0))
    const joined: Span[] = []
    for (const span of this.#spans) {
      const last = joined.at(-1)
      if (last !== undefined && span.start <= last.end + 1n) {
        if (span.end > last.end) last.end = span.end
        last.recovered += span.recovered
      } else joined.push(span)
    }
    this.#spans = joined
    this.#sorted = true
  }
}
