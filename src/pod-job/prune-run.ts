import type { SidecarConfig } from '../api/v1alpha1/sidecar-config.ts'
import { SCHEDULE_LABEL } from '../controllers/backup/names.ts'
import { BACKUPS, type BackupRecord, isScheduled } from '../controllers/backup/record.ts'
import { excessSnapshots } from '../controllers/backup/snapshot-retention.ts'
import type { VolumeSnapshot } from '../controllers/backup/volume-snapshot.ts'
import { DATABASE_LABEL } from '../controllers/database/names.ts'
import { isNotFound } from '../kube/api-error.ts'
import type { KubeObject, Resource } from '../kube/object.ts'
import { VOLUME_SNAPSHOTS } from '../kube/resources.ts'
import { JOB_EXIT, type JobContext, type JobExit } from './context.ts'

/** Records of failed runs that are kept for a look, of each schedule: a store that is down for a week must not leave ten thousand. */
const FAILED_RECORDS = 10
const DAY = 24 * 3_600_000

export interface PruneRunInput {
  readonly config: SidecarConfig
  /** Flags for `kvidx job`. */
  readonly flags: readonly string[]
}

/** Retention of a database: the store's by `kvidx job prune`, VolumeSnapshots here, and records that have lost what they told of. */
export async function runPrune(context: JobContext, { config, flags }: PruneRunInput): Promise<JobExit> {
  const { api, namespace, database, log, signal } = context
  const end = await context.runJob(['prune', ...flags], () => {}, signal)
  if (end.exitCode !== 0) {
    log.error({ exitCode: end.exitCode }, 'pruning the store failed')
    return JOB_EXIT.failed
  }
  const scope = { namespace, labelSelector: `${DATABASE_LABEL}=${database}`, signal }
  const records = (await api.list<BackupRecord>(BACKUPS, scope)).items
  const removed = removedNames(end.result)
  const snapshots = await listSnapshots(context, scope)
  const copied = new Set(snapshots.map(({ metadata }) => metadata.name))
  const doomed = [
    ...records.filter(record => !isByHand(record) && removed.has(record.metadata.name)),
    ...expiredRecords(records, end.result, context.clock.now()),
    // the record of a VolumeSnapshot that was refuted is all that says so: it goes with it
    ...excessFailed(
      records.filter(({ metadata }) => !copied.has(metadata.name)),
      FAILED_RECORDS,
    ),
  ]
  for (const record of doomed) await remove(context, BACKUPS, record)
  const keep = config.dynamic.backup?.retention.volumeSnapshots
  const excess = keep === undefined ? [] : excessSnapshots(snapshots, records, keep)
  for (const snapshot of excess) {
    await remove(context, VOLUME_SNAPSHOTS, snapshot)
    const record = records.find(({ metadata }) => metadata.name === snapshot.metadata.name)
    if (record && isScheduled(record)) await remove(context, BACKUPS, record)
  }
  log.info({ records: doomed.length, snapshots: excess.length }, 'pruned')
  return JOB_EXIT.done
}

/** Retention has nothing to do with it. One that was found in the store has the label of its schedule, but no Job. */
function isByHand({ metadata }: BackupRecord): boolean {
  return metadata.labels?.[SCHEDULE_LABEL] === undefined
}

/** Names of backups that `kvidx job prune` says it removed: `removed: [name | {name}]` of its result. */
export function removedNames(result: string | undefined): ReadonlySet<string> {
  const { removed } = resultOf(result)
  const items = Array.isArray(removed) ? (removed as readonly unknown[]) : []
  return new Set(
    items.flatMap(item => {
      const name = typeof item === 'object' && item !== null ? (item as { name?: unknown }).name : item
      // the store calls it by its directory, `<time>-<name>`
      return typeof name === 'string' ? [name.replace(/^\d{8}T\d{9}Z-/, '')] : []
    }),
  )
}

/** What cannot be read says nothing. */
function resultOf(result: string | undefined): {
  readonly removed?: unknown
  readonly stored?: { readonly under: string; readonly locations: readonly string[] }
} {
  try {
    return JSON.parse(result ?? '{}') ?? {}
  } catch {
    return {}
  }
}

/**
 * Records of schedules whose backup the rules of the bucket removed: of the place that was looked through, and stored at least a day before. Pure.
 * @param now Unix ms
 */
export function expiredRecords(
  records: readonly BackupRecord[],
  result: string | undefined,
  now: number,
): readonly BackupRecord[] {
  const { stored } = resultOf(result)
  if (!stored) return []
  const there = new Set(stored.locations)
  return records.filter(record => {
    const { phase, location = '', completedAt = '' } = record.status ?? {}
    return (
      !isByHand(record) &&
      phase === 'Completed' &&
      location.startsWith(stored.under) &&
      !there.has(location) &&
      Date.parse(completedAt) < now - DAY
    )
  })
}

/** Failed records of schedules beyond the newest `keep` of each. Pure. */
export function excessFailed(records: readonly BackupRecord[], keep: number): readonly BackupRecord[] {
  const bySchedule = Map.groupBy(
    records.filter(record => isScheduled(record) && record.status?.phase === 'Failed'),
    ({ metadata }) => metadata.labels?.[SCHEDULE_LABEL] ?? '',
  )
  return [...bySchedule.values()].flatMap(failed =>
    failed
      .toSorted((a, b) => (b.metadata.creationTimestamp ?? '').localeCompare(a.metadata.creationTimestamp ?? ''))
      .slice(keep),
  )
}

async function listSnapshots(context: JobContext, scope: object): Promise<readonly VolumeSnapshot[]> {
  try {
    return (await context.api.list<VolumeSnapshot>(VOLUME_SNAPSHOTS, scope)).items
  } catch (error) {
    // a cluster without snapshots
    if (isNotFound(error)) return []
    throw error
  }
}

async function remove(context: JobContext, resource: Resource, { metadata }: KubeObject): Promise<void> {
  const { namespace, signal } = context
  try {
    const only = metadata.uid === undefined ? {} : { uid: metadata.uid }
    await context.api.delete(resource, { namespace, name: metadata.name }, { signal, ...only })
  } catch (error) {
    if (!isNotFound(error)) throw error
  }
}
