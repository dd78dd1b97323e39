import { controllerOf, type KubeObject, keyOf, type Resource } from './object.ts'

/** The keys that a changed object concerns. */
export type KeyMapping<T extends KubeObject = KubeObject> = (object: T) => readonly string[]

/** The object itself. */
export const itself: KeyMapping = object => [keyOf(object.metadata)]

/** The object's controller, if it is of this kind (in whatever version). */
export function controlledBy(resource: Resource): KeyMapping {
  return object => {
    const owner = controllerOf(object)
    if (owner === undefined || owner.kind !== resource.kind || groupOf(owner.apiVersion) !== resource.group) return []
    const { namespace } = object.metadata
    return [keyOf({ namespace: resource.namespaced ? namespace : undefined, name: owner.name })]
  }
}

/** The object that a label names, in the same namespace: for what carries no owner reference. */
export function namedByLabel(label: string): KeyMapping {
  return object => {
    const name = object.metadata.labels?.[label]
    return name === undefined || name === '' ? [] : [keyOf({ namespace: object.metadata.namespace, name })]
  }
}

function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/')
  return slash < 0 ? '' : apiVersion.slice(0, slash)
}
