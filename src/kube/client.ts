import {
  type ApplyOptions,
  type CallOptions,
  type DeleteOptions,
  FIELD_MANAGER,
  type KubeApi,
  type ListOptions,
  type ObjectList,
  PAGE_SIZE,
  type PatchOptions,
  type Scope,
  type WatchEvent,
  type WatchOptions,
  type WriteOptions,
} from './api.ts'
import { errorFromStatus, isExpired, KubeApiError } from './api-error.ts'
import { asApplied, type ManagedFields } from './managed-fields.ts'
import { apiVersionOf, type KubeObject, type ObjectRef, type Resource } from './object.ts'
import { type Call, describe, Transport, type TransportOptions } from './transport.ts'

const PATCH_TYPES = {
  apply: 'application/apply-patch+yaml', // JSON is YAML
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const

/** The API server over one pool of HTTP connections. */
export class KubeClient implements KubeApi {
  readonly #transport: Transport

  constructor(options: TransportOptions) {
    this.#transport = new Transport(options)
  }

  get<T extends KubeObject>(resource: Resource, ref: ObjectRef, options: CallOptions = {}): Promise<T> {
    return this.#object({ verb: 'get', method: 'GET', resource, ref }, options)
  }

  async list<T extends KubeObject>(resource: Resource, options: ListOptions = {}): Promise<ObjectList<T>> {
    const pageSize = options.pageSize ?? PAGE_SIZE
    const items: T[] = []
    let next: string | undefined
    for (;;) {
      let page: ListBody<T>
      try {
        page = await this.#page(resource, options, pageSize, next)
      } catch (error) {
        // the snapshot of the first page was compacted away while we read the others: all at once then, as client-go does
        if (next === undefined || !isExpired(error)) throw error
        items.length = 0
        page = await this.#page(resource, options, 0, undefined)
      }
      const metadata = page.metadata ?? {}
      for (const item of page.items ?? []) {
        // items of a list do not repeat what the list says
        items.push(stripped({ ...item, apiVersion: apiVersionOf(resource), kind: resource.kind }))
      }
      next = metadata.continue || undefined
      if (next === undefined) return { items, resourceVersion: metadata.resourceVersion ?? '' }
    }
  }

  create<T extends KubeObject>(resource: Resource, object: T, options: WriteOptions = {}): Promise<T> {
    const ref = { namespace: object.metadata.namespace }
    if (resource.namespaced && ref.namespace === undefined) {
      return Promise.reject(new RangeError(`${resource.plural} '${object.metadata.name}': the namespace is missing`))
    }
    const { subresource } = options
    const target = subresource === undefined ? ref : object.metadata
    const query = { ...writeQuery(options), fieldManager: FIELD_MANAGER }
    return this.#object(
      { verb: 'create', method: 'POST', resource, ref: target, subresource, query, body: object },
      options,
    )
  }

  update<T extends KubeObject>(resource: Resource, object: T, options: WriteOptions = {}): Promise<T> {
    const { subresource } = options
    const query = { ...writeQuery(options), fieldManager: FIELD_MANAGER }
    return this.#object(
      { verb: 'update', method: 'PUT', resource, ref: object.metadata, subresource, query, body: object },
      options,
    )
  }

  apply<T extends KubeObject>(resource: Resource, object: KubeObject, options: ApplyOptions = {}): Promise<T> {
    const { subresource, fieldManager = FIELD_MANAGER, force = true } = options
    return this.#object(
      {
        verb: 'apply',
        method: 'PATCH',
        resource,
        ref: object.metadata,
        subresource,
        query: { ...writeQuery(options), fieldManager, force },
        body: object,
        contentType: PATCH_TYPES.apply,
      },
      options,
    )
  }

  patch<T extends KubeObject>(
    resource: Resource,
    ref: ObjectRef,
    body: unknown,
    options: PatchOptions = {},
  ): Promise<T> {
    const { subresource, type = 'merge' } = options
    const query = { ...writeQuery(options), fieldManager: FIELD_MANAGER }
    const contentType = PATCH_TYPES[type]
    return this.#object(
      { verb: 'patch', method: 'PATCH', resource, ref, subresource, query, body, contentType },
      options,
    )
  }

  async ownCreated(resource: Resource, ref: ObjectRef, options: CallOptions = {}): Promise<void> {
    const object = (await this.#transport.json({ verb: 'get', method: 'GET', resource, ref }, options)) as {
      readonly metadata: { readonly resourceVersion: string; readonly managedFields?: readonly ManagedFields[] }
    }
    const { managedFields = [], resourceVersion } = object.metadata
    const value = asApplied(managedFields, FIELD_MANAGER)
    if (value === undefined) return
    const body = [
      { op: 'replace', path: '/metadata/managedFields', value },
      // only this very version: nobody's fields are lost
      { op: 'replace', path: '/metadata/resourceVersion', value: resourceVersion },
    ]
    await this.patch(resource, ref, body, { ...options, type: 'json' })
  }

  async delete(resource: Resource, ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion, propagation, gracePeriodSeconds, dryRun } = options
    const body = {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      ...(uid === undefined && resourceVersion === undefined ? {} : { preconditions: { uid, resourceVersion } }),
      ...(propagation === undefined ? {} : { propagationPolicy: propagation }),
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
      ...(dryRun === true ? { dryRun: ['All'] } : {}),
    }
    await this.#transport.json({ verb: 'delete', method: 'DELETE', resource, ref, body }, options)
  }

  async *watch<T extends KubeObject>(resource: Resource, options: WatchOptions): AsyncGenerator<WatchEvent<T>> {
    const call: Call = {
      verb: 'watch',
      method: 'GET',
      resource,
      ref: { namespace: options.namespace },
      query: {
        ...scopeQuery(options),
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion: options.resourceVersion,
        timeoutSeconds: options.timeoutSeconds,
      },
    }
    for await (const line of this.#transport.lines(call, options.signal, options.idleTimeout)) {
      yield eventFrom<T>(describe(call), line)
    }
  }

  /** GET of any path, as text: `/readyz`, `/version`, a pod's log. */
  raw(path: string, options: CallOptions = {}): Promise<string> {
    const resource: Resource = { group: '', version: '', plural: 'raw', kind: 'Raw', namespaced: false }
    return this.#transport.text({ verb: 'get', method: 'GET', resource, path }, options)
  }

  /** Ends every connection; calls under way reject. */
  close(): Promise<void> {
    return this.#transport.close()
  }

  #page<T extends KubeObject>(
    resource: Resource,
    options: ListOptions,
    limit: number,
    next: string | undefined,
  ): Promise<ListBody<T>> {
    const query = { ...scopeQuery(options), limit: limit === 0 ? undefined : limit, continue: next }
    const ref = { namespace: options.namespace }
    return this.#transport.json({ verb: 'list', method: 'GET', resource, ref, query }, options) as Promise<ListBody<T>>
  }

  async #object<T extends KubeObject>(call: Call, options: CallOptions): Promise<T> {
    return stripped((await this.#transport.json(call, options)) as T)
  }
}

interface ListBody<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string }
  readonly items?: readonly T[] | null
}

function writeQuery(options: WriteOptions): Record<string, string | undefined> {
  return { dryRun: options.dryRun === true ? 'All' : undefined, fieldValidation: options.fieldValidation }
}

function scopeQuery(scope: Scope): Record<string, string | undefined> {
  return { labelSelector: scope.labelSelector, fieldSelector: scope.fieldSelector }
}

/** managedFields is often more than half of an object, and nobody here reads it. */
function stripped<T extends KubeObject>(object: T): T {
  const metadata = object.metadata as { managedFields?: unknown } | undefined
  if (metadata !== undefined) delete metadata.managedFields
  return object
}

function eventFrom<T extends KubeObject>(what: string, line: string): WatchEvent<T> {
  let event: { readonly type?: unknown; readonly object?: T }
  try {
    event = JSON.parse(line)
  } catch (cause) {
    throw new KubeApiError({ status: 0, reason: 'Unreachable', message: `${what}: an event is not JSON`, cause })
  }
  const { type, object } = event
  if (typeof object === 'object' && object !== null) {
    switch (type) {
      case 'ADDED':
      case 'MODIFIED':
      case 'DELETED':
        return { type, object: stripped(object) }
      case 'BOOKMARK':
        return { type, resourceVersion: object.metadata.resourceVersion ?? '' }
      case 'ERROR':
        throw errorFromStatus(what, object)
    }
  }
  throw new KubeApiError({
    status: 0,
    reason: 'Unreachable',
    message: `${what}: an event of unknown type '${String(type)}'`,
  })
}
