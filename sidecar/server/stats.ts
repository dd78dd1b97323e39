import type { Database } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'

type Stats = Awaited<ReturnType<Database['stats']>>

/** The document of `/v1/stats`. Every u64 becomes a decimal string when it is written. */
export function statsDocument(database: Database, stats: Stats): Record<string, unknown> {
  return {
    lineage: database.lineage,
    engine: database.engine,
    engineVersion: database.engineVersion,
    position: formatPosition(stats.position),
    time: stats.time,
    count: stats.count,
    dataBytes: stats.dataBytes,
    digest: formatDigest(stats.digest),
    expiring: stats.expiring,
    minKey: stats.minKey,
    maxKey: stats.maxKey,
    log: { base: formatPosition(stats.logBase), bytes: stats.logBytes },
    epochs: database.epochs,
    figures: stats.figures,
  }
}
