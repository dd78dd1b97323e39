import type { Clock, Timer } from '../../src/common/clock.ts'

interface Watched {
  last: number
  readonly expire: () => void
}

export interface Watch {
  /** Something moved: the time begins anew. */
  progress(): void
  /** No longer waiting. */
  end(): void
}

/**
 * Ends what waits too long for a client. One timer looks at all that wait, because a timer for each request costs more than
 * most requests; so an end comes up to a quarter later than the limit says.
 */
export class Watchdog {
  readonly #clock: Clock
  readonly #limit: number
  readonly #waiting = new Set<Watched>()
  #timer: Timer | undefined

  /** @param limit milliseconds without progress */
  constructor(clock: Clock, limit: number) {
    this.#clock = clock
    this.#limit = limit
  }

  /** Calls `expire` once when the limit passes without progress. */
  watch(expire: () => void): Watch {
    const watched: Watched = { last: this.#clock.monotonic(), expire }
    this.#waiting.add(watched)
    this.#timer ??= this.#clock.setTimer(this.#limit / 4, () => this.#look())
    return {
      progress: () => {
        watched.last = this.#clock.monotonic()
      },
      end: () => void this.#waiting.delete(watched),
    }
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.size
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#waiting.clear()
  }

  #look(): void {
    this.#timer = undefined
    const now = this.#clock.monotonic()
    for (const watched of this.#waiting) {
      if (now - watched.last < this.#limit) continue
      this.#waiting.delete(watched)
      watched.expire()
    }
    if (this.#waiting.size > 0) this.#timer = this.#clock.setTimer(this.#limit / 4, () => this.#look())
  }
}
