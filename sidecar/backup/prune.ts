import { KvidxError } from '../../src/common/errors.ts'
import type { Backup, LineageCatalog } from './catalog.ts'
import { MANIFEST, VERIFICATION } from './layout.ts'
import {
  type Decision,
  planRetention,
  type RetainedBackup,
  type RetainedSegment,
  type RetentionPlan,
  type RetentionPolicy,
} from './retention.ts'
import type { BackupStore } from './store/store.ts'

/** Files without a manifest and uploads that were never completed are left alone until something so much newer is stored: their maker may live. */
const UNFINISHED_GRACE_MS = 24 * 3_600_000
/** A clock that is further ahead of the newest that is stored lets nothing more go: two daily backups are so far apart. */
const AHEAD_MS = 24 * 3_600_000

/** A retention plan with what it would remove, for people (`--dry-run`) and for `prune`. */
export interface PrunePlan extends RetentionPlan {
  readonly catalog: LineageCatalog
  /** Directories without a manifest, old enough. */
  readonly unfinished: LineageCatalog['unfinished']
  /** Unfinished work that is older has no maker any more, Unix ms. */
  readonly deadBefore: number
}

export interface PruneResult {
  readonly backups: number
  readonly segments: number
  readonly unfinished: number
  readonly uploads: number
  readonly bytes: number
  /** Objects that the credentials do not allow to delete: retention is left to the bucket. */
  readonly denied: number
}

/** What the policy would do with a lineage. Pure but for the time zone data. Damaged backups are never in it: a person decides on those. @param now Unix ms */
export function planPrune(catalog: LineageCatalog, policy: RetentionPolicy, now: number): PrunePlan {
  const backups = catalog.backups.map(retained)
  const segments = catalog.segments.map(retainedSegment)
  // a clock that is far ahead puts every moment outside the window; what is stored tells how late it is at least
  const times = [...backups, ...segments].map(({ time }) => time).concat(catalog.unfinished.map(item => item.modified))
  const newest = times.reduce((most, time) => Math.max(most, time), 0)
  const plan = planRetention({ backups, segments, epochs: catalog.epochs }, policy, Math.min(now, newest + AHEAD_MS))
  const deadBefore = Math.min(now, newest) - UNFINISHED_GRACE_MS
  const unfinished = catalog.unfinished.filter(item => item.modified <= deadBefore)
  return { ...plan, catalog, unfinished, deadBefore }
}

/** A backup as retention sees it. */
export function retained(backup: Backup): RetainedBackup {
  const { kind, directory, time, commitTime, position, good, verified, parent, manifest } = backup
  return {
    id: directory,
    kind,
    time,
    commitTime: Number(commitTime),
    position,
    good,
    verified,
    manual: manifest.schedule === undefined,
    ...(parent && { parent: { id: parent.directory, position: parent.position } }),
  }
}

function retainedSegment({ key, epoch, first, last, modified }: LineageCatalog['segments'][number]): RetainedSegment {
  return { id: key, epoch, first, last, time: modified }
}

/**
 * Removes what the plan lets go. A manifest goes first: from then on there is no backup, whatever remains of its files. Increments go before what they continue.
 * Errors: the store's, but not store_denied, which is counted.
 */
export async function prune(store: BackupStore, plan: PrunePlan, signal?: AbortSignal): Promise<PruneResult> {
  const remover = new Remover(store, signal)
  const gone = (decisions: readonly Decision[]) =>
    new Set(decisions.filter(decision => !decision.keep).map(decision => decision.id))
  const backups = gone(plan.backups)
  const doomed = plan.catalog.backups.filter(backup => backups.has(backup.directory)).reverse()
  for (const backup of doomed) await remover.backup(backup)
  const segments = gone(plan.segments)
  for (const { key, size } of plan.catalog.segments) if (segments.has(key)) await remover.object(key, size)
  const removedSegments = remover.objects - remover.ofBackups
  for (const { keys } of plan.unfinished) for (const key of keys) await remover.object(key, 0)
  let uploads = 0
  const { namespace, database, lineage } = plan.catalog.home
  for (const partial of await store.listPartial(`${namespace}/${database}/${lineage}/`, signal)) {
    if (partial.modified > plan.deadBefore) continue
    await store.removePartial(partial, signal)
    uploads++
  }
  return {
    backups: remover.backups,
    segments: removedSegments,
    unfinished: plan.unfinished.length,
    uploads,
    bytes: remover.bytes,
    denied: remover.denied,
  }
}

/**
 * Removes one backup, manifest first. Answers what was removed, bytes. Errors: conflict naming an increment that continues it, store_denied when the manifest
 * may not be deleted, and the store's.
 */
export async function removeBackup(
  store: BackupStore,
  catalog: LineageCatalog,
  backup: Backup,
  signal?: AbortSignal,
): Promise<number> {
  const child = catalog.backups.find(other => other.parent?.directory === backup.directory)
  if (child)
    throw new KvidxError('conflict', `${backup.name} is needed by ${child.name}: delete that one first`, {
      needed: child.name,
    })
  const remover = new Remover(store, signal)
  await remover.backup(backup)
  if (remover.backups === 0)
    throw new KvidxError('store_denied', `${store.location} does not let ${backup.path} be deleted`)
  return remover.bytes
}

class Remover {
  objects = 0
  ofBackups = 0
  backups = 0
  bytes = 0
  denied = 0
  readonly #store: BackupStore
  readonly #signal: AbortSignal | undefined

  constructor(store: BackupStore, signal: AbortSignal | undefined) {
    this.#store = store
    this.#signal = signal
  }

  async backup({ path, manifest, verification }: Backup): Promise<void> {
    const before = this.objects
    // without the right to delete its manifest a backup keeps its files, too
    if (!(await this.object(path + MANIFEST, 0))) return
    for (const { name, size } of manifest.files) await this.object(path + name, size)
    if (verification) await this.object(path + VERIFICATION, 0)
    this.ofBackups += this.objects - before
    this.backups++
  }

  async object(key: string, size: number): Promise<boolean> {
    try {
      await this.#store.delete(key, this.#signal)
      this.objects++
      this.bytes += size
      return true
    } catch (thrown) {
      if (!(thrown instanceof KvidxError) || thrown.code !== 'store_denied') throw thrown
      this.denied++
      return false
    }
  }
}
