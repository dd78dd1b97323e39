import { type Clock, systemClock } from '../common/clock.ts'
import type { KubeApi, Scope, WatchEvent } from './api.ts'
import { isExpired, KubeApiError } from './api-error.ts'
import { Backoff, type Random } from './backoff.ts'
import { type RuntimeLog, silentLog } from './log.ts'
import { KubeMetrics, type WatchRestartReason } from './metrics.ts'
import type { KubeObject, Resource } from './object.ts'

/** Where a reflector puts what it sees. Must not throw. */
export interface ReflectorSink<T extends KubeObject> {
  /** A complete list: what is missing there is gone. */
  replace(objects: readonly T[]): void
  put(object: T): void
  remove(object: T): void
}

export interface ReflectorOptions<T extends KubeObject> {
  readonly api: KubeApi
  readonly resource: Resource
  readonly scope?: Scope
  readonly sink: ReflectorSink<T>
  readonly clock?: Clock
  readonly random?: Random
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/** First and longest ceiling of the pause after a failure, ms. */
const BACKOFF = { base: 800, max: 30_000 }
/** The server ends a watch after 5 to 10 minutes: with jitter, so that they do not all come back together. */
const WATCH_SECONDS = 300
/** A watch that lived so long was a good one even if nothing happened, ms. */
const LONG_WATCH = 30_000

/**
 * Keeps a sink equal to a resource: lists it, then watches from the list's version on. A watch that ends or breaks goes on from the last
 * version seen; only when the server no longer knows that version (410) is everything listed again. It never gives up.
 */
export class Reflector<T extends KubeObject> {
  readonly #api: KubeApi
  readonly #resource: Resource
  readonly #scope: Scope
  readonly #sink: ReflectorSink<T>
  readonly #clock: Clock
  readonly #random: Random
  readonly #metrics: KubeMetrics
  readonly #log: RuntimeLog
  #resourceVersion: string | undefined
  #heard = 0
  #failures = 0

  constructor(options: ReflectorOptions<T>) {
    this.#api = options.api
    this.#resource = options.resource
    this.#scope = options.scope ?? {}
    this.#sink = options.sink
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#log = options.log ?? silentLog
    this.#metrics.initialiseWatch(options.resource.plural)
  }

  /** Failures since something last arrived; 0 when all is well. */
  get failures(): number {
    return this.#failures
  }

  /** Runs until the signal is aborted, then resolves. */
  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ ...BACKOFF, random: this.#random })
    let expiries = 0
    while (!signal.aborted) {
      this.#heard = 0
      const began = this.#clock.monotonic()
      let reason: WatchRestartReason = 'end'
      let problem: unknown
      try {
        if (this.#resourceVersion === undefined) await this.#list(signal)
        await this.#watch(signal)
      } catch (error) {
        problem = error
        reason = isExpired(error) ? 'expired' : 'error'
      }
      if (signal.aborted) return
      this.#metrics.watchRestarts.inc({ resource: this.#resource.plural, reason })
      if (reason === 'expired') this.#resourceVersion = undefined
      if (this.#heard > 0 || this.#clock.monotonic() - began > LONG_WATCH) {
        backoff.reset()
        expiries = 0
        if (reason === 'end') continue
      }
      // an old version after a long cut is normal: list at once. One after the other is not.
      if (reason === 'expired' && expiries++ === 0) continue
      const pause = Math.max(backoff.next(), (problem instanceof KubeApiError && problem.retryAfter) || 0)
      this.#tell(problem, pause)
      await this.#clock.sleep(pause, signal).catch(() => {})
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.#metrics.relists.inc({ resource: this.#resource.plural })
    // no resourceVersion: the newest state. One from a cache could be older than what we have seen.
    const { items, resourceVersion } = await this.#api.list<T>(this.#resource, { ...this.#scope, signal })
    if (resourceVersion === '') {
      const message = `list ${this.#resource.plural}: the answer has no resource version`
      throw new KubeApiError({ status: 0, reason: 'Unreachable', message })
    }
    signal.throwIfAborted()
    this.#sink.replace(items)
    this.#resourceVersion = resourceVersion
    this.#recovered()
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const events = this.#api.watch<T>(this.#resource, {
      ...this.#scope,
      resourceVersion: this.#resourceVersion ?? '',
      timeoutSeconds: Math.round(WATCH_SECONDS * (1 + this.#random())),
      signal,
    })
    for await (const event of events) {
      if (signal.aborted) return
      this.#take(event)
      this.#heard++
      this.#recovered()
    }
  }

  #take(event: WatchEvent<T>): void {
    switch (event.type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#sink.put(event.object)
        break
      case 'DELETED':
        this.#sink.remove(event.object)
        break
      case 'BOOKMARK':
        break
    }
    const version = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion
    if (version) this.#resourceVersion = version
  }

  #tell(problem: unknown, pause: number): void {
    this.#failures++
    const fields = { resource: this.#resource.plural, ...this.#scope, failures: this.#failures, pause, err: problem }
    const message = problem === undefined ? 'watch ended at once' : 'list or watch failed'
    // one line a state change: the next one says that it works again
    if (this.#failures === 1) this.#log.warn(fields, message)
    else this.#log.debug(fields, message)
  }

  #recovered(): void {
    if (this.#failures === 0) return
    this.#log.info({ resource: this.#resource.plural, ...this.#scope, failures: this.#failures }, 'watching again')
    this.#failures = 0
  }
}
