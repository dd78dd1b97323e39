import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { EVERY_KEY } from '../engine/engine.ts'
import { type LastEnd, readLastEnd, removeCleanExit } from '../volume/clean-exit.ts'
import {
  type Identity,
  type IdentityExpectation,
  judgeEmpty,
  judgeVolume,
  readIdentity,
  type VolumeVerdict,
  writeIdentity,
} from '../volume/identity.ts'
import { prepareLayout, type VolumeLayout } from '../volume/layout.ts'
import { lockVolume, type VolumeLock } from '../volume/lock.ts'
import { forgetSeeded, type Seed, seedVolume } from '../volume/seed.ts'
import { finishSwap, putAside } from '../volume/swap.ts'
import type { DatabaseConfig } from './config.ts'
import { openSession, type Session } from './session.ts'

/** What the start found and did; for status, events and the log. */
export interface StartReport {
  readonly volume: 'new' | 'known' | 'adopted' | 'cloned'
  readonly lastEnd: LastEnd['kind'] | 'first'
  /** A database of kvidxkit, or one without our counters, was taken over as it is. */
  readonly adoptedData: boolean
  readonly orphanExpiries: number
  readonly foreignWrites: boolean
  /** Name below quarantine/ of what a swap finished at this start put aside. */
  readonly finishedSwap?: string
  /** The whole content is still to be compared with the counters. */
  readonly checkDue: boolean
}

export interface Started {
  readonly identity: Identity
  readonly lock: VolumeLock
  readonly session: Session
  readonly report: StartReport
}

const LOCK_RETRY = 1000

/**
 * The start, in the order of design section 4: layout, identity, lock, unfinished swap, first data, engine recovery, counters. Errors: data_lost, foreign_volume,
 * volume_not_empty, locked (after lockTimeout), engine_corrupt, engine_io.
 */
export async function start(
  config: DatabaseConfig,
  layout: VolumeLayout,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
  seed?: Seed,
  onWait: (error: KvidxError) => void = () => {},
): Promise<Started> {
  // the verdict before anything is written: a foreign or lost volume stays as it is
  await judge(config, layout, clock.now())
  await prepareLayout(layout)
  const lock = await waitForLock(config, layout, clock, log, signal, onWait)
  try {
    // again: whoever had the lock may have made the database
    const verdict = await judge(config, layout, clock.now())
    const finishedSwap = await finishSwap(layout)
    if (finishedSwap) log.warn({ quarantine: finishedSwap }, 'finished a swap that was interrupted')
    const seeded = verdict.kind === 'new' && seed !== undefined
    const identity = seeded ? await seedVolume(layout, verdict.identity, seed, signal) : verdict.identity
    if (seeded || verdict.kind === 'adopted' || verdict.kind === 'cloned') await writeIdentity(layout, identity)
    await forgetSeeded(layout)
    const before = await readdir(layout.database)
    const lastEnd: LastEnd['kind'] | 'first' =
      before.length === 0 || seeded ? 'first' : (await readLastEnd(layout)).kind
    await removeCleanExit(layout)
    const session = await openSession(config, layout.database)
    if (verdict.kind === 'new' || !holdsNothing(session)) {
      try {
        const report = await settle(config, session, lastEnd, clock, log)
        if (verdict.kind === 'new' && !seeded) await writeIdentity(layout, identity)
        return {
          identity,
          lock,
          session,
          report: { ...report, volume: verdict.kind, lastEnd, ...(finishedSwap !== undefined && { finishedSwap }) },
        }
      } catch (error) {
        await session.close()
        throw error
      }
    }
    await session.close()
    judgeEmpty('without records and counters', identity.lineage, expectationOf(config), clock.now())
    await putAside(layout, 'emptied', clock.now())
  } catch (error) {
    lock.release()
    throw error
  }
  // its loss is accepted: the volume is as if it were new
  lock.release()
  return start(config, layout, clock, log, signal, seed, onWait)
}

async function judge(config: DatabaseConfig, layout: VolumeLayout, now: number): Promise<VolumeVerdict> {
  const { identity, isNew } = await readIdentity(layout)
  // the name comes last to a new volume: where one is, there was a database, unless a swap is about to bring it back
  if (identity && !existsSync(layout.swap) && !(await holdsBytes(layout.database)))
    return judgeEmpty('without its database files', identity.lineage, expectationOf(config), now)
  return judgeVolume(identity, isNew, expectationOf(config), now)
}

function expectationOf(config: DatabaseConfig): IdentityExpectation {
  const { allowEmpty } = config.recovery
  return { ...config, ...(allowEmpty !== undefined && { allowEmpty }) }
}

async function holdsBytes(directory: string): Promise<boolean> {
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []))
    if (entry.isFile() && (await stat(join(entry.parentPath, entry.name))).size > 0) return true
  return false
}

/** What an engine makes of files that are gone or empty: a new database. */
function holdsNothing({ writer, points }: Session): boolean {
  if (writer.hadState) return false
  const snapshot = points.snapshot()
  try {
    return snapshot.count(EVERY_KEY) === 0
  } finally {
    snapshot.release()
  }
}

async function waitForLock(
  config: DatabaseConfig,
  layout: VolumeLayout,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
  onWait: (error: KvidxError) => void,
): Promise<VolumeLock> {
  const began = clock.monotonic()
  for (let reported = false; ; reported = true) {
    try {
      return lockVolume(layout.lock, config.node)
    } catch (error) {
      if (!(error instanceof KvidxError) || error.code !== 'locked') throw error
      if (config.lockTimeout > 0 && clock.monotonic() - began >= config.lockTimeout) throw error
      if (!reported) log.warn(error.message)
      onWait(error)
      await clock.sleep(LOCK_RETRY, signal)
    }
  }
}

/** Brings counters and content together. */
async function settle(
  config: DatabaseConfig,
  session: Session,
  lastEnd: LastEnd['kind'] | 'first',
  clock: Clock,
  log: Logger,
): Promise<Omit<StartReport, 'volume' | 'lastEnd' | 'finishedSwap'>> {
  const time = BigInt(clock.now())
  const { writer } = session
  const report = { adoptedData: false, orphanExpiries: 0, foreignWrites: false, checkDue: false }
  const recount = async (reason: 'created' | 'adopted' | 'foreignWrites', always: boolean) => {
    const result = await writer.call('recount', { reason, always, time })
    writer.epochs = result.epochs
    if (result.orphanExpiries > 0)
      log.warn({ orphanExpiries: result.orphanExpiries }, 'dropped expiries whose records are gone')
    return result
  }
  if (!writer.hadState) {
    const adopted = lastEnd !== 'first' && !holdsNothing(session)
    const result = await recount(adopted ? 'adopted' : 'created', true)
    return { ...report, adoptedData: adopted, orphanExpiries: result.orphanExpiries }
  }
  if (lastEnd === 'changed') {
    log.warn('the files are not as the last process left them: comparing everything with the counters')
    const result = await recount('foreignWrites', false)
    if (result.differed) log.error('the database was changed by something else: counters rebuilt, new epoch')
    return { ...report, foreignWrites: result.differed, orphanExpiries: result.orphanExpiries }
  }
  if (lastEnd === 'unclean') {
    // with Full every acknowledged commit was synced; otherwise some may be missing, and what follows is another branch
    if (config.tuning.syncMode !== 'Full')
      writer.epochs = (await writer.call('beginEpoch', { reason: 'uncleanEnd', time })).epochs
    if (config.recovery.fullCheck === 'Always') {
      const result = await recount('foreignWrites', false)
      return { ...report, foreignWrites: result.differed }
    }
    return { ...report, checkDue: true }
  }
  return report
}
