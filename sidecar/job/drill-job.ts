import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { readLineage, since } from '../backup/catalog.ts'
import { recoveryWindow } from '../backup/chain.ts'
import type { Home } from '../backup/layout.ts'
import { openStore, type StoreSettings } from '../backup/store/settings.ts'
import { formatDigest } from '../database/digest.ts'
import { parsePosition } from '../database/position.ts'
import type { EngineKind } from '../engine/engine.ts'
import { FillThread } from '../restore/fill.ts'
import type { DatabaseClient } from './database-client.ts'
import { failureOf, type JobProgress } from './job-report.ts'

export interface DrillResult {
  readonly kind: 'drill'
  readonly phase: 'Completed' | 'Failed'
  /** The moment that was restored, RFC 3339. */
  readonly time?: string
  readonly position?: string
  readonly records?: string
  readonly digest?: string
  /** The database still knew what it had recorded at that position, and it was the same. */
  readonly comparedWithSource?: boolean
  /** From the beginning to a database that was read from end to end, ms. */
  readonly rtoMs?: number
  readonly sources?: number
  /** Files that proved damaged; others took their place. */
  readonly damaged?: readonly string[]
  readonly startedAt: string
  readonly completedAt: string
  readonly error?: string
  readonly code?: string
}

/** Restores a random moment of the recovery window into a scratch engine, as an exercise, and measures how long it takes. Never rejects. */
export async function runDrill(
  settings: StoreSettings,
  home: Home,
  options: {
    readonly clock: Clock
    readonly scratch: string
    readonly engine: EngineKind
    readonly signal: AbortSignal
    readonly client?: DatabaseClient
    /** Unix ms; default: a random one. */
    readonly time?: bigint
    /** 0 … 1 */
    readonly random?: () => number
    readonly progress?: JobProgress
  },
): Promise<DrillResult> {
  const { clock, engine, signal, client, random = Math.random } = options
  const startedAt = new Date(clock.now()).toISOString()
  const began = clock.monotonic()
  const directory = await mkdtemp(join(options.scratch, 'drill-'))
  const ended = () => new Date(clock.now()).toISOString()
  let time = options.time
  try {
    time ??= await randomMoment(settings, home, clock, random, signal)
    const thread = await FillThread.start(
      {
        kind: 'restore',
        store: settings,
        where: home,
        from: { kind: 'time', time },
        engine: { kind: engine, directory, tuning: { syncMode: 'Off' } },
        now: clock.now(),
      },
      ({ stage, records }) => options.progress?.(stage, records),
    )
    try {
      const filled = await thread.filled(signal)
      const rtoMs = Math.round(clock.monotonic() - began)
      const recorded = await client?.recordedAt(parsePosition(filled.reached, 'position'))
      if (recorded && (String(recorded.count) !== filled.count || formatDigest(recorded.digest) !== filled.digest))
        throw new KvidxError(
          'backup_corrupt',
          `restored ${filled.count} records with digest ${filled.digest} at ${filled.reached}; the database recorded ${recorded.count} with ${formatDigest(recorded.digest)}`,
        )
      return {
        kind: 'drill',
        phase: 'Completed',
        time: new Date(Number(time)).toISOString(),
        position: filled.reached,
        records: filled.count,
        digest: filled.digest,
        comparedWithSource: recorded !== undefined,
        rtoMs,
        sources: filled.sources.length,
        ...(filled.damaged && { damaged: filled.damaged }),
        startedAt,
        completedAt: ended(),
      }
    } finally {
      await thread.end()
    }
  } catch (thrown) {
    const { code, message } = failureOf(thrown)
    return {
      kind: 'drill',
      phase: 'Failed',
      ...(time !== undefined && { time: new Date(Number(time)).toISOString() }),
      startedAt,
      completedAt: ended(),
      error: message,
      code,
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Between the oldest moment of the window and the newest that the store knows. */
async function randomMoment(
  settings: StoreSettings,
  home: Home,
  clock: Clock,
  random: () => number,
  signal: AbortSignal,
): Promise<bigint> {
  const { store } = await openStore(settings, clock)
  try {
    const catalog = await readLineage(store, home, signal)
    const window = recoveryWindow(catalog)
    if (!window)
      throw new KvidxError('backup_not_found', `${store.location} has nothing of lineage ${home.lineage} to restore`)
    const oldest = Number(since(window.from))
    const newestBackup = Math.max(...catalog.backups.map(backup => Number(since(backup))))
    const newestSegment = Math.max(0, ...catalog.segments.map(segment => segment.modified))
    const newest = Math.max(oldest, newestBackup, newestSegment)
    return BigInt(Math.floor(oldest + random() * (newest - oldest)))
  } finally {
    await store.close()
  }
}
