import type { DatabaseState, EpochRecord } from '../database/database.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import { type EngineKind, EVERY_KEY } from '../engine/engine.ts'

/** Who the data comes from. */
export interface SourceDescription {
  readonly lineage: string
  readonly epochs: readonly EpochRecord[]
  readonly engine: EngineKind
  readonly engineVersion: string
}

/** One consistent moment of a database. What it says of itself was recorded by the database, not computed from the stream. */
export interface SnapshotSource extends SourceDescription {
  readonly state: DatabaseState
  /** Of stored records; undefined when there is none. */
  readonly minKey?: bigint
  readonly maxKey?: bigint
  /** Every stored record in key order, as a kvidxkit BINARY export. */
  records(): AsyncIterable<Uint8Array>
  /** `expiries.bin` of the same moment. */
  expiries(): AsyncIterable<Uint8Array>
  release(): void
}

/** Commits behind a position. */
export interface ChangesSource extends SourceDescription {
  /** Encoded frames, whole ones, to the newest durable commit. Rejects with log_trimmed when the log does not reach back. */
  frames(): AsyncIterable<Uint8Array>
}

/** A snapshot of a database in this process. Release it. */
export async function snapshotOf(database: LocalDatabase, signal: AbortSignal): Promise<SnapshotSource> {
  const snapshot = await database.snapshot(signal)
  try {
    const { minKey, maxKey } = await snapshot.call('bounds', {}, signal)
    return {
      lineage: database.lineage,
      epochs: snapshot.epochs,
      engine: database.engine,
      engineVersion: database.engineVersion,
      state: snapshot.state,
      ...(minKey !== undefined && { minKey }),
      ...(maxKey !== undefined && { maxKey }),
      records: () =>
        snapshot.stream(
          {
            kind: 'records',
            options: { range: EVERY_KEY, descending: false, values: true, format: 'binary', stored: true },
            now: 0n,
          },
          signal,
        ),
      expiries: () => snapshot.stream({ kind: 'expiries' }, signal),
      release: snapshot.release,
    }
  } catch (thrown) {
    snapshot.release()
    throw thrown
  }
}
