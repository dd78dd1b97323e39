import { POD_PATHS } from '../../../api/v1alpha1/sidecar-config.ts'
import type { Blueprint } from './blueprint.ts'

/** What a pod needs to reach a place that its spec names. */
export interface Mounts {
  readonly claim?: { readonly name: string; readonly path: string }
  readonly secrets: readonly { readonly volume: string; readonly secret: string; readonly path: string }[]
}

/**
 * Where the first data comes from, as far as the pod would not have it anyway. It stays for as long as the spec has the block: a pod that is
 * restarted halfway through its bootstrap needs it again. Pure.
 */
export function bootstrapMounts({ spec: { bootstrap, backup, security } }: Blueprint): Mounts {
  const { restore } = bootstrap ?? {}
  const place = restore ? restore.source : bootstrap?.import
  if (!restore && !place) return { secrets: [] }
  const secrets: { volume: string; secret: string; path: string }[] = []
  const secret = (volume: string, name: string | undefined, path: string) => {
    if (name !== undefined) secrets.push({ volume, secret: name, path })
  }
  const { volume, s3 } = place ?? {}
  secret('bootstrap-s3-credentials', s3?.credentialsSecretRef?.name, POD_PATHS.bootstrapS3Credentials)
  secret('bootstrap-s3-ca', s3?.caSecretRef?.name, POD_PATHS.bootstrapS3Ca)
  // with `continuous` the pod has what belongs to the destination already
  if (backup && !backup.continuous.enabled) {
    const own = !volume && !s3 ? backup.destination.s3 : undefined
    secret('s3-credentials', own?.credentialsSecretRef?.name, POD_PATHS.s3Credentials)
    secret('s3-ca', own?.caSecretRef?.name, POD_PATHS.s3Ca)
    if (!backup.destination.volume)
      secret('encryption', restore && security.encryption?.secretRef.name, POD_PATHS.encryption)
  }
  return { secrets, ...(volume && { claim: { name: volume.claimName, path: POD_PATHS.bootstrap } }) }
}
