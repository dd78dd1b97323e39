import { Cron } from 'croner'
import type { DynamicConfig } from '../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { volumeSpace } from '../../src/common/volume-space.ts'
import { formatDigest } from '../database/digest.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import { formatPosition } from '../database/position.ts'
import type { EngineFigures } from '../engine/engine.ts'
import { scaleOf } from '../engine/rocksdb/scale.ts'
import type { ExpiryGate } from './expiry-gate.ts'
import { rewriteBeside } from './rewrite.ts'
import type { Task } from './task-board.ts'

type Settings = DynamicConfig['maintenance']

/** A slice of expiry must not hold up a write for longer than this. */
const SLICE_MS = 50
const RECLAIM_PAUSE = 20

/**
 * Removes expired records in slices of one commit each; a slice ends after 25 ms of work, so that with its way to the disk no write waits for more
 * than about 50 ms. Does nothing while the gate is closed; a person may confirm the clock.
 */
export function expireTask(
  database: LocalDatabase,
  settings: () => Settings['expiry'],
  gate: ExpiryGate,
  clock: Clock,
): Task {
  return {
    name: 'expire',
    next: now => now + settings().interval,
    parameters: ['confirm'],
    async run({ signal, parameters }) {
      if (parameters.confirm === 'true') gate.confirmClock()
      const closed = database.rewriting ? 'the files are being rewritten' : gate.closed
      if (closed !== undefined) return { removed: 0, paused: closed }
      const until = BigInt(clock.now())
      let removed = 0
      for (;;) {
        if (signal.aborted) throw new KvidxError('cancelled', 'expiry was cancelled')
        const limit = settings().batchSize
        const slice = await database.session().writer.call('expire', { until, limit, budgetMs: SLICE_MS / 2 })
        removed += slice.removed
        if (!slice.more) return { removed }
      }
    },
  }
}

/** RocksDB cannot be left to find out that a flush or a compaction does not fit: it fails for good, or aborts the process. */
const MIB = 1024 * 1024
const ROCKS_ROOM = 16 * MIB

function ensureRoom(database: LocalDatabase, what: string): void {
  if (database.engine !== 'RocksDB') return
  const { size, free } = volumeSpace(database.layout.root)
  // its buffers and tables are as small as the volume
  const needed = Math.max(2 * MIB, ROCKS_ROOM * scaleOf(size))
  if (free < needed)
    throw new KvidxError('insufficient_space', `${what} needs ${needed} bytes free, ${free} are`, { free, needed })
}

/** Moves the WAL into the database; cuts the file when no reader holds it. */
export function checkpointTask(database: LocalDatabase, settings: () => Settings['checkpoint']): Task {
  return {
    name: 'checkpoint',
    next: now => now + settings().interval,
    parameters: [],
    async run({ signal }) {
      ensureRoom(database, 'a flush')
      const { writer, readers } = database.session()
      // the bulk is copied beside the writer, so that no commit waits for it
      await readers.call('checkpoint', {}, signal)
      if (signal.aborted) throw new KvidxError('cancelled', 'the checkpoint was cancelled')
      // TRUNCATE waits for nobody here: with writes under way it only moves what it can
      const { walBytes = 0 } = await readers.call('figures', {}, signal)
      const mode = database.queuedWrites === 0 || walBytes >= settings().walSize ? 'truncate' : 'passive'
      return { ...(await writer.call('checkpoint', { mode })) }
    },
  }
}

/** The figures once the file has shrunk: with a WAL that is when the pages in it are moved, not when they are written. */
async function settled(writer: ReturnType<LocalDatabase['session']>['writer']): Promise<EngineFigures> {
  await writer.call('checkpoint', { mode: 'truncate' })
  return writer.call('figures', {})
}

/** Writes between the two looks may have taken more than was given back. */
function freed(before: EngineFigures, after: EngineFigures): number {
  return Math.max(0, before.fileBytes - after.fileBytes)
}

/** Gives unused pages back, a slice at a time between commits. */
export function vacuumTask(database: LocalDatabase, settings: () => Settings['vacuum'], clock: Clock): Task {
  return {
    name: 'vacuum',
    next: now => now + settings().interval,
    parameters: [],
    async run({ signal }) {
      ensureRoom(database, 'a compaction')
      const { writer } = database.session()
      const before = await writer.call('figures', {})
      for (;;) {
        if (signal.aborted) throw new KvidxError('cancelled', 'the vacuum was cancelled')
        // on a full volume a step at a time, and none of the room is kept in the WAL: removes need it
        const scarce = database.noSpace !== undefined && database.engine === 'SQLite'
        const { done } = await writer.call('reclaim', { budgetMs: scarce ? 1 : SLICE_MS / 2 })
        if (scarce) await writer.call('checkpoint', { mode: 'truncate' })
        if (done) break
        ensureRoom(database, 'a compaction')
        // RocksDB compacts in threads of its own: asking again at once would only heat the machine
        await clock.sleep(RECLAIM_PAUSE, signal)
      }
      const reached = await writer.call('figures', {})
      // mostly there was nothing to give back, and nothing to move
      const after = reached.freeBytes === before.freeBytes ? reached : await settled(writer)
      return { freedBytes: freed(before, after), fragmentation: after.fragmentation }
    },
  }
}

/**
 * Rewrites the whole database: on request, or by itself when its window opens, if it is worth it. Writes wait meanwhile (LMDB: are answered not_ready), reads go on; a
 * rewrite that is cancelled never was. By itself only above `fragmentation`, and not on files that came from another program.
 */
export function compactTask(
  database: LocalDatabase,
  settings: () => Settings['vacuum'],
  reserve: (size: number) => number,
  clock: Clock,
): Task {
  return {
    name: 'compact',
    next: now => {
      const { window } = settings()
      // LMDB fills its free pages again, and refuses writes during a rewrite: only when a person asks
      if (!window || database.engine === 'LMDB') return undefined
      return new Cron(window.schedule, { timezone: window.timeZone }).nextRun(new Date(now))?.getTime()
    },
    parameters: [],
    async run({ signal, progress, scheduled }) {
      const { writer } = database.session()
      const before = await writer.call('figures', {})
      const { fragmentation, window } = settings()
      const skip = scheduled ? whyNot(database, before, fragmentation) : undefined
      if (skip !== undefined) return { skipped: skip }
      ensureRewriteFits(database, before, reserve)
      const closing = new AbortController()
      const timer = scheduled && window ? clock.setTimer(window.duration, () => closing.abort()) : undefined
      const stop = AbortSignal.any([signal, closing.signal])
      try {
        const { staging } = database.layout
        const report = (done: number, total: number) => progress(total > 0 ? done / total : 0)
        if (database.engine === 'LMDB') await rewriteBeside(database, stop, report)
        else await writer.call('compact', { scratch: staging }, stop, report)
      } finally {
        timer?.cancel()
      }
      // a rewrite beside leaves another writer
      const after = await settled(database.session().writer)
      return { freedBytes: freed(before, after), fragmentation: after.fragmentation }
    },
  }
}

function whyNot({ epochs, adoptedAt }: LocalDatabase, now: EngineFigures, fragmentation: number): string | undefined {
  if (now.fragmentation <= fragmentation)
    return `${Math.round(now.fragmentation * 100)} % of the files are unused, not more than ${Math.round(fragmentation * 100)} %`
  if (adoptedAt !== undefined || epochs.some(epoch => epoch.reason === 'adopted'))
    return 'the files were adopted from another program: they are rewritten only when a person asks'
  return undefined
}

/** SQLite writes a copy beside the file, then that into the WAL, and what is in the WAL counts a second time as taken. LMDB: one copy. */
function ensureRewriteFits(database: LocalDatabase, figures: EngineFigures, reserve: (size: number) => number): void {
  if (database.engine === 'RocksDB') {
    ensureRoom(database, 'a compaction')
    return
  }
  const { size, free } = volumeSpace(database.layout.root)
  const live = figures.fileBytes - (figures.walBytes ?? 0) - figures.freeBytes
  const needed = (database.engine === 'LMDB' ? 1 : 3) * live + Math.ceil(reserve(size) * 1.25)
  if (free < needed)
    throw new KvidxError('insufficient_space', `a rewrite needs ${needed} bytes free, ${free} are`, { free, needed })
}

/** What the check does about counters that are not those of the content. */
export interface CheckPolicy {
  /**
   * The last process did not end in order and its database has not been compared since: a difference is somebody else's work and is taken over. Later the files are
   * open here alone, so it means that content has changed without a write: a person decides.
   */
  uncompared: boolean
}

/** The engine's own check, and the whole content against the counters, both beside the work. */
export function checkTask(
  database: LocalDatabase,
  settings: () => Settings['check'],
  policy: CheckPolicy,
  clock: Clock,
): Task {
  return {
    name: 'check',
    next: now => {
      const given = settings()
      return given && new Cron(given.schedule, { timezone: given.timeZone }).nextRun(new Date(now))?.getTime()
    },
    parameters: ['accept'],
    async run({ signal, progress, parameters }) {
      const { readers } = database.session()
      const report = await readers.call('integrity', {}, signal, (done, total) =>
        progress(total > 0 ? done / total / 2 : 0),
      )
      if (report.problems.length > 0) throw await database.condemn(report.problems)
      const snapshot = await readers.snapshot(signal)
      try {
        const found = await snapshot.call('totals', {}, signal, (done, total) =>
          progress(0.5 + (total > 0 ? done / total / 2 : 0)),
        )
        const { state } = snapshot
        const difference = {
          count: found.count - state.count,
          dataBytes: found.dataBytes - state.dataBytes,
          digest: found.digest - state.digest,
          expiring: found.expiring - state.expiring,
        }
        const differs = Object.values(difference).some(amount => amount !== 0n)
        if (differs) {
          const message = `at ${formatPosition(state.position)} the counters say ${state.count} records with digest ${formatDigest(state.digest)}, a scan finds ${found.count} with ${formatDigest(found.digest)}`
          if (!policy.uncompared && parameters.accept !== 'true') {
            database.board.raise(
              'ContentDiffers',
              `${message}; restore it, or take it as it is: kvidx check --accept`,
              clock.now(),
            )
            throw new KvidxError('engine_corrupt', message)
          }
          await database.adjust(difference)
        }
        policy.uncompared = false
        database.board.clear('ContentDiffers')
        await database.noteSound()
        return {
          ...(differs && { foreignWrites: true }),
          position: formatPosition(state.position),
          count: String(found.count),
          digest: formatDigest(found.digest),
        }
      } finally {
        snapshot.release()
      }
    },
  }
}
