import { milliseconds } from '../../common/duration.ts'
import { bytes } from '../../common/quantity.ts'
import { GROWN_ANNOTATION } from './names.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { Claim, Observed } from './observed.ts'

/** What autoGrow asks for: nothing, a size in bytes, or more than maxSize allows. */
export type Growth =
  | { readonly kind: 'none' }
  | { readonly kind: 'grow'; readonly claim: string; readonly to: number; readonly why: string }
  | { readonly kind: 'limit'; readonly claim: string; readonly why: string }

const NONE: Growth = { kind: 'none' }
const MIB = 1024 ** 2
const GIB = 1024 ** 3
/** Growth cannot be taken back, and a forecast can be wrong: below this use in percent it alone is no cause. */
const FORECAST_FROM = 50

/**
 * Whether the data volume should grow by itself, and to what. Judged as of the last answer of the pod that has the volume mounted. What is asked
 * for already comes first: a growth under way, or a larger spec.storage.size. Pure.
 */
export function growthOf({ spec, names }: Blueprint, { claims, pods, probe }: Observed): Growth {
  const { autoGrow, size } = spec.storage
  const claim = claims.find(({ metadata }) => metadata.name === names.dataClaim(0))
  const volume = probe?.status?.volume
  if (!autoGrow.enabled || autoGrow.maxSize === undefined || claim?.status?.phase !== 'Bound' || !volume) return NONE
  if (!pods.some(({ metadata }) => metadata.uid === probe.pod && metadata.deletionTimestamp === undefined)) return NONE
  const { name } = claim.metadata
  const requested = bytes(claim.spec.resources.requests.storage, name)
  const has = bytes(claim.status.capacity?.storage ?? 0, name)
  if (has < requested || requested < bytes(size, 'spec.storage.size')) return NONE
  // the figures may be those from before the last growth
  const interval = milliseconds(autoGrow.interval, 'spec.storage.autoGrow.interval')
  // a clock that was ahead then must not keep the volume from growing until it is reached
  if (Math.abs(probe.time - grownAt(claim)) < interval) return NONE
  const percent = ((volume.size - volume.free) / Math.max(1, volume.size)) * 100
  const why = cause(autoGrow, percent, volume.daysUntilFull)
  if (why === undefined) return NONE
  const most = bytes(autoGrow.maxSize, 'spec.storage.autoGrow.maxSize')
  if (has >= most) return { kind: 'limit', claim: name, why }
  // a full volume must not take several intervals until it is below the threshold
  const factor = Math.max(1 + autoGrow.step / 100, percent / autoGrow.threshold)
  return { kind: 'grow', claim: name, to: Math.min(most, rounded(has * factor)), why }
}

function cause(
  { threshold, daysUntilFull }: Blueprint['spec']['storage']['autoGrow'],
  percent: number,
  days: number | undefined,
): string | undefined {
  if (percent >= threshold) return `${threshold} % or more in use`
  return days !== undefined && days < daysUntilFull && percent >= FORECAST_FROM
    ? `full in less than ${daysUntilFull} days`
    : undefined
}

/** Unix ms; 0 when it never was, or when somebody wrote something else there. */
function grownAt({ metadata }: Claim): number {
  return Date.parse(metadata.annotations?.[GROWN_ANNOTATION] ?? '') || 0
}

/** Up, to what storage gives: whole GiB, below one whole MiB. */
function rounded(size: number): number {
  const unit = size >= GIB ? GIB : MIB
  return Math.ceil(size / unit) * unit
}
