/** Plain JSON objects of the Kubernetes API: no typed models, because those drop the fields they do not know. */

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
  readonly blockOwnerDeletion?: boolean
}

export interface ObjectMeta {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  /** Opaque: compared for equality only. */
  readonly resourceVersion?: string
  readonly generation?: number
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly deletionGracePeriodSeconds?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
  readonly finalizers?: readonly string[]
}

/** Any object. What lies beside the metadata is unknown until the caller says its type: `api.get<StatefulSet>(…)`. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: ObjectMeta
}

/** As the built-in kinds have them in their status. */
export interface StatusCondition {
  readonly type: string
  readonly status: string
  readonly reason?: string
  readonly message?: string
  readonly lastTransitionTime?: string
}

export interface ObjectRef {
  readonly namespace?: string | undefined
  readonly name: string
}

/** Where a kind lives in the API. */
export interface Resource {
  /** Empty for the core group. */
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly kind: string
  readonly namespaced: boolean
}

/** `apps/v1`, or `v1` for the core group. */
export function apiVersionOf(resource: Resource): string {
  return resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
}

/** `namespace/name`, or `name` of an object without a namespace. The key of stores and queues. */
export function keyOf(ref: ObjectRef): string {
  return ref.namespace === undefined || ref.namespace === '' ? ref.name : `${ref.namespace}/${ref.name}`
}

/** The inverse of keyOf. */
export function refOf(key: string): ObjectRef {
  const slash = key.indexOf('/')
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) }
}

/** The owner that manages the object, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find(owner => owner.controller === true)
}

/**
 * The path of an object, or of a collection without a name. A namespaced resource without a namespace is the collection of all namespaces.
 * Throws RangeError when the reference does not fit the resource.
 */
export function pathOf(
  resource: Resource,
  ref: { namespace?: string | undefined; name?: string },
  subresource?: string,
): string {
  const root = resource.group === '' ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`
  if (!resource.namespaced && ref.namespace !== undefined) {
    throw new RangeError(`${resource.plural} have no namespace, but '${ref.namespace}' was given`)
  }
  if (resource.namespaced && ref.name !== undefined && !ref.namespace) {
    throw new RangeError(`${resource.plural} '${ref.name}': the namespace is missing`)
  }
  // an empty name would turn the deletion of one object into that of the collection
  if (ref.name === '') throw new RangeError(`${resource.plural}: the name is empty`)
  const parts = [root]
  if (resource.namespaced && ref.namespace !== undefined) parts.push('namespaces', encodeURIComponent(ref.namespace))
  parts.push(resource.plural)
  if (ref.name !== undefined) parts.push(encodeURIComponent(ref.name))
  if (subresource !== undefined) parts.push(subresource)
  return parts.join('/')
}
