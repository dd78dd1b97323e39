import type { ResolvedDatabaseSpec } from '../../../api/v1alpha1/database-spec.ts'
import { bytes, parseNano } from '../../../common/quantity.ts'

const MIB = 1024 * 1024
/** What the process takes beside caches: measured at rest and under load, docs/costs in README. */
const BASE_REQUEST = 256 * MIB
const BASE_LIMIT = 1024 * MIB
const CPU_REQUEST = '100m'
const CPU_REQUEST_NANO = parseNano(CPU_REQUEST) ?? 0n
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
  return withDefaultAmounts(spec.resources, 'spec.resources', BASE_REQUEST + cache, BASE_LIMIT + 2 * cache)
}

/** What is given, and the defaults for the rest, memory in bytes. @param field for the message of an error */
export function withDefaultAmounts(
  { requests, limits }: ResourceAmounts = {},
  field: string,
  memoryRequest: number,
  memoryLimit: number,
): ResourceAmounts {
  const mebibytes = (amount: number) => `${Math.ceil(amount / MIB)}Mi`
  const amount = (value: string | number | undefined, which: string) =>
    value === undefined ? undefined : bytes(value, `${field}.${which}.memory`)
  // where one of the two is given, the default of the other must not contradict it
  const request = Math.min(memoryRequest, amount(limits?.memory, 'limits') ?? Number.POSITIVE_INFINITY)
  const limit = Math.max(memoryLimit, amount(requests?.memory, 'requests') ?? 0)
  const cpu = limits?.cpu !== undefined && (parseNano(limits.cpu) ?? 0n) < CPU_REQUEST_NANO ? limits.cpu : CPU_REQUEST
  return {
    requests: { cpu, memory: mebibytes(request), ...requests },
    limits: { memory: mebibytes(limit), ...limits },
  }
}
