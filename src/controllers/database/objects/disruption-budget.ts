import type { KubeObject } from '../../../kube/object.ts'
import { ownedMeta, selectorOf } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

/** Only from two replicas on: with one it would make every drain of a node hang. */
export function disruptionBudget({ names, namespace, name, owner, replicas }: Blueprint): readonly KubeObject[] {
  if (replicas < 2) return []
  return [
    {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: ownedMeta(names.disruptionBudget, namespace, name, owner),
      spec: { maxUnavailable: 1, selector: { matchLabels: selectorOf(name) } },
    } as KubeObject,
  ]
}
