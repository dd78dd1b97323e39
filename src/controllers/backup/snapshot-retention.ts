import { BACKUP_LABEL, SCHEDULE_LABEL } from './names.ts'
import type { BackupRecord } from './record.ts'
import { SNAPSHOT, type VolumeSnapshot } from './volume-snapshot.ts'

/**
 * The snapshots of schedules that retention lets go: of each lineage and schedule all but the newest `keep`, and all but the newest one of a lineage that has
 * ended, once the schedule has `keep` of later ones. One that was refuted does not count, and goes as soon as a newer one is not. Never the newest Verified of
 * a lineage, one that is not ready, or one made by hand. Pure. @param records whose verification is known
 */
export function excessSnapshots(
  snapshots: readonly VolumeSnapshot[],
  records: readonly BackupRecord[],
  keep: number,
): readonly VolumeSnapshot[] {
  const verification = new Map(records.map(({ metadata, status }) => [metadata.name, status?.verification]))
  const is = ({ metadata }: VolumeSnapshot, what: 'Verified' | 'Failed') => verification.get(metadata.name) === what
  const candidates = snapshots
    .filter(
      ({ metadata, status }) =>
        metadata.labels?.[SCHEDULE_LABEL] !== undefined &&
        metadata.labels[BACKUP_LABEL] === metadata.name &&
        metadata.deletionTimestamp === undefined &&
        status?.readyToUse === true,
    )
    .toSorted((a, b) => timeOf(b) - timeOf(a) || b.metadata.name.localeCompare(a.metadata.name))
  const proven = new Set(
    [...Map.groupBy(candidates, lineageOf).values()].map(newestFirst => newestFirst.find(one => is(one, 'Verified'))),
  )
  /** The lineage of this, its newest one of a schedule, has ended: later ones have as many as the schedule keeps. */
  const succeeded = (last: VolumeSnapshot) =>
    candidates.filter(
      one =>
        lineageOf(one) !== lineageOf(last) &&
        scheduleOf(one) === scheduleOf(last) &&
        timeOf(one) > timeOf(last) &&
        !is(one, 'Failed'),
    ).length >= keep
  const groups = Map.groupBy(candidates, one => `${lineageOf(one)}/${scheduleOf(one)}`)
  return [...groups.values()]
    .flatMap(newestFirst => {
      const [refuted, good] = [
        newestFirst.filter(one => is(one, 'Failed')),
        newestFirst.filter(one => !is(one, 'Failed')),
      ]
      const newest = good[0] ? timeOf(good[0]) : Number.NEGATIVE_INFINITY
      const most = succeeded(newestFirst[0] as VolumeSnapshot) ? Math.min(keep, 1) : keep
      // what was never proven is better than nothing, until something newer is there
      return [...good.slice(most), ...refuted.filter((one, index) => index >= most || timeOf(one) < newest)]
    })
    .filter(one => !proven.has(one))
}

function lineageOf({ metadata }: VolumeSnapshot): string {
  return metadata.annotations?.[SNAPSHOT.lineage] ?? ''
}

function scheduleOf({ metadata }: VolumeSnapshot): string {
  return metadata.labels?.[SCHEDULE_LABEL] ?? ''
}

function timeOf({ metadata, status }: VolumeSnapshot): number {
  return Date.parse(status?.creationTime ?? metadata.creationTimestamp ?? '') || 0
}
