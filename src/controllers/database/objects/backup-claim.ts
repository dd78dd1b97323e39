import { bytes } from '../../../common/quantity.ts'
import type { KubeObject } from '../../../kube/object.ts'
import { PERSISTENT_VOLUME_CLAIMS } from '../../../kube/resources.ts'
import { keptLabelsOf } from '../names.ts'
import type { Action, Claim } from '../observed.ts'
import type { Blueprint } from './blueprint.ts'

/**
 * The volume of backups: without owner, so that it outlives the database, and without the label by which GitOps tools would prune it. Undefined
 * where backups go elsewhere.
 */
export function backupClaim({ names, namespace, name, spec }: Blueprint): KubeObject | undefined {
  const volume = spec.backup?.destination.volume
  if (!volume) return undefined
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: names.backupClaim, namespace, labels: keptLabelsOf(name) },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: String(volume.size) } },
      ...(volume.storageClassName !== undefined && { storageClassName: volume.storageClassName }),
      volumeMode: 'Filesystem',
    },
  } as KubeObject
}

/** Made once, grown when the spec says so, never shrunk and never deleted. Pure. @param live the claim, if it is there */
export function planBackupClaim(blueprint: Blueprint, live: Claim | undefined): readonly Action[] {
  const desired = backupClaim(blueprint) as Claim | undefined
  if (!desired) return []
  if (!live)
    return [{ kind: 'create', resource: PERSISTENT_VOLUME_CLAIMS, object: desired, why: 'the volume of backups' }]
  const { storage } = desired.spec.resources.requests
  const field = 'spec.backup.destination.volume.size'
  // an unbound claim cannot be changed, and one that goes is not worth it
  if (live.metadata.deletionTimestamp !== undefined || live.status?.phase !== 'Bound') return []
  if (bytes(live.spec.resources.requests.storage, field) >= bytes(storage, field)) return []
  return [
    {
      kind: 'patch',
      resource: PERSISTENT_VOLUME_CLAIMS,
      namespace: blueprint.namespace,
      name: live.metadata.name,
      body: { spec: { resources: { requests: { storage } } } },
      why: `grows from ${live.spec.resources.requests.storage} to ${storage}`,
    },
  ]
}
