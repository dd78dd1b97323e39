import { join } from 'node:path'
import type { ConfigPaths } from '../api/v1alpha1/sidecar-config.ts'

/** Where one database of `kvidx run` keeps its things: `<root>/<namespace>/<name>/`. */
export interface StandalonePaths {
  readonly directory: string
  /** The volume, as in a pod. */
  readonly data: string
  readonly config: string
  /** What `kvidx run` remembers between runs. */
  readonly memory: string
  readonly log: string
  readonly socket: string
  readonly backups: string
}

export function standalonePaths(root: string, namespace: string, name: string): StandalonePaths {
  const directory = join(root, namespace, name)
  return {
    directory,
    data: join(directory, 'data'),
    config: join(directory, 'config.json'),
    memory: join(directory, 'run.json'),
    log: join(directory, 'sidecar.log'),
    socket: join(directory, 'kvidx.sock'),
    backups: join(directory, 'backups'),
  }
}

/** What stands in the pod's mount points, below the same directory; put secrets there by hand. */
export function configPaths(paths: StandalonePaths): ConfigPaths {
  const below = (name: string) => join(paths.directory, name)
  return {
    backups: paths.backups,
    s3Credentials: below('s3-credentials'),
    s3Ca: below('s3-ca'),
    encryption: below('encryption'),
    bootstrap: below('bootstrap'),
    bootstrapS3Credentials: below('bootstrap-s3-credentials'),
    bootstrapS3Ca: below('bootstrap-s3-ca'),
  }
}
