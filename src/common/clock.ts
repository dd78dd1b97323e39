/** A timer that has not fired yet can be taken back. */
export interface Timer {
  /** No effect once it has fired. */
  cancel(): void
}

/** Time as a parameter: loops ask a clock, so tests decide how fast it runs. */
export interface Clock {
  /** Wall clock, Unix ms. It can jump in both directions; never measure a duration with it. */
  now(): number
  /** Milliseconds since an unspecified start, with a fraction; never goes back. */
  monotonic(): number
  /**
   * Resolves after `ms` milliseconds of monotonic time (0 or less: on a later turn of the event loop).
   * Rejects with the signal's reason as soon as it is aborted; a loop that wants to end quietly checks `signal.aborted`.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Calls `callback` once after `ms` milliseconds of monotonic time. Any length is allowed; `Infinity` never fires. */
  setTimer(ms: number, callback: () => void): Timer
}

/** setTimeout takes a longer delay for 1 ms. */
const LONGEST_TIMEOUT = 2 ** 31 - 1

class SystemClock implements Clock {
  now(): number {
    return Date.now()
  }

  monotonic(): number {
    return performance.now()
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  setTimer(ms: number, callback: () => void): Timer {
    if (ms === Number.POSITIVE_INFINITY) return { cancel() {} }
    let handle: NodeJS.Timeout
    const arm = (left: number): void => {
      handle =
        left > LONGEST_TIMEOUT
          ? setTimeout(() => arm(left - LONGEST_TIMEOUT), LONGEST_TIMEOUT)
          : setTimeout(callback, Math.max(0, left))
    }
    arm(ms)
    return { cancel: () => clearTimeout(handle) }
  }
}

/** The clock of this machine. */
export const systemClock: Clock = new SystemClock()

interface ManualTimer {
  readonly due: number
  readonly order: number
  readonly callback: () => void
}

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #wall: number
  #monotonic = 0
  #order = 0
  readonly #timers = new Set<ManualTimer>()

  /** @param now wall clock at the start, Unix ms */
  constructor(now = Date.UTC(2026, 0, 1)) {
    this.#wall = now
  }

  now(): number {
    return this.#wall
  }

  monotonic(): number {
    return this.#monotonic
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  setTimer(ms: number, callback: () => void): Timer {
    const timer = { due: this.#monotonic + Math.max(0, ms), order: this.#order++, callback }
    if (ms !== Number.POSITIVE_INFINITY) this.#timers.add(timer)
    return { cancel: () => void this.#timers.delete(timer) }
  }

  /** Timers that have not fired. */
  get pending(): number {
    return this.#timers.size
  }

  /** Milliseconds until the next timer fires, or undefined when there is none. */
  get untilNext(): number | undefined {
    const next = this.#next()
    return next && next.due - this.#monotonic
  }

  /**
   * Lets `ms` milliseconds pass: every timer fires at its own time, in order, and what it set off (promises, I/O that is ready)
   * runs before the next one, so timers set meanwhile fire too if they fall into the span.
   */
  async advance(ms: number): Promise<void> {
    const target = this.#monotonic + ms
    await settle()
    for (let timer = this.#next(); timer && timer.due <= target; timer = this.#next()) {
      this.#timers.delete(timer)
      this.#moveTo(timer.due)
      timer.callback()
      await settle()
    }
    this.#moveTo(target)
  }

  /** Moves the wall clock alone, as an operator or NTP does. */
  jump(ms: number): void {
    this.#wall += ms
  }

  #moveTo(monotonic: number): void {
    this.#wall += monotonic - this.#monotonic
    this.#monotonic = monotonic
  }

  #next(): ManualTimer | undefined {
    let next: ManualTimer | undefined
    for (const timer of this.#timers) {
      if (!next || timer.due < next.due || (timer.due === next.due && timer.order < next.order)) next = timer
    }
    return next
  }
}

function sleepOn(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const abort = (): void => {
      timer.cancel()
      reject(signal?.reason)
    }
    const timer = clock.setTimer(ms, () => {
      signal?.removeEventListener('abort', abort)
      resolve()
    })
    signal?.addEventListener('abort', abort, { once: true })
  })
}

/** One turn of the event loop: every promise that can go on has gone on. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
