import { isDeepStrictEqual } from 'node:util'
import type { KubeObject } from './object.ts'
import type { Change } from './store.ts'

/** Whether a change is worth a reconcile. */
export type Predicate<T extends KubeObject = KubeObject> = (change: Change<T>) => boolean

/** A predicate over updates: objects that come or go always pass. */
function onUpdate<T extends KubeObject>(differs: (object: T, previous: T) => boolean): Predicate<T> {
  return change => change.type !== 'updated' || differs(change.object, change.previous)
}

/** The spec changed, or deletion began: both raise the generation of an object whose kind has a status subresource. */
export const generationChanged: Predicate = onUpdate(
  (object, previous) =>
    object.metadata.generation !== previous.metadata.generation ||
    object.metadata.deletionTimestamp !== previous.metadata.deletionTimestamp,
)

export const labelsChanged: Predicate = onUpdate(
  (object, previous) => !isDeepStrictEqual(object.metadata.labels, previous.metadata.labels),
)

export const annotationsChanged: Predicate = onUpdate(
  (object, previous) => !isDeepStrictEqual(object.metadata.annotations, previous.metadata.annotations),
)

export const finalizersChanged: Predicate = onUpdate(
  (object, previous) => !isDeepStrictEqual(object.metadata.finalizers, previous.metadata.finalizers),
)

/** The spec or what people and tools write into the metadata; not the status, which is the controller's own writing. */
export const specOrMetadataChanged: Predicate = anyOf(
  generationChanged,
  labelsChanged,
  annotationsChanged,
  finalizersChanged,
)

/** Anything but the bookkeeping of the server: for owned objects, whose status counts and where drift must be seen. */
export const contentChanged: Predicate = onUpdate(
  (object, previous) => !isDeepStrictEqual(withoutBookkeeping(object), withoutBookkeeping(previous)),
)

/** The object is gone. */
export const deleted: Predicate = change => change.type === 'deleted'

/** Only objects of which this holds. */
export function where<T extends KubeObject>(holds: (object: T) => boolean): Predicate<T> {
  // an object that leaves the selection is as much a change as one that enters it
  return change => holds(change.object) || (change.type === 'updated' && holds(change.previous))
}

export function anyOf<T extends KubeObject>(...predicates: readonly Predicate<T>[]): Predicate<T> {
  return change => predicates.some(predicate => predicate(change))
}

export function allOf<T extends KubeObject>(...predicates: readonly Predicate<T>[]): Predicate<T> {
  return change => predicates.every(predicate => predicate(change))
}

function withoutBookkeeping(object: KubeObject): unknown {
  const { resourceVersion: _version, generation: _generation, ...metadata } = object.metadata
  return { ...object, metadata }
}
