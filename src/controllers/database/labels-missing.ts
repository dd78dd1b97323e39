import type { Finding } from '../../api/v1alpha1/conditions.ts'
import type { KubeObject, Resource } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS } from '../../kube/resources.ts'
import { DATABASE_LABEL, keptLabelsOf, MANAGED_BY } from './names.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { Observed } from './observed.ts'

/**
 * Our watches do not see an object without our labels, and putting them on says whose it is: a person is told. Undefined where they are there, and the watch
 * has only not told of it yet. Pure.
 */
export function labelsMissing(
  { kind }: Resource,
  { metadata }: KubeObject,
  wanted: Readonly<Record<string, string>> = {},
): Finding | undefined {
  const labels = [...Object.keys(MANAGED_BY), DATABASE_LABEL]
    .filter(label => metadata.labels?.[label] !== wanted[label])
    .map(label => `${label}=${wanted[label]}`)
    .join(' ')
  if (labels === '') return undefined
  return { type: 'Stalled', status: 'True', reason: 'LabelsMissing', values: { kind, name: metadata.name, labels } }
}

/** As `labelsMissing`, of a data claim that somebody made for the pod. */
export function strayClaim({ name }: Blueprint, { strayClaim }: Observed): Finding | undefined {
  return strayClaim && labelsMissing(PERSISTENT_VOLUME_CLAIMS, strayClaim, keptLabelsOf(name))
}
