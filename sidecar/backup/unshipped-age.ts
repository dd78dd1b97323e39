/** Longest list of moments; with one every 100 ms that is most of two minutes, afterwards every second one is dropped. */
const MOST = 1024

interface Moment {
  /** The first seq that this moment saw. */
  readonly seq: bigint
  /** Unix ms */
  readonly time: number
}

/**
 * How old the oldest commit is that is not in the store, with bounded memory: the first commit of each tenth of a second is remembered. What is thinned out makes the
 * age larger, never smaller.
 */
export class UnshippedAge {
  #moments: Moment[] = []
  #spacing = 100

  /** @param now Unix ms */
  note(seq: bigint, now: number): void {
    const last = this.#moments.at(-1)
    if (last && (seq <= last.seq || now - last.time < this.#spacing)) return
    this.#moments.push({ seq, time: now })
    if (this.#moments.length <= MOST) return
    this.#moments = this.#moments.filter((_, index) => index % 2 === 0)
    this.#spacing *= 2
  }

  /** Everything up to here is safe. */
  shipped(seq: bigint): void {
    // the last moment at or before `seq` may stand for later commits, too
    let first = 0
    while (first + 1 < this.#moments.length && (this.#moments[first + 1] as Moment).seq <= seq) first++
    if (first > 0) this.#moments = this.#moments.slice(first)
    if (this.#moments.length === 0) this.#spacing = 100
  }

  clear(): void {
    this.#moments = []
    this.#spacing = 100
  }

  /** ms; 0 when everything is shipped. @param now Unix ms */
  of(shipped: bigint, head: bigint, now: number): number {
    if (head <= shipped) return 0
    const exact = this.#moments.find(moment => moment.seq > shipped)
    const before = this.#moments.findLast(moment => moment.seq <= shipped)
    // between two moments nobody knows when the first unshipped commit came: the earlier one is the safe answer
    const oldest = before && exact && before.time + this.#spacing > exact.time ? before : (exact ?? before)
    return oldest ? Math.max(0, now - oldest.time) : 0
  }
}
