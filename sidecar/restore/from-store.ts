import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { type LineageCatalog, readCatalog, readLineage } from '../backup/catalog.ts'
import { type ChangeSource, resolveChain, type Target } from '../backup/chain.ts'
import { type DatabaseName, databasePath } from '../backup/layout.ts'
import { type Mark, stageRestore } from '../backup/restore.ts'
import { openStore } from '../backup/store/settings.ts'
import { type BackupStore, listFolders } from '../backup/store/store.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition, isAncestor } from '../database/position.ts'
import type { Filled, FillProgress, FillTask, RestoreFrom } from './fill.ts'

/** Restores from a store into the task's engine. Errors: those of resolveChain and stageRestore, backup_not_found. */
export async function fillFromStore(
  task: FillTask & { kind: 'restore' },
  clock: Clock,
  signal: AbortSignal,
  progress: (progress: FillProgress) => void,
): Promise<Filled> {
  const context = { ...(await openStore(task.store, clock)), signal }
  try {
    const catalog = await findLineage(context.store, task.where, task.from, signal)
    const chain = resolveChain(catalog, targetOf(catalog, task.from))
    const { kind, directory, tuning } = task.engine
    const mark = task.continues ? inPlace(task.continues, task.now) : inNewLineage(task.now)
    let marked: Mark | undefined
    const restored = await stageRestore(context, chain, {
      engine: kind,
      directory,
      tuning,
      mark: (reached, history) => {
        marked = mark(reached, history)
        return marked
      },
      progress,
    })
    const { reached, sources, damaged, complete } = restored
    return {
      reached: formatPosition(reached.position),
      reachedTime: String(reached.time),
      position: formatPosition((marked?.state ?? reached).position),
      count: String(reached.count),
      dataBytes: String(reached.dataBytes),
      digest: formatDigest(reached.digest),
      lineage: catalog.lineage,
      sources: [chain.base.directory, ...sources.map(nameOf)],
      ...(damaged.length > 0 && { damaged: damaged.map(({ message }) => message) }),
      // a target that is no time is met or refused, unless the newest state is enough
      complete: complete && (task.from.kind === 'time' || chain.gap === undefined),
    }
  } finally {
    await context.store.close()
  }
}

function nameOf(source: ChangeSource): string {
  return source.type === 'increment' ? source.backup.directory : source.segment.key
}

/** The target that a restore means. Errors: backup_not_found. */
export function targetOf(catalog: LineageCatalog, from: RestoreFrom): Target {
  if (from.kind !== 'latestBackup') return from
  const newest = catalog.backups.filter(backup => backup.good).at(-1)
  if (!newest)
    throw new KvidxError('backup_not_found', `the store has no good backup of lineage ${catalog.lineage}`, {
      lineage: catalog.lineage,
    })
  return { kind: 'backup', name: newest.directory }
}

/**
 * The lineage to restore from: the named one; else that which has the named backup, also of another database of the same namespace; else the one with the newest
 * backup. Errors: backup_not_found.
 */
export async function findLineage(
  store: BackupStore,
  where: DatabaseName & { readonly lineage?: string | undefined },
  from: RestoreFrom,
  signal?: AbortSignal,
): Promise<LineageCatalog> {
  const { namespace, database, lineage } = where
  if (lineage !== undefined) return readLineage(store, { namespace, database, lineage }, signal)
  const own = await readCatalog(store, { namespace, database }, signal)
  if (from.kind === 'backup') {
    const { name } = from
    const has = (catalog: LineageCatalog) =>
      catalog.backups.some(backup => backup.name === name || backup.directory === name)
    const found = own.find(has)
    if (found) return found
    const prefix = `${databasePath({ namespace, database }).split('/')[0]}/`
    for (const folder of await listFolders(store, prefix, signal)) {
      const other = folder.slice(prefix.length, -1)
      if (other === database) continue
      const hit = (await readCatalog(store, { namespace, database: other }, signal)).find(has)
      if (hit) return hit
    }
  }
  const newest = own
    .filter(catalog => catalog.backups.length > 0)
    .reduce<LineageCatalog | undefined>((best, catalog) => {
      const time = (of: LineageCatalog | undefined) => of?.backups.at(-1)?.time ?? 0
      return time(catalog) > time(best) ? catalog : best
    }, undefined)
  if (newest) return newest
  throw new KvidxError(
    'backup_not_found',
    `${store.location} has no backup${from.kind === 'backup' ? ` '${from.name}'` : ''} of ${namespace}/${database}`,
    { namespace, database },
  )
}

/** The epoch of an in-place restore: newer than all that the database or the store know. */
function inPlace(own: readonly EpochRecord[], now: number) {
  return (reached: DatabaseState, stored: readonly EpochRecord[]): Mark => {
    const known = new Map([...stored, ...own].map(record => [record.epoch, record]))
    const history = [...known.values()].sort((a, b) => (a.epoch < b.epoch ? -1 : 1))
    const epoch = (history.at(-1)?.epoch ?? 0n) + 1n
    const { position } = reached
    if (!isAncestor(history, position, position))
      throw new KvidxError('backup_not_found', `epoch ${position.epoch} is not in the history of this lineage`)
    const next = { epoch, seq: position.seq }
    return {
      state: { ...reached, position: next, logBase: next },
      epochs: [
        ...history,
        { epoch, parentEpoch: position.epoch, forkSeq: position.seq, reason: 'restored', time: BigInt(now) },
      ],
    }
  }
}

/** A new lineage begins with epoch 1 where the restore ended; identity.json says where it came from. */
function inNewLineage(now: number) {
  return (reached: DatabaseState): Mark => {
    const position = { epoch: 1n, seq: reached.position.seq }
    return {
      state: { ...reached, position, logBase: position },
      epochs: [{ epoch: 1n, forkSeq: position.seq, reason: 'restored', time: BigInt(now) }],
    }
  }
}
