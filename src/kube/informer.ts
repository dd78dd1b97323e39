import { type Clock, systemClock } from '../common/clock.ts'
import type { KubeApi } from './api.ts'
import type { Random } from './backoff.ts'
import { type RuntimeLog, silentLog } from './log.ts'
import { KubeMetrics } from './metrics.ts'
import type { KubeObject, Resource } from './object.ts'
import { Reflector } from './reflector.ts'
import { type Change, Store, type StoreReader } from './store.ts'

/** Called for every change, in order and one at a time. What it throws is logged. */
export type ChangeHandler<T extends KubeObject> = (change: Change<T>) => void

export interface InformerOptions<T extends KubeObject> {
  readonly api: KubeApi
  readonly resource: Resource
  /** Empty or missing: all namespaces. */
  readonly namespaces?: readonly string[] | undefined
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Labels that `store.labelled` can be asked for. */
  readonly indexLabels?: readonly string[]
  /** Drops what nobody reads before an object is kept. */
  readonly transform?: (object: T) => T
  readonly clock?: Clock
  readonly random?: Random
  readonly metrics?: KubeMetrics
  readonly log?: RuntimeLog
}

/** A copy of a resource in memory that follows the API server, and tells of every change. Several controllers can share one. */
export class Informer<T extends KubeObject> {
  readonly resource: Resource
  readonly #store: Store<T>
  readonly #reflectors: readonly Reflector<T>[]
  readonly #handlers = new Set<ChangeHandler<T>>()
  readonly #transform: (object: T) => T
  readonly #metrics: KubeMetrics
  readonly #log: RuntimeLog
  readonly #listed = new Set<string>()
  readonly #synced = Promise.withResolvers<void>()
  readonly #abort = new AbortController()
  #running: Promise<void> | undefined
  #stored = 0

  constructor(options: InformerOptions<T>) {
    const { api, resource, labelSelector, fieldSelector, random = Math.random, clock = systemClock } = options
    this.resource = resource
    this.#store = new Store<T>(options.indexLabels)
    this.#transform = options.transform ?? (object => object)
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#log = options.log ?? silentLog
    const namespaces = resource.namespaced ? (options.namespaces ?? []) : []
    // a watch covers one namespace or all of them
    this.#reflectors = (namespaces.length === 0 ? [undefined] : [...new Set(namespaces)]).map(
      namespace =>
        new Reflector<T>({
          api,
          resource,
          scope: { namespace, labelSelector, fieldSelector },
          sink: {
            replace: objects => this.#replace(objects, namespace),
            put: object => this.#tell(this.#store.put(this.#transform(object))),
            remove: object => this.#tell(this.#store.remove(this.#transform(object))),
          },
          clock,
          random,
          metrics: this.#metrics,
          log: this.#log,
        }),
    )
  }

  get store(): StoreReader<T> {
    return this.#store
  }

  /** Resolves when every namespace has been listed once. Never rejects; pending for ever when stopped before. */
  get synced(): Promise<void> {
    return this.#synced.promise
  }

  get isSynced(): boolean {
    return this.#listed.size === this.#reflectors.length
  }

  /** The watch of at least one namespace does not work at the moment. */
  get isFailing(): boolean {
    return this.#reflectors.some(reflector => reflector.failures > 0)
  }

  /** Adds a handler, which is told at once of all objects that are there. Call the answer to take it off. */
  onChange(handler: ChangeHandler<T>): () => void {
    this.#handlers.add(handler)
    for (const object of this.#store.all()) this.#call(handler, { type: 'added', object })
    return () => void this.#handlers.delete(handler)
  }

  /** Begins to list and watch. Further calls change nothing. */
  start(): void {
    this.#running ??= Promise.all(this.#reflectors.map(reflector => reflector.run(this.#abort.signal))).then(() => {})
  }

  /** Resolves when every watch has ended. */
  async stop(): Promise<void> {
    this.#abort.abort(new Error(`the informer of ${this.resource.plural} was stopped`))
    await this.#running
  }

  #replace(objects: readonly T[], namespace: string | undefined): void {
    this.#tell(this.#store.replace(objects.map(this.#transform), namespace))
    this.#listed.add(namespace ?? '')
    if (this.isSynced) this.#synced.resolve()
  }

  #tell(changes: readonly Change<T>[]): void {
    this.#metrics.storedObjects.inc({ resource: this.resource.plural }, this.#store.size - this.#stored)
    this.#stored = this.#store.size
    for (const change of changes) {
      for (const handler of this.#handlers) this.#call(handler, change)
    }
  }

  #call(handler: ChangeHandler<T>, change: Change<T>): void {
    try {
      handler(change)
    } catch (error) {
      this.#log.error({ resource: this.resource.plural, change: change.type, err: error }, 'a change handler failed')
    }
  }
}
