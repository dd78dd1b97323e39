import { type KubeObject, keyOf } from './object.ts'

/** What happened to an object, as far as it could be seen: several changes can have become one. */
export type Change<T extends KubeObject> =
  | { readonly type: 'added'; readonly object: T }
  | { readonly type: 'updated'; readonly object: T; readonly previous: T }
  /** `object` is its last state that was seen, which need not be the last it had. */
  | { readonly type: 'deleted'; readonly object: T }

/** The half of a store that readers get. Objects are shared: nobody may change them. */
export interface StoreReader<T extends KubeObject> {
  readonly size: number
  /** @param key `namespace/name`, see keyOf */
  get(key: string): T | undefined
  keys(): IterableIterator<string>
  all(): IterableIterator<T>
  inNamespace(namespace: string): readonly T[]
  /** Objects that name `uid` among their owners. */
  ownedBy(uid: string): readonly T[]
  /** Objects with the label. Throws RangeError for a label that is not indexed. */
  labelled(label: string, value: string): readonly T[]
}

type Index = Map<string, Set<string>>

/** Objects of one kind by `namespace/name`, with indexes by namespace, owner and chosen labels. */
export class Store<T extends KubeObject> implements StoreReader<T> {
  readonly #objects = new Map<string, T>()
  readonly #namespaces: Index = new Map()
  readonly #owners: Index = new Map()
  readonly #labels: ReadonlyMap<string, Index>

  /** @param labels labels to index, such as `app.kubernetes.io/instance` */
  constructor(labels: readonly string[] = []) {
    this.#labels = new Map(labels.map(label => [label, new Map()]))
  }

  get size(): number {
    return this.#objects.size
  }

  get(key: string): T | undefined {
    return this.#objects.get(key)
  }

  keys(): IterableIterator<string> {
    return this.#objects.keys()
  }

  all(): IterableIterator<T> {
    return this.#objects.values()
  }

  inNamespace(namespace: string): readonly T[] {
    return this.#lookUp(this.#namespaces, namespace)
  }

  ownedBy(uid: string): readonly T[] {
    return this.#lookUp(this.#owners, uid)
  }

  labelled(label: string, value: string): readonly T[] {
    const index = this.#labels.get(label)
    if (index === undefined) {
      throw new RangeError(
        `label '${label}' is not indexed (indexed: ${[...this.#labels.keys()].join(', ') || 'none'})`,
      )
    }
    return this.#lookUp(index, value)
  }

  /** Takes an object in. Answers what that changed: nothing when this version is there already. */
  put(object: T): readonly Change<T>[] {
    const key = keyOf(object.metadata)
    const previous = this.#objects.get(key)
    if (previous === undefined) {
      this.#insert(key, object)
      return [{ type: 'added', object }]
    }
    const { uid, resourceVersion } = previous.metadata
    if (uid !== object.metadata.uid) {
      // deleted and made anew while we did not look: what belonged to the old one must be told so
      this.#drop(key, previous)
      this.#insert(key, object)
      return [
        { type: 'deleted', object: previous },
        { type: 'added', object },
      ]
    }
    if (resourceVersion !== undefined && resourceVersion === object.metadata.resourceVersion) return []
    this.#drop(key, previous)
    this.#insert(key, object)
    return [{ type: 'updated', object, previous }]
  }

  /** Takes an object out; the change carries the state given here. */
  remove(object: T): readonly Change<T>[] {
    const key = keyOf(object.metadata)
    const previous = this.#objects.get(key)
    if (previous === undefined) return []
    this.#drop(key, previous)
    return [{ type: 'deleted', object }]
  }

  /**
   * Makes the store equal to a complete list; what is missing there was deleted.
   * @param namespace the list covers this namespace only
   */
  replace(objects: readonly T[], namespace?: string): readonly Change<T>[] {
    const listed = new Set(objects.map(object => keyOf(object.metadata)))
    const before = namespace === undefined ? [...this.#objects.values()] : this.inNamespace(namespace)
    const deleted = before.filter(object => !listed.has(keyOf(object.metadata)))
    return [...deleted.flatMap(object => this.remove(object)), ...objects.flatMap(object => this.put(object))]
  }

  #insert(key: string, object: T): void {
    this.#objects.set(key, object)
    for (const [index, value] of this.#entries(object)) {
      const keys = index.get(value)
      if (keys === undefined) index.set(value, new Set([key]))
      else keys.add(key)
    }
  }

  #drop(key: string, object: T): void {
    this.#objects.delete(key)
    for (const [index, value] of this.#entries(object)) {
      const keys = index.get(value)
      keys?.delete(key)
      if (keys?.size === 0) index.delete(value)
    }
  }

  *#entries(object: T): Generator<[Index, string]> {
    const { namespace, ownerReferences, labels } = object.metadata
    if (namespace !== undefined) yield [this.#namespaces, namespace]
    for (const owner of ownerReferences ?? []) yield [this.#owners, owner.uid]
    for (const [label, index] of this.#labels) {
      const value = labels?.[label]
      if (value !== undefined) yield [index, value]
    }
  }

  #lookUp(index: Index, value: string): readonly T[] {
    const found: T[] = []
    for (const key of index.get(value) ?? []) {
      const object = this.#objects.get(key)
      if (object !== undefined) found.push(object)
    }
    return found
  }
}
