import type { KubeObject } from '../../../kube/object.ts'
import { DATA_PORT, OPERATIONS_PORT, ownedMeta, selectorOf } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

/** Data: pods of the namespace and whom the spec names. Health and metrics: everybody. */
export function networkPolicy({ names, namespace, name, owner, spec }: Blueprint): readonly KubeObject[] {
  const { enabled, from } = spec.security.networkPolicy
  if (!enabled) return []
  return [
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: ownedMeta(names.networkPolicy, namespace, name, owner),
      spec: {
        podSelector: { matchLabels: selectorOf(name) },
        policyTypes: ['Ingress'],
        ingress: [
          { from: [{ podSelector: {} }, ...from], ports: [{ port: DATA_PORT, protocol: 'TCP' }] },
          { ports: [{ port: OPERATIONS_PORT, protocol: 'TCP' }] },
        ],
      },
    } as KubeObject,
  ]
}
