import type { ResolvedDatabaseSpec } from '../../../api/v1alpha1/database-spec.ts'
import { bytes } from '../../../common/quantity.ts'

const MIB = 1024 * 1024
/** What the process takes beside caches: measured at rest and under load, docs/costs in README. */
const BASE_REQUEST = 256 * MIB
const BASE_LIMIT = 1024 * MIB
/** `cacheSize: auto` begins with this and is bounded by the limit. */
const AUTO_CACHE = 64 * MIB

export interface ResourceAmounts {
  readonly requests?: Readonly<Record<string, string | number>>
  readonly limits?: Readonly<Record<string, string | number>>
}

/** The container's resources: those of the spec, else from the cache. No CPU limit: it would slow recovery and checkpoints. */
export function containerResources(spec: ResolvedDatabaseSpec): ResourceAmounts {
  const { cacheSize } = spec.tuning
  const cache = cacheSize === undefined || cacheSize === 'auto' ? AUTO_CACHE : bytes(cacheSize, 'spec.tuning.cacheSize')
  const mebibytes = (amount: number) => `${Math.ceil(amount / MIB)}Mi`
  return {
    requests: { cpu: '100m', memory: mebibytes(BASE_REQUEST + cache), ...spec.resources?.requests },
    limits: { memory: mebibytes(BASE_LIMIT + 2 * cache), ...spec.resources?.limits },
  }
}
