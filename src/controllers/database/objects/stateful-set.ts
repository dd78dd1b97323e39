import { staticChecksum } from '../../../api/v1alpha1/sidecar-config.ts'
import { KvidxError } from '../../../common/errors.ts'
import type { KubeObject } from '../../../kube/object.ts'
import { CONFIG_ANNOTATION, keptLabelsOf, labelsOf, ownedMeta, selectorOf, TEMPLATE_ANNOTATION } from '../names.ts'
import type { Blueprint } from './blueprint.ts'
import { configOf } from './config-map.ts'
import type { PodTemplate } from './pod-template.ts'
import { podTemplateV1 } from './pod-template-v1.ts'
import { podTemplateV2 } from './pod-template-v2.ts'

export interface StatefulSet extends KubeObject {
  readonly spec: {
    readonly replicas: number
    readonly template: PodTemplate
    readonly volumeClaimTemplates: readonly {
      readonly metadata: { readonly name: string }
      readonly spec: { readonly resources: { readonly requests: { readonly storage: string } } }
    }[]
  }
  readonly status?: {
    readonly replicas?: number
    readonly readyReplicas?: number
    readonly currentRevision?: string
    readonly updateRevision?: string
    readonly observedGeneration?: number
  }
}

/**
 * Renderers of the pod template by status.templateVersion. A change of what they give restarts every database, so a new version is added and
 * the one before is kept until the next.
 */
const TEMPLATES: Readonly<Record<number, (blueprint: Blueprint) => PodTemplate['spec']>> = {
  1: podTemplateV1,
  2: podTemplateV2,
}
/** New databases get this one. */
export const NEWEST_TEMPLATE = 2

export function knowsTemplate(version: number): boolean {
  return version in TEMPLATES
}

/** Errors: conflict when the template version is not known. */
export function statefulSet(blueprint: Blueprint): StatefulSet {
  const { names, namespace, name, owner, spec, replicas, templateVersion } = blueprint
  const render = TEMPLATES[templateVersion]
  if (!render) throw new KvidxError('conflict', `template version ${templateVersion} is not known`)
  const { metadata } = spec.podTemplate
  const annotations = { [TEMPLATE_ANNOTATION]: String(templateVersion) }
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { ...ownedMeta(names.statefulSet, namespace, name, owner), annotations },
    spec: {
      replicas,
      serviceName: names.headlessService,
      podManagementPolicy: 'OrderedReady',
      revisionHistoryLimit: 3,
      updateStrategy: { type: 'RollingUpdate' },
      // volumes are never the StatefulSet's to remove: deletionPolicy is carried out by our finalizer alone
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
      selector: { matchLabels: selectorOf(name) },
      template: {
        metadata: {
          labels: { ...metadata?.labels, ...labelsOf(name) },
          annotations: { ...metadata?.annotations, [CONFIG_ANNOTATION]: staticChecksum(configOf(blueprint).static) },
        },
        spec: render(blueprint),
      },
      volumeClaimTemplates: [
        {
          apiVersion: 'v1',
          kind: 'PersistentVolumeClaim',
          metadata: { name: 'data', labels: keptLabelsOf(name) },
          spec: {
            accessModes: [spec.storage.accessMode],
            resources: { requests: { storage: String(spec.storage.size) } },
            ...(spec.storage.storageClassName !== undefined && { storageClassName: spec.storage.storageClassName }),
            volumeMode: 'Filesystem',
          },
        },
      ],
    },
  } as unknown as StatefulSet
}
