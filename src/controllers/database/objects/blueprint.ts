import type { ResolvedDatabaseSpec } from '../../../api/v1alpha1/database-spec.ts'
import type { KvidxDatabase } from '../../../api/v1alpha1/kvidx-database.ts'
import type { OwnerReference } from '../../../kube/object.ts'
import { type Names, namesOf, ownerOf } from '../names.ts'

/** What the objects of one database are made from. Nothing else enters them: no clock, no operator version. */
export interface Blueprint {
  readonly name: string
  readonly namespace: string
  readonly owner: OwnerReference
  readonly names: Names
  readonly spec: ResolvedDatabaseSpec
  /** Image of the pods. */
  readonly image: string
  /** Version of the renderer of the pod template: status.templateVersion. */
  readonly templateVersion: number
  /** status.lineage */
  readonly lineage?: string
  /** Lineage in the VolumeSnapshot that the data claim is made from. */
  readonly clonedFrom?: string
  /** 0 while it sleeps. */
  readonly replicas: number
}

export function blueprintOf(
  database: KvidxDatabase,
  spec: ResolvedDatabaseSpec,
  image: string,
  templateVersion: number,
): Blueprint {
  const { name, namespace = 'default' } = database.metadata
  const lineage = database.status?.lineage
  return {
    name,
    namespace,
    owner: ownerOf(database),
    names: namesOf(name),
    spec,
    image,
    templateVersion,
    replicas: spec.hibernate ? 0 : spec.replicas,
    ...(lineage !== undefined && { lineage }),
  }
}
