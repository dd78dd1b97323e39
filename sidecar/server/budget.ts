import { KvidxError } from '../../src/common/errors.ts'

/** A bound on something that requests hold while they run: bytes, streams. Past it the answer is 429, not memory. */
export class Budget {
  readonly #what: string
  readonly #limit: number
  #used = 0

  /** @param what named in the error, e.g. "streams at one time" */
  constructor(what: string, limit: number) {
    this.#what = what
    this.#limit = limit
  }

  get used(): number {
    return this.#used
  }

  /** Errors: overloaded. */
  take(amount: number): void {
    if (this.#used + amount > this.#limit)
      throw new KvidxError('overloaded', `there are too many ${this.#what} (limit: ${this.#limit}); try again later`, {
        limit: this.#limit,
      })
    this.#used += amount
  }

  /** For what can no longer be refused: whoever comes next finds it full. */
  takeAnyway(amount: number): void {
    this.#used += amount
  }

  give(amount: number): void {
    this.#used -= amount
  }
}
