import { KvidxError } from '../../src/common/errors.ts'
import type { HeldSnapshot } from '../database/readers.ts'
import type { EngineFigures, EngineKind } from '../engine/engine.ts'

/**
 * A snapshot keeps the engine from reusing what it may still read: the WAL (SQLite) or the files grow with every write beside it (RocksDB's
 * WAL does not: what it held goes into tables, and old versions stay in those). Cuts the oldest ones whose growth has passed the bound. Returns how many. @param bound bytes
 */
export function cutSnapshots(
  held: readonly HeldSnapshot[],
  engine: EngineKind,
  { walBytes = 0, fileBytes }: EngineFigures,
  bound: number,
): number {
  const size = engine === 'SQLite' ? walBytes : fileBytes
  let cut = 0
  for (const snapshot of held) {
    snapshot.baseline ??= size
    const growth = size - snapshot.baseline
    if (growth <= bound) continue
    snapshot.cut(
      new KvidxError(
        'snapshot_cut',
        `the database grew by ${growth} bytes while this snapshot was held (limits.snapshotGrowth allows ${bound}); read in smaller ranges`,
        { growth, allowed: bound },
      ),
    )
    cut++
  }
  return cut
}
