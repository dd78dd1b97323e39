/** Longest list of moments; with one every 100 ms that is most of two minutes, afterwards pairs of them become one. */
const MOST = 1024
const SPACING = 100

interface Moment {
  /** Of the first commit, Unix ms. */
  readonly time: number
  /** The last seq that came before the next moment. */
  last: bigint
}

/**
 * How old the oldest commit is that is not in the store, with bounded memory: commits of one tenth of a second count from the first of them. What is merged makes
 * the age larger, never smaller.
 */
export class UnshippedAge {
  #moments: Moment[] = []
  #spacing = SPACING

  /** A commit that ends with `seq`. @param now Unix ms */
  note(seq: bigint, now: number): void {
    const newest = this.#moments.at(-1)
    if (newest && seq <= newest.last) return
    if (newest && now - newest.time < this.#spacing) {
      newest.last = seq
      return
    }
    this.#moments.push({ time: now, last: seq })
    if (this.#moments.length <= MOST) return
    this.#moments = this.#moments
      .filter((_, index) => index % 2 === 0)
      .map(({ time }, index) => ({
        time,
        last: (this.#moments[2 * index + 1] ?? (this.#moments[2 * index] as Moment)).last,
      }))
    this.#spacing *= 2
  }

  /** Everything up to here is safe. */
  shipped(seq: bigint): void {
    this.#moments = this.#moments.filter(moment => moment.last > seq)
    if (this.#moments.length === 0) this.#spacing = SPACING
  }

  clear(): void {
    this.#moments = []
    this.#spacing = SPACING
  }

  /** ms; 0 when everything is shipped. @param now Unix ms */
  of(shipped: bigint, head: bigint, now: number): number {
    if (head <= shipped) return 0
    const oldest = this.#moments.find(moment => moment.last > shipped)
    return oldest ? Math.max(0, now - oldest.time) : 0
  }
}
