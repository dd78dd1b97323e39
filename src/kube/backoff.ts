/** Where random numbers come from: at least 0, below 1. */
export type Random = () => number

export interface BackoffOptions {
  /** Ceiling of the first delay, ms. */
  readonly base: number
  /** Ceiling of every delay, ms. */
  readonly max: number
  readonly random?: Random
}

/**
 * Delays that grow twofold up to a ceiling, with full jitter: anything between 0 and the ceiling, so that many clients that lost the
 * same server do not come back together.
 */
export class Backoff {
  readonly #base: number
  readonly #max: number
  readonly #random: Random
  #ceiling: number

  constructor(options: BackoffOptions) {
    this.#base = options.base
    this.#max = options.max
    this.#random = options.random ?? Math.random
    this.#ceiling = options.base
  }

  /** The next delay, ms. */
  next(): number {
    const delay = this.#random() * this.#ceiling
    this.#ceiling = Math.min(this.#max, this.#ceiling * 2)
    return delay
  }

  reset(): void {
    this.#ceiling = this.#base
  }
}
