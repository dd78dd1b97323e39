import type { KubeObject } from '../../../kube/object.ts'
import { DATA_PORT, OPERATIONS_PORT, ownedMeta, selectorOf } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

const PORTS = [
  { name: 'data', port: DATA_PORT, targetPort: 'data', protocol: 'TCP' },
  { name: 'operations', port: OPERATIONS_PORT, targetPort: 'operations', protocol: 'TCP' },
] as const

/** With one replica all of them select by database alone; role labels come with replication. */
export function services({ names, namespace, name, owner }: Blueprint): readonly KubeObject[] {
  const service = (own: string, spec: object): KubeObject =>
    ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: ownedMeta(own, namespace, name, owner),
      spec: { type: 'ClusterIP', selector: selectorOf(name), ports: PORTS, ...spec },
    }) as KubeObject
  return [
    service(names.service, {}),
    service(names.readService, {}),
    // stable names of pods, also of those that are not ready: peers and the operator must find them while they recover
    service(names.headlessService, { clusterIP: 'None', publishNotReadyAddresses: true }),
  ]
}
