/** Use of the volume at one moment. */
export interface GrowthSample {
  /** Unix ms */
  readonly time: number
  /** Bytes that cannot be written to again. */
  readonly used: number
}

const HOUR = 3600_000
const DAY = 24 * HOUR
/** Older samples say nothing about the days to come, ms. */
export const SAMPLES_KEPT = 7 * DAY
/** Pairs grow with the square: more samples than this are thinned out. */
const MOST = 150
/** Fewer samples, or a shorter time, is no trend. */
const LEAST = 12
const SHORTEST = 2 * HOUR
const LONGEST_DAYS = 3650

/**
 * Days until `room` bytes are used up, by the median of the slopes between all pairs of samples (Theil and Sen): a burst or a deletion that
 * touches less than a third of them hardly moves it. Undefined: it does not grow, not within ten years, or too little is known. Pure.
 */
export function daysUntilFull(samples: readonly GrowthSample[], room: number): number | undefined {
  const first = samples[0]
  const last = samples.at(-1)
  if (!first || !last || samples.length < LEAST || last.time - first.time < SHORTEST) return undefined
  const step = Math.max(1, samples.length / MOST)
  const chosen: GrowthSample[] = []
  for (let at = 0; at < samples.length; at += step) chosen.push(samples[Math.floor(at)] as GrowthSample)
  const slopes: number[] = []
  for (const [index, a] of chosen.entries())
    for (const b of chosen.slice(index + 1)) if (b.time > a.time) slopes.push((b.used - a.used) / (b.time - a.time))
  slopes.sort((a, b) => a - b)
  const slope = slopes[Math.floor(slopes.length / 2)] ?? 0
  if (slope <= 0) return undefined
  const days = Math.max(0, room) / slope / DAY
  return days <= LONGEST_DAYS ? days : undefined
}

/** Adds a sample and lets go of those that are too old, or from a future that a wrong clock had. */
export function withSample(samples: readonly GrowthSample[], sample: GrowthSample): GrowthSample[] {
  const kept = samples.filter(({ time }) => time < sample.time && sample.time - time <= SAMPLES_KEPT)
  return [...kept, sample]
}
