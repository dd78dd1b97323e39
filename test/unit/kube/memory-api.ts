import type { Clock } from '../../../src/common/clock.ts'
import type { KubeApi, ListOptions, ObjectList, WatchEvent, WatchOptions } from '../../../src/kube/api.ts'
import { KubeApiError } from '../../../src/kube/api-error.ts'
import { type KubeObject, keyOf, type ObjectRef, type Resource } from '../../../src/kube/object.ts'

interface Entry {
  readonly version: number
  readonly plural: string
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: KubeObject
}

export interface Fault {
  /** Thrown before anything is done. */
  readonly before?: Error
  /** Thrown after it was done: the answer is lost. */
  readonly after?: Error
  /** Time before it is done, ms. */
  readonly delay?: number
}

export interface WatchFault {
  /** The watch breaks after so many events. */
  readonly events: number
  /** What it breaks with; without it, it just ends. */
  readonly error?: Error
}

/**
 * The API server's rules for versions, conflicts, lists and watches, in memory, with faults. For server-side apply, validation and
 * everything else there is the real one (test/integration).
 */
export class MemoryApi implements KubeApi {
  readonly #clock: Clock
  #version = 1
  #uids = 0
  /** Versions up to this one are compacted: a watch from there gets 410. */
  #compacted = 0
  readonly #objects = new Map<string, KubeObject>()
  #history: Entry[] = []
  readonly #listeners = new Set<() => void>()
  /** Asked before every call but watches. */
  fault: (verb: string) => Fault | undefined = () => undefined
  /** Asked at the begin of every watch. */
  watchFault: () => WatchFault | undefined = () => undefined
  /** The versions from which watches began. */
  readonly watchedFrom: number[] = []
  /** Calls by verb. */
  readonly calls: Record<string, number> = {}

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Everything of a resource, past all faults. */
  all(resource: Resource): KubeObject[] {
    return [...this.#objects].filter(([key]) => key.startsWith(`${resource.plural} `)).map(([, object]) => object)
  }

  /** Forgets the past, as etcd's compaction does. */
  compact(): void {
    this.#compacted = this.#version
    this.#history = []
  }

  /** A bookmark for every watch. */
  wake(): void {
    for (const listener of this.#listeners) listener()
  }

  put(resource: Resource, object: KubeObject): KubeObject {
    const id = `${resource.plural} ${keyOf(object.metadata)}`
    const old = this.#objects.get(id)
    const expected = object.metadata.resourceVersion
    if (expected !== undefined && expected !== old?.metadata.resourceVersion) throw conflict(id)
    this.#version++
    const metadata = {
      ...object.metadata,
      uid: old?.metadata.uid ?? `uid-${++this.#uids}`,
      resourceVersion: String(this.#version),
    }
    const stored = structuredClone({ ...object, metadata })
    this.#objects.set(id, stored)
    this.#record(resource, old === undefined ? 'ADDED' : 'MODIFIED', stored)
    return structuredClone(stored)
  }

  drop(resource: Resource, ref: ObjectRef): void {
    const id = `${resource.plural} ${keyOf(ref)}`
    const old = this.#objects.get(id)
    if (old === undefined) throw notFound(id)
    this.#version++
    this.#objects.delete(id)
    const metadata = { ...old.metadata, resourceVersion: String(this.#version) }
    this.#record(resource, 'DELETED', { ...old, metadata })
  }

  get<T extends KubeObject>(
    resource: Resource,
    ref: ObjectRef,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<T> {
    return this.#call('get', options?.signal, () => {
      const id = `${resource.plural} ${keyOf(ref)}`
      const object = this.#objects.get(id)
      if (object === undefined) throw notFound(id)
      return structuredClone(object) as T
    })
  }

  list<T extends KubeObject>(resource: Resource, options: ListOptions = {}): Promise<ObjectList<T>> {
    return this.#call('list', options.signal, () => ({
      items: structuredClone(this.all(resource)) as T[],
      resourceVersion: String(this.#version),
    }))
  }

  create<T extends KubeObject>(
    resource: Resource,
    object: T,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<T> {
    return this.#call('create', options?.signal, () => {
      const id = `${resource.plural} ${keyOf(object.metadata)}`
      if (this.#objects.has(id)) {
        throw new KubeApiError({ status: 409, reason: 'AlreadyExists', message: `${id} already exists` })
      }
      return this.put(resource, object) as T
    })
  }

  update<T extends KubeObject>(
    resource: Resource,
    object: T,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<T> {
    return this.#call('update', options?.signal, () => {
      const id = `${resource.plural} ${keyOf(object.metadata)}`
      if (!this.#objects.has(id)) throw notFound(id)
      return this.put(resource, object) as T
    })
  }

  /** There is no server-side apply here. */
  async ownCreated(): Promise<void> {}

  patch<T extends KubeObject>(
    resource: Resource,
    ref: ObjectRef,
    body: unknown,
    options?: { signal?: AbortSignal | undefined },
  ): Promise<T> {
    return this.#call('patch', options?.signal, () => {
      const id = `${resource.plural} ${keyOf(ref)}`
      const old = this.#objects.get(id)
      if (old === undefined) throw notFound(id)
      const { resourceVersion: _version, ...metadata } = old.metadata
      return this.put(resource, { ...old, metadata, ...(body as object) }) as T
    })
  }

  apply<T extends KubeObject>(): Promise<T> {
    return Promise.reject(new Error('server-side apply needs the real API server'))
  }

  delete(resource: Resource, ref: ObjectRef, options?: { signal?: AbortSignal | undefined }): Promise<void> {
    return this.#call('delete', options?.signal, () => this.drop(resource, ref))
  }

  async *watch<T extends KubeObject>(resource: Resource, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    this.calls.watch = (this.calls.watch ?? 0) + 1
    const fault = this.watchFault()
    let from = Number(options.resourceVersion)
    this.watchedFrom.push(from)
    if (from < this.#compacted) throw gone()
    let left = fault?.events ?? Number.POSITIVE_INFINITY
    for (;;) {
      for (const entry of this.#history.filter(one => one.version > from && one.plural === resource.plural)) {
        if (left-- <= 0) {
          if (fault?.error) throw fault.error
          return
        }
        from = entry.version
        yield { type: entry.type, object: structuredClone(entry.object) as T }
      }
      const woken = await this.#change(options.signal)
      if (!woken) throw options.signal?.reason
      if (this.#compacted > from) {
        // the server's cache ends watches that fall behind
        throw gone()
      }
      if (from < this.#version && !this.#history.some(one => one.version > from && one.plural === resource.plural)) {
        from = this.#version
        yield { type: 'BOOKMARK', resourceVersion: String(this.#version) }
      }
    }
  }

  #change(signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise(resolve => {
      const end = (woken: boolean): void => {
        this.#listeners.delete(listener)
        signal?.removeEventListener('abort', abort)
        resolve(woken)
      }
      const listener = (): void => end(true)
      const abort = (): void => end(false)
      if (signal?.aborted) return resolve(false)
      this.#listeners.add(listener)
      signal?.addEventListener('abort', abort)
    })
  }

  #record(resource: Resource, type: Entry['type'], object: KubeObject): void {
    this.#history.push({ version: this.#version, plural: resource.plural, type, object })
    this.wake()
  }

  async #call<R>(verb: string, signal: AbortSignal | undefined, run: () => R): Promise<R> {
    this.calls[verb] = (this.calls[verb] ?? 0) + 1
    const fault = this.fault(verb)
    if (fault?.delay !== undefined) await this.#clock.sleep(fault.delay, signal)
    signal?.throwIfAborted()
    if (fault?.before) throw fault.before
    const answer = run()
    if (fault?.after) throw fault.after
    return answer
  }
}

function notFound(id: string): KubeApiError {
  return new KubeApiError({ status: 404, reason: 'NotFound', message: `${id} not found` })
}

function conflict(id: string): KubeApiError {
  return new KubeApiError({ status: 409, reason: 'Conflict', message: `${id} was changed meanwhile` })
}

export function gone(): KubeApiError {
  return new KubeApiError({ status: 410, reason: 'Expired', message: 'too old resource version' })
}

export function broken(): KubeApiError {
  return new KubeApiError({ status: 0, reason: 'Unreachable', message: 'the connection broke' })
}
