import type { LineageCatalog } from '../backup/catalog.ts'
import { homePath } from '../backup/layout.ts'
import type { PrunePlan, PruneResult } from '../backup/prune.ts'

/** What `kvidx job prune` says. */
export interface PruneJobResult {
  readonly phase: 'Completed'
  readonly note?: string
  readonly dryRun: boolean
  /** Directories of the backups that went, or would go. */
  readonly removed: readonly string[]
  readonly result?: PruneResult
  /** Where the rules of the bucket decide: what they left, for whoever keeps records. Addresses end in `/`. */
  readonly stored?: { readonly under: string; readonly locations: readonly string[] }
}

/** Pure. @param location of the store */
export function pruneResult(
  plan: PrunePlan,
  location: string,
  options: { readonly byStore: boolean; readonly dryRun: boolean; readonly result: PruneResult | undefined },
): PruneJobResult {
  const { byStore, dryRun, result } = options
  return {
    phase: 'Completed',
    ...(byStore && { note: 'retention is left to the store', stored: storedIn(plan.catalog, location) }),
    dryRun,
    removed: byStore ? [] : plan.backups.filter(decision => !decision.keep).map(decision => decision.id),
    ...(result && { result }),
  }
}

/** A backup that cannot be read is there all the same. */
function storedIn({ home, backups, damaged }: LineageCatalog, location: string): NonNullable<PruneJobResult['stored']> {
  const paths = [
    ...backups.map(({ path }) => path),
    ...damaged.map(({ key }) => key.slice(0, key.lastIndexOf('/') + 1)),
  ]
  return { under: `${location}/${homePath(home)}`, locations: paths.map(path => `${location}/${path}`) }
}
