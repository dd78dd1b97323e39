import { type Clock, systemClock, type Timer } from '../common/clock.ts'
import { KubeMetrics } from './metrics.ts'

export interface WorkQueueOptions {
  /** Label of its metrics. */
  readonly name: string
  readonly clock?: Clock
  readonly metrics?: KubeMetrics
  /** Delay of the first retry of a key, ms. Default 5. */
  readonly baseDelay?: number
  /** Longest delay of a retry, ms. Default 5 minutes. */
  readonly maxDelay?: number
}

interface Delayed {
  /** Monotonic ms. */
  readonly due: number
  readonly timer: Timer
}

/**
 * Keys that need work, each at most once. A key that is added while a worker holds it is handed out again after that worker is done,
 * so no change is lost, and never to two workers at a time. First in, first out: a busy key goes to the end each time, so none starves.
 *
 * A delayed key is independent of the ready ones: adding it now neither takes its delay away nor is put off by it.
 */
export class WorkQueue {
  readonly #name: string
  readonly #clock: Clock
  readonly #metrics: KubeMetrics
  readonly #baseDelay: number
  readonly #maxDelay: number
  /** Keys in the order of their turn; those before #head are gone. */
  #ready: string[] = []
  #head = 0
  /** Keys that need work, with when they began to: those in #ready, and those to come after `done`. */
  readonly #dirty = new Map<string, number>()
  /** Keys that a worker holds, with since when. */
  readonly #processing = new Map<string, number>()
  readonly #delayed = new Map<string, Delayed>()
  readonly #failures = new Map<string, number>()
  readonly #takers: ((key: string | undefined) => void)[] = []
  #closed = false
  readonly #drained = Promise.withResolvers<void>()

  constructor(options: WorkQueueOptions) {
    this.#name = options.name
    this.#clock = options.clock ?? systemClock
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#baseDelay = options.baseDelay ?? 5
    this.#maxDelay = options.maxDelay ?? 300_000
    this.#metrics.initialiseQueue(this.#name)
  }

  /** Keys that wait for a worker; without delayed ones. */
  get depth(): number {
    return this.#ready.length - this.#head
  }

  /** Adds the key, unless it waits already. */
  add(key: string): void {
    if (this.#closed || this.#dirty.has(key)) return
    this.#metrics.queueAdds.inc({ queue: this.#name })
    this.#dirty.set(key, this.#clock.monotonic())
    if (!this.#processing.has(key)) this.#push(key)
  }

  /** Adds the key after `ms` milliseconds. Of two delays of one key the earlier end wins. */
  addAfter(key: string, ms: number): void {
    if (this.#closed) return
    if (!(ms > 0)) {
      this.add(key)
      return
    }
    const due = this.#clock.monotonic() + ms
    const waiting = this.#delayed.get(key)
    if (waiting !== undefined && waiting.due <= due) return
    waiting?.timer.cancel()
    const timer = this.#clock.setTimer(ms, () => {
      this.#delayed.delete(key)
      this.add(key)
    })
    this.#delayed.set(key, { due, timer })
  }

  /**
   * Adds the key after a delay that doubles with each call until `forget`. Answers the delay, ms.
   * @param atLeast shortest delay, ms: what a server asked for
   */
  retry(key: string, atLeast = 0): number {
    const failures = this.#failures.get(key) ?? 0
    const delay = Math.max(atLeast, Math.min(this.#maxDelay, this.#baseDelay * 2 ** failures))
    if (this.#closed) return delay
    this.#failures.set(key, failures + 1)
    this.#metrics.queueRetries.inc({ queue: this.#name })
    this.addAfter(key, delay)
    return delay
  }

  /** The next retry of the key begins with the shortest delay again. */
  forget(key: string): void {
    this.#failures.delete(key)
  }

  /** Calls of `retry` since the last `forget`. */
  retries(key: string): number {
    return this.#failures.get(key) ?? 0
  }

  /** The next key, which belongs to the caller until `done`; waits for one. Undefined: the queue is shut down and empty. */
  take(): Promise<string | undefined> {
    if (this.depth > 0) return Promise.resolve(this.#pop())
    if (this.#finished()) return Promise.resolve(undefined)
    return new Promise(resolve => this.#takers.push(resolve))
  }

  /** Gives a key back. It is handed out again if it was added meanwhile. */
  done(key: string): void {
    const since = this.#processing.get(key)
    if (since === undefined) throw new RangeError(`key '${key}' was not taken`)
    this.#processing.delete(key)
    this.#metrics.queueWork.observe({ queue: this.#name }, (this.#clock.monotonic() - since) / 1000)
    if (this.#dirty.has(key)) this.#push(key)
    this.#checkDrained()
  }

  /**
   * Accepts nothing more and forgets what is delayed. What is ready is still handed out, unless `discard` is given; resolves when every
   * key that was handed out is back.
   */
  shutdown(options: { readonly discard?: boolean } = {}): Promise<void> {
    this.#closed = true
    for (const { timer } of this.#delayed.values()) timer.cancel()
    this.#delayed.clear()
    if (options.discard === true) {
      this.#ready = []
      this.#head = 0
      this.#dirty.clear()
      this.#metrics.queueDepth.set({ queue: this.#name }, 0)
    }
    this.#checkDrained()
    return this.#drained.promise
  }

  #push(key: string): void {
    this.#ready.push(key)
    this.#metrics.queueDepth.set({ queue: this.#name }, this.depth)
    this.#takers.shift()?.(this.#pop())
  }

  #pop(): string {
    const key = this.#ready[this.#head] as string
    this.#head++
    // shift() of a long array moves it all; so cut off what is gone now and then
    if (this.#head > 512 && this.#head * 2 > this.#ready.length) {
      this.#ready = this.#ready.slice(this.#head)
      this.#head = 0
    }
    const now = this.#clock.monotonic()
    this.#metrics.queueDepth.set({ queue: this.#name }, this.depth)
    this.#metrics.queueLatency.observe({ queue: this.#name }, (now - (this.#dirty.get(key) ?? now)) / 1000)
    this.#dirty.delete(key)
    this.#processing.set(key, now)
    return key
  }

  /** A key that is held and dirty comes back with `done`, so takers wait for it. */
  #finished(): boolean {
    return this.#closed && this.#dirty.size === 0
  }

  #checkDrained(): void {
    if (!this.#finished()) return
    for (const taker of this.#takers.splice(0)) taker(undefined)
    if (this.#processing.size === 0) this.#drained.resolve()
  }
}
