import { type Clock, systemClock } from '../common/clock.ts'
import { isConflict, KubeApiError } from './api-error.ts'
import type { Informer } from './informer.ts'
import { linkedAbort } from './linked-abort.ts'
import { type RuntimeLog, silentLog } from './log.ts'
import type { KeyMapping } from './mapping.ts'
import { KubeMetrics } from './metrics.ts'
import type { KubeObject } from './object.ts'
import type { Predicate } from './predicates.ts'
import { WorkQueue } from './workqueue.ts'

/** What a reconcile asks for when it succeeded. */
export interface ReconcileResult {
  /** Call again after so many ms even if nothing changes; without it, only a change does. */
  readonly requeueAfter?: number
}

/**
 * Brings one object to its desired state. It is told a key, not what changed: it looks at everything, and must be safe to repeat.
 *
 * - resolves: the key's retries are forgotten; with `requeueAfter` it is called again then, or earlier if something changes;
 * - rejects: it is called again after a delay that doubles from 5 ms to 5 min (at least as long as a Retry-After of the API server).
 *   What only a person can repair (a mistake in a spec) is no error: say it in a condition and resolve.
 *
 * It is never called twice at the same time with one key. `signal` is aborted when the reconcile takes too long or the process must go.
 */
export type Reconcile = (key: string, signal: AbortSignal) => Promise<ReconcileResult | undefined>

/** Changes that lead to reconciles. */
export interface Watch {
  readonly resource: string
  readonly synced: Promise<void>
  /** Calls `add` with the keys of all objects there are, then with those of every change. Answers how to stop that. */
  subscribe(add: (key: string) => void): () => void
}

/**
 * An update is mapped in both of its states: when an object changes its owner or label, the one before hears of it too.
 */
export function watch<T extends KubeObject>(
  informer: Informer<T>,
  keys: KeyMapping<T>,
  predicate?: Predicate<T>,
): Watch {
  return {
    resource: informer.resource.plural,
    synced: informer.synced,
    subscribe: add =>
      informer.onChange(change => {
        if (predicate !== undefined && !predicate(change)) return
        for (const key of keys(change.object)) add(key)
        if (change.type === 'updated') for (const key of keys(change.previous)) add(key)
      }),
  }
}

export interface ControllerOptions {
  readonly name: string
  readonly watches: readonly Watch[]
  readonly reconcile: Reconcile
  /** Keys worked on at a time. Default 4. */
  readonly workers?: number
  /** A reconcile's signal is aborted after so long, ms. Default 2 minutes. */
  readonly reconcileTimeout?: number
  /** How long `stop` lets running reconciles finish before their signal is aborted, ms. Default 10 s. */
  readonly stopGrace?: number
  readonly clock?: Clock
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/** Watches lead to keys, keys wait in a queue, workers reconcile them. */
export class Controller {
  readonly name: string
  readonly #watches: readonly Watch[]
  readonly #reconcile: Reconcile
  readonly #workers: number
  readonly #reconcileTimeout: number
  readonly #stopGrace: number
  readonly #clock: Clock
  readonly #metrics: KubeMetrics
  readonly #log: RuntimeLog
  readonly #queue: WorkQueue
  readonly #abort = new AbortController()
  #unsubscribe: (() => void)[] = []
  #running: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(options: ControllerOptions) {
    this.name = options.name
    this.#watches = options.watches
    this.#reconcile = options.reconcile
    this.#workers = options.workers ?? 4
    this.#reconcileTimeout = options.reconcileTimeout ?? 120_000
    this.#stopGrace = options.stopGrace ?? 10_000
    this.#clock = options.clock ?? systemClock
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#log = options.log ?? silentLog
    this.#queue = new WorkQueue({ name: options.name, clock: this.#clock, metrics: this.#metrics })
    this.#metrics.initialiseController(options.name)
  }

  /** Begins: no key is reconciled before every watch has its first list, so that no reconcile takes "not listed yet" for "not there". */
  start(): void {
    if (this.#stopped === undefined) this.#running ??= this.#run()
  }

  /** Takes no more keys, lets running reconciles finish (then aborts them), and resolves when the last one has ended. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /** Asks for a reconcile of a key, as a change would. */
  enqueue(key: string): void {
    this.#queue.add(key)
  }

  /** Asks for a reconcile after so many ms. */
  enqueueAfter(key: string, ms: number): void {
    this.#queue.addAfter(key, ms)
  }

  async #run(): Promise<void> {
    const stopped = new Promise<void>(resolve => {
      this.#abort.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    await Promise.race([Promise.all(this.#watches.map(one => one.synced)), stopped])
    if (this.#stopped !== undefined) return
    this.#unsubscribe = this.#watches.map(one => one.subscribe(key => this.#queue.add(key)))
    await Promise.all(Array.from({ length: this.#workers }, () => this.#work()))
  }

  async #stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
    const drained = this.#queue.shutdown({ discard: true })
    const reason = new Error(`controller ${this.name} is stopping`)
    if (this.#unsubscribe.length === 0) this.#abort.abort(reason)
    const grace = this.#clock.setTimer(this.#stopGrace, () => this.#abort.abort(reason))
    await drained
    await this.#running
    grace.cancel()
  }

  async #work(): Promise<void> {
    for (;;) {
      const key = await this.#queue.take()
      if (key === undefined) return
      this.#metrics.activeWorkers.inc({ controller: this.name })
      try {
        await this.#once(key)
      } finally {
        this.#metrics.activeWorkers.dec({ controller: this.name })
        this.#queue.done(key)
      }
    }
  }

  async #once(key: string): Promise<void> {
    const began = this.#clock.monotonic()
    const controller = this.name
    try {
      using abort = linkedAbort(this.#clock, this.#abort.signal)
      const ms = this.#reconcileTimeout
      abort.after(ms, () => new Error(`the reconcile of ${key} took longer than ${ms} ms`))
      const result = await this.#reconcile(key, abort.signal)
      this.#queue.forget(key)
      const after = result?.requeueAfter
      if (after !== undefined) this.#queue.addAfter(key, after)
      this.#metrics.reconciles.inc({ controller, result: after === undefined ? 'success' : 'requeue_after' })
    } catch (error) {
      this.#failed(key, error)
    } finally {
      this.#metrics.reconcileDuration.observe({ controller }, (this.#clock.monotonic() - began) / 1000)
    }
  }

  #failed(key: string, error: unknown): void {
    const controller = this.name
    this.#metrics.reconciles.inc({ controller, result: 'error' })
    const asked = error instanceof KubeApiError ? error.retryAfter : undefined
    const delay = this.#queue.retry(key, asked)
    const fields = { controller, key, retries: this.#queue.retries(key), delay, err: error }
    if (this.#abort.signal.aborted) this.#log.info(fields, 'reconcile cut short by the stop')
    // somebody else wrote first: normal, and the next try sees it
    else if (isConflict(error)) this.#log.debug(fields, 'reconcile met a conflict')
    else this.#log.error(fields, 'reconcile failed')
  }
}
