import type { Finding } from '../../api/v1alpha1/conditions.ts'
import { bytes } from '../../common/quantity.ts'
import type { KubeObject } from '../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS } from '../../kube/resources.ts'
import type { BackupRecord } from '../backup/record.ts'
import { CLONED_ANNOTATION } from './names.ts'
import type { Blueprint } from './objects/blueprint.ts'
import { statefulSet } from './objects/stateful-set.ts'
import type { Action, Observed } from './observed.ts'

/** How a new database begins as a copy of a volume. */
export interface ClonePlan {
  /** With `clonedFrom`, when its volume is such a copy. */
  readonly blueprint: Blueprint
  /** The StatefulSet waits: it would make an empty claim. */
  readonly hold: boolean
  readonly actions: readonly Action[]
  readonly findings: readonly Finding[]
}

/**
 * `bootstrap.restore.backup` of a VolumeSnapshot: the data claim is made from it before the StatefulSet makes an empty one. Only for a database
 * that has neither data nor claim. What the claim was made from stands on it, so that the record may go later. Pure.
 */
export function planClone(blueprint: Blueprint, observed: Observed): ClonePlan {
  const { spec, names } = blueprint
  const { restore } = spec.bootstrap ?? {}
  const plain: ClonePlan = { blueprint, hold: false, actions: [], findings: [] }
  if (restore?.backup === undefined) return plain
  const claim = observed.claims.find(({ metadata }) => metadata.name === names.dataClaim(0))
  const made = claim?.metadata.annotations?.[CLONED_ANNOTATION]
  if (made !== undefined) return { ...plain, blueprint: { ...blueprint, clonedFrom: made } }
  const record = observed.bootstrapBackup
  // a claim of another origin: the pod says that it is not empty
  if (claim || blueprint.lineage !== undefined || record?.spec.type !== 'VolumeSnapshot') return plain
  const problem = problemOf(blueprint, record)
  if (problem) return { ...plain, hold: true, findings: [problem] }
  const clonedFrom = record.status?.lineage ?? ''
  const object = claimFrom(blueprint, record.metadata.name, clonedFrom)
  const why = `a copy of VolumeSnapshot ${record.metadata.name}`
  return {
    blueprint: { ...blueprint, clonedFrom },
    hold: false,
    actions: [{ kind: 'create', resource: PERSISTENT_VOLUME_CLAIMS, object, why }],
    findings: [],
  }
}

function problemOf({ spec }: Blueprint, { metadata, status }: BackupRecord): Finding | undefined {
  const invalid = (field: string, problem: string): Finding => ({
    type: 'Stalled',
    status: 'True',
    reason: 'InvalidSpec',
    values: { field: `spec.${field}`, problem },
  })
  const { restore } = spec.bootstrap ?? {}
  if (restore?.time !== undefined || restore?.position !== undefined)
    return invalid('bootstrap.restore', `${metadata.name} is a VolumeSnapshot, which holds one moment alone`)
  if (status?.phase === 'Failed')
    return invalid('bootstrap.restore.backup', `${metadata.name} failed: ${status.error ?? 'unknown'}`)
  if (status?.phase !== 'Completed' || status.lineage === undefined) {
    const detail = `waiting for the backup ${metadata.name}`
    return { type: 'Reconciling', status: 'True', reason: 'Creating', values: { detail } }
  }
  const least = status.storedBytes ?? 0
  if (bytes(spec.storage.size, 'spec.storage.size') < least)
    return invalid('storage.size', `the volume in ${metadata.name} has ${least} bytes, and a copy cannot be smaller`)
  return undefined
}

/** As the StatefulSet would make it, from the snapshot. */
function claimFrom(blueprint: Blueprint, snapshot: string, lineage: string): KubeObject {
  const [template] = statefulSet(blueprint).spec.volumeClaimTemplates
  const { metadata, spec } = template as unknown as KubeObject & { readonly spec: object }
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: blueprint.names.dataClaim(0),
      namespace: blueprint.namespace,
      labels: metadata.labels,
      annotations: { [CLONED_ANNOTATION]: lineage },
    },
    spec: { ...spec, dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshot } },
  } as KubeObject
}
