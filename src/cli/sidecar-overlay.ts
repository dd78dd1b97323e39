import type { SidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { sidecarConfigSchema } from '../api/v1alpha1/sidecar-config-schema.ts'
import { check } from '../common/check.ts'
import type { Environment } from '../common/environment.ts'
import { bytes } from '../common/quantity.ts'
import type { SidecarFlags } from './sidecar-flags.ts'

/**
 * The document as flags and variables change it: flags win over variables, variables over the document. Errors: invalid_parameter naming
 * variable or field.
 */
export function overlaid(config: SidecarConfig, flags: SidecarFlags, environment: Environment): SidecarConfig {
  const { static: fixed, dynamic } = config
  const cache = environment.read('KVIDX_CACHE_SIZE')
  const { cacheSize, ...tuning } = fixed.tuning
  const chosen = cache === undefined ? cacheSize : cache === 'auto' ? undefined : bytes(cache, 'KVIDX_CACHE_SIZE')
  const changed = {
    ...config,
    static: {
      ...fixed,
      ...given({
        namespace: environment.read('KVIDX_NAMESPACE'),
        name: flags.name ?? environment.read('KVIDX_DATABASE'),
        engine: flags.engine ?? environment.read('KVIDX_ENGINE'),
      }),
      tuning: {
        ...tuning,
        ...given({
          cacheSize: chosen,
          syncMode: environment.read('KVIDX_SYNC_MODE'),
          journalMode: environment.read('KVIDX_JOURNAL_MODE'),
          busyTimeout: environment.read('KVIDX_BUSY_TIMEOUT'),
          mmapSize: environment.read('KVIDX_MMAP_SIZE'),
          mapSize: environment.read('KVIDX_MAP_SIZE'),
          compression: environment.read('KVIDX_COMPRESSION'),
        }),
      },
      autoCache: cache === undefined ? fixed.autoCache : cache === 'auto',
    },
    dynamic: {
      ...dynamic,
      monitoring: { ...dynamic.monitoring, ...given({ logLevel: environment.read('KVIDX_LOG_LEVEL') }) },
    },
  }
  return check(sidecarConfigSchema, changed, 'the configuration with flags and variables')
}

/** The members that have a value. */
export function given<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}
