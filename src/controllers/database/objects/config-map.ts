import { renderSidecarConfig, type SidecarConfig, sidecarConfig } from '../../../api/v1alpha1/sidecar-config.ts'
import type { KubeObject } from '../../../kube/object.ts'
import { ownedMeta } from '../names.ts'
import type { Blueprint } from './blueprint.ts'

/** File in the pod: /etc/kvidx/config/config.json. */
export const CONFIG_KEY = 'config.json'

export function configOf({ namespace, name, spec, lineage, clonedFrom }: Blueprint): SidecarConfig {
  return sidecarConfig({
    namespace,
    name,
    spec,
    ...(lineage !== undefined && { expectedLineage: lineage }),
    ...(clonedFrom !== undefined && { clonedFrom }),
  })
}

export function configMap(blueprint: Blueprint): KubeObject & { readonly data: Readonly<Record<string, string>> } {
  const { names, namespace, name, owner } = blueprint
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: ownedMeta(names.configMap, namespace, name, owner),
    data: { [CONFIG_KEY]: renderSidecarConfig(configOf(blueprint)) },
  }
}
