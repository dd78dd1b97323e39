import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition, isAncestor } from '../database/position.ts'
import type { Backup, LineageCatalog } from './catalog.ts'

export type ParentChoice =
  | { readonly kind: 'Incremental'; readonly parent: Backup }
  /** No increment is possible: why, for the event and the log. */
  | { readonly kind: 'Full'; readonly reason: string }

/**
 * Which backup an increment continues: the newest on the database's ancestry whose own chain is whole and that the change log still reaches.
 * @param head where the database stands @param logBase the log holds every change behind this position
 */
export function chooseParent(
  catalog: LineageCatalog,
  epochs: readonly EpochRecord[],
  head: Position,
  logBase: Position,
): ParentChoice {
  const candidates = catalog.backups.filter(
    backup =>
      backup.verification?.result !== 'Failed' && isWhole(catalog, backup) && onAncestry(epochs, backup.position, head),
  )
  if (candidates.length === 0) {
    const any = catalog.backups.length > 0
    return {
      kind: 'Full',
      reason: any
        ? `no usable backup lies on the history of ${formatPosition(head)}`
        : 'the store has no backup of this lineage',
    }
  }
  const parent = candidates.reduce((best, backup) => (backup.position.seq >= best.position.seq ? backup : best))
  if (parent.position.seq < logBase.seq)
    return {
      kind: 'Full',
      reason: `the change log begins behind ${formatPosition(logBase)} and no longer reaches the newest backup, ${parent.name} at ${formatPosition(parent.position)}`,
    }
  return { kind: 'Incremental', parent }
}

function isWhole(catalog: LineageCatalog, backup: Backup): boolean {
  let at = backup
  for (let steps = 0; at.parent && steps <= catalog.backups.length; steps++) {
    const { directory } = at.parent
    const parent = catalog.backups.find(candidate => candidate.directory === directory)
    if (!parent || parent.verification?.result === 'Failed') return false
    at = parent
  }
  return at.kind === 'Full'
}

function onAncestry(epochs: readonly EpochRecord[], position: Position, head: Position): boolean {
  return epochs.some(record => record.epoch === head.epoch) && isAncestor(epochs, position, head)
}
