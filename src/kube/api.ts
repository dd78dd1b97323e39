import type { KubeObject, ObjectRef, Resource } from './object.ts'

/** The name under which the operator owns fields in server-side apply. */
export const FIELD_MANAGER = 'kvidx-operator'

/** Objects a page of a list. */
export const PAGE_SIZE = 500

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  /** Bound of the whole call with its retries, ms. */
  readonly timeout?: number
}

export interface WriteOptions extends CallOptions {
  /** The server checks and answers, but stores nothing. */
  readonly dryRun?: boolean
  /** `status`, `scale`, … */
  readonly subresource?: string
  /** What the server does with fields it does not know; without it, it drops them (with a warning in its answer). */
  readonly fieldValidation?: 'Strict' | 'Warn' | 'Ignore'
}

export interface ApplyOptions extends WriteOptions {
  readonly fieldManager?: string
  /** Take fields over from other managers (default true: the operator's objects are its own). */
  readonly force?: boolean
}

export interface PatchOptions extends WriteOptions {
  /** `merge` (RFC 7386, default) | `json` (RFC 6902) | `strategic` (built-in kinds only). */
  readonly type?: 'merge' | 'json' | 'strategic'
}

export interface DeleteOptions extends CallOptions {
  readonly dryRun?: boolean
  /** Only this very object: another one of the same name is left alone (409). */
  readonly uid?: string
  /** Only if it was not changed since (409). */
  readonly resourceVersion?: string
  readonly propagation?: 'Orphan' | 'Background' | 'Foreground'
  readonly gracePeriodSeconds?: number
}

export interface Scope {
  /** Without it: all namespaces. */
  readonly namespace?: string | undefined
  readonly labelSelector?: string | undefined
  readonly fieldSelector?: string | undefined
}

export interface ListOptions extends CallOptions, Scope {
  /** Objects a page, default PAGE_SIZE; 0 asks for all at once. */
  readonly pageSize?: number
}

export interface ObjectList<T extends KubeObject> {
  readonly items: readonly T[]
  /** Where a watch goes on. */
  readonly resourceVersion: string
}

export interface WatchOptions extends Scope {
  readonly resourceVersion: string
  readonly signal?: AbortSignal | undefined
  /** The server ends the watch after this long, seconds. */
  readonly timeoutSeconds?: number
  /** Nothing at all arriving for so long means that the connection is dead, ms. The server sends a bookmark about every minute. */
  readonly idleTimeout?: number
}

export type WatchEvent<T extends KubeObject> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string }

/**
 * The API server, as plain JSON. Every call rejects with KubeApiError, or with the signal's reason when it was aborted.
 * Objects come without `metadata.managedFields`.
 */
export interface KubeApi {
  get<T extends KubeObject>(resource: Resource, ref: ObjectRef, options?: CallOptions): Promise<T>
  /** All objects, read in pages; the answer is consistent (one resource version), except where a list takes so long that its first page expires. */
  list<T extends KubeObject>(resource: Resource, options?: ListOptions): Promise<ObjectList<T>>
  create<T extends KubeObject>(resource: Resource, object: T, options?: WriteOptions): Promise<T>
  /** Replaces the object. With `metadata.resourceVersion` only if nobody changed it since (409). */
  update<T extends KubeObject>(resource: Resource, object: T, options?: WriteOptions): Promise<T>
  /** Server-side apply: creates the object, or changes the fields that differ and releases those no longer named. */
  apply<T extends KubeObject>(resource: Resource, object: KubeObject, options?: ApplyOptions): Promise<T>
  patch<T extends KubeObject>(resource: Resource, ref: ObjectRef, body: unknown, options?: PatchOptions): Promise<T>
  /** What our field manager created counts as applied from now on, so that the next apply releases the fields it no longer names. */
  ownCreated(resource: Resource, ref: ObjectRef, options?: CallOptions): Promise<void>
  /** Resolves once the server accepted it; with finalizers the object stays for a while. */
  delete(resource: Resource, ref: ObjectRef, options?: DeleteOptions): Promise<void>
  /**
   * The changes after a resource version. Ends when the server ends it; throws KubeApiError when it breaks, also by JSON that cannot
   * be read; 410 means that a new list is needed.
   */
  watch<T extends KubeObject>(resource: Resource, options: WatchOptions): AsyncIterable<WatchEvent<T>>
}
