import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { KubeObject } from '../../kube/object.ts'
import type { Observed } from './observed.ts'

/**
 * A volume that is older than the database object, and now serves it: one that was kept when a database of this name was deleted, or one that
 * a person put there. Undefined: there is none, or it was told already (the lineage stands in the status). Pure.
 */
export function adoptedVolume(
  database: KvidxDatabase & KubeObject,
  { claims, probe }: Pick<Observed, 'claims' | 'probe'>,
): { readonly claim: string; readonly lineage: string } | undefined {
  const { ready, lineage } = probe?.status ?? {}
  if (!ready || !lineage || database.status?.lineage !== undefined) return undefined
  const since = Date.parse(database.metadata.creationTimestamp ?? '')
  const claim = claims.find(({ metadata }) => Date.parse(metadata.creationTimestamp ?? '') < since)
  return claim && { claim: claim.metadata.name, lineage }
}
