/**
 * Where backups lie. Two implementations, a directory and S3, with one contract test. Keys are relative to the store's
 * root: path segments of visible characters joined by `/`, at most 900 bytes.
 *
 * Every call may reject with `store_unreachable` (the same call can succeed later), `store_denied` (credentials or
 * permissions), `cancelled` (its signal), and, where a key is needed, `backup_not_found`.
 */
export interface BackupStore {
  /** For messages and logs, e.g. `file:///backups` or `s3://bucket/prefix`; never has credentials. */
  readonly location: string

  /**
   * Stores an object of any size in the place of whatever had its key. Readers see the old object or the whole new one,
   * never a part. Memory is bounded whatever the size.
   */
  put(key: string, body: ObjectBody, options?: PutOptions): Promise<void>

  /**
   * Stores a small object only if its key is absent. 'exists': another object is there and was left as it is; the
   * caller compares the content if the same bytes would do.
   */
  putIfAbsent(key: string, body: Uint8Array, signal?: AbortSignal): Promise<'created' | 'exists'>

  /**
   * Opens an object; the promise rejects with `backup_not_found` if it is absent. The stream gives exactly the bytes of
   * the range or throws: it never ends early without an error. Leaving the iteration closes it.
   */
  get(key: string, options?: GetOptions): Promise<OpenObject>

  /** undefined when there is no such object. */
  head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined>

  /** One page, in ascending order of the keys' UTF-8 bytes. Uploads that are not complete are not in it. */
  list(prefix: string, options?: ListOptions): Promise<ListPage>

  /** Removes an object; no error when it is absent. */
  delete(key: string, signal?: AbortSignal): Promise<void>

  /** Uploads that began and were never completed (their process died). */
  listPartial(prefix: string, signal?: AbortSignal): Promise<readonly PartialUpload[]>

  /** Throws away what listPartial found; no error when it is gone already. */
  removePartial(partial: PartialUpload, signal?: AbortSignal): Promise<void>

  /** Closes connections. No call may be made afterwards. */
  close(): Promise<void>
}

export type ObjectBody = Uint8Array | AsyncIterable<Uint8Array>

export interface PutOptions {
  /**
   * Bytes of a stream, when known at least as an upper bound: S3 chooses its part size by it. Without it a stream
   * may have up to 156 GiB on S3; on a directory any length.
   */
  readonly atMost?: number
  readonly signal?: AbortSignal
}

export interface GetOptions {
  /** From `start` up to, not including, `end` (undefined: to the end of the object); must lie inside the object. */
  readonly range?: { readonly start: number; readonly end?: number }
  readonly signal?: AbortSignal
}

export interface OpenObject {
  /** Bytes of the whole object, whatever the range. */
  readonly size: number
  readonly chunks: AsyncIterable<Uint8Array>
}

export interface ObjectInfo {
  readonly key: string
  /** bytes */
  readonly size: number
  /** Unix ms, by the store's clock */
  readonly modified: number
}

export interface ListOptions {
  /** Only keys that come behind this one: the `next` of the page before. */
  readonly after?: string
  /** At most so many entries, objects and folders together: 1 … 1000, default 1000. */
  readonly limit?: number
  /** true: what lies behind the next `/` after the prefix is folded into `folders`. */
  readonly folders?: boolean
  readonly signal?: AbortSignal
}

export interface ListPage {
  readonly objects: readonly ObjectInfo[]
  /** With `folders`: key prefixes that end in `/`. */
  readonly folders: readonly string[]
  /** Give it as `after` for the next page; undefined: this was the last. */
  readonly next?: string
}

export interface PartialUpload {
  /** The key it was meant for, as far as the store knows. */
  readonly key: string
  /** What the store calls it. */
  readonly id: string
  /** Unix ms of its beginning or its last byte, whichever the store knows. */
  readonly modified: number
}

/** Every object under the prefix, page by page. */
export async function* listObjects(
  store: BackupStore,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<ObjectInfo> {
  for (let after: string | undefined; ; ) {
    const page = await store.list(prefix, { ...(after !== undefined && { after }), ...(signal && { signal }) })
    yield* page.objects
    if (page.next === undefined) return
    after = page.next
  }
}

/** Every folder directly under the prefix (each ends in `/`). */
export async function listFolders(store: BackupStore, prefix: string, signal?: AbortSignal): Promise<string[]> {
  const folders: string[] = []
  for (let after: string | undefined; ; ) {
    const options = { folders: true, ...(after !== undefined && { after }), ...(signal && { signal }) }
    const page = await store.list(prefix, options)
    folders.push(...page.folders)
    if (page.next === undefined) return folders
    after = page.next
  }
}
