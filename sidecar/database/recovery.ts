import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { type EngineKind, EVERY_KEY } from '../engine/engine.ts'
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
import { prepareLayout, repairModes, type VolumeLayout } from '../volume/layout.ts'
import { lockVolume, type VolumeLock } from '../volume/lock.ts'
import { lastRecovery, type RecoveryNote } from '../volume/recovery-note.ts'
import { forgetSeeded, type Seed, seedVolume } from '../volume/seed.ts'
import { clearSuspicion, mustCheckFirst, readSuspicion, writeSuspicion } from '../volume/suspicion.ts'
import { finishSwap, putAside } from '../volume/swap.ts'
import { readSyncMode, writeSyncMode } from '../volume/sync-mode.ts'
import type { DatabaseConfig } from './config.ts'
import { forgetEpochs, rememberEpochs, rememberedEpochs } from './epoch-history.ts'
import { formatPosition } from './position.ts'
import { ENGINE_FILE, openSession, type Session } from './session.ts'

/** What the start found and did; for status, events and the log. */
export interface StartReport {
  readonly volume: 'new' | 'known' | 'adopted' | 'cloned'
  readonly lastEnd: LastEnd['kind'] | 'first'
  /** A database of kvidxkit, or one without our counters, was taken over as it is. */
  readonly adoptedData: boolean
  readonly orphanExpiries: number
  readonly foreignWrites: boolean
  /** The files were damaged and this start put sound ones in their place. */
  readonly repaired?: RecoveryNote
  /** Name below quarantine/ of what a swap finished at this start put aside. */
  readonly finishedSwap?: string
  /** The whole content is still to be compared with the counters. */
  readonly checkDue: boolean
}

/**
 * Puts a sound database in the place of a damaged one, as `recovery.onCorruption` says. Nobody has the files open. Errors: engine_corrupt when that is not
 * wanted or not possible, saying what to do.
 */
export type Repair = (damage: KvidxError, lineage: string, signal: AbortSignal) => Promise<RecoveryNote>

/** What a start may need from elsewhere. */
export interface StartHelpers {
  /** First data of a new volume. */
  readonly seed?: Seed | undefined
  /** Without it damage ends the start. */
  readonly repair?: Repair | undefined
  /** Called while another process holds the lock. */
  readonly onWait?: (error: KvidxError) => void
}

export interface Started {
  readonly identity: Identity
  readonly lock: VolumeLock
  readonly session: Session
  readonly report: StartReport
  /** The last repair whose damaged files are still in quarantine. */
  readonly recovery: RecoveryNote | undefined
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
  { seed, repair, onWait = () => {} }: StartHelpers = {},
): Promise<Started> {
  // the verdict before anything is written: a foreign or lost volume stays as it is
  await judge(config, layout, clock.now())
  await prepareLayout(layout)
  const lock = await waitForLock(config, layout, clock, log, signal, onWait)
  try {
    await repairModes(layout)
    // again: whoever had the lock may have made the database
    const verdict = await judge(config, layout, clock.now())
    const finishedSwap = await finishSwap(layout)
    if (finishedSwap) log.warn({ quarantine: finishedSwap }, 'finished a swap that was interrupted')
    const seeded = verdict.kind === 'new' && seed !== undefined
    const identity = seeded ? await seedVolume(layout, verdict.identity, seed, signal) : verdict.identity
    if (seeded || verdict.kind === 'adopted' || verdict.kind === 'cloned') await writeIdentity(layout, identity)
    await forgetSeeded(layout)
    const before = await readdir(layout.database)
    if (verdict.kind === 'new' && !seeded) refuseStrangers(config.engine, layout, before)
    // another lineage begins, with epochs of its own
    if (verdict.kind === 'new') await forgetEpochs(layout)
    const end = before.length === 0 || seeded ? undefined : await readLastEnd(layout)
    const lastEnd = end?.kind ?? 'first'
    const left = {
      newest: (await rememberedEpochs(layout)).at(-1)?.epoch ?? 0n,
      ...(end?.kind === 'changed' && { position: end.position }),
    }
    const checkFirst = await suspect(layout, lastEnd)
    const { syncMode } = config.tuning
    // of the run that died, and of this one, which may die before it has settled what is here
    const synced = syncMode === 'Full' && ((await readSyncMode(layout)) ?? 'Full') === 'Full'
    if (syncMode !== 'Full') await writeSyncMode(layout, syncMode)
    await removeCleanExit(layout)
    const open = async (start: SettleInput, suspected: boolean) => {
      const session = await openSession(config, layout.database, suspected)
      try {
        if (verdict.kind !== 'new' && holdsNothing(session)) {
          await session.close()
          return undefined
        }
        return { session, settled: await settle(config, session, { ...start, suspected }, clock, log, signal) }
      } catch (error) {
        // what is damaged may not even close
        await session.close().catch(() => {})
        throw error
      }
    }
    let repaired: RecoveryNote | undefined
    const opened = await open({ lastEnd, left, synced }, checkFirst).catch(async (error: unknown) => {
      if (!isDamage(error)) throw error
      // the next attempt must not open the files without a word
      await writeSuspicion(layout, { ...(await readSuspicion(layout)), damage: error.message })
      if (!repair) throw error
      repaired = await repair(error, identity.lineage, signal)
      await clearSuspicion(layout)
      // read back from end to end before it got its place
      return open({ lastEnd: 'clean', left: { newest: left.newest }, synced }, false)
    })
    if (opened) {
      const { session, settled } = opened
      if (verdict.kind === 'new' && !seeded) await writeIdentity(layout, identity)
      if (checkFirst) await clearSuspicion(layout)
      await rememberEpochs(layout, session.writer.epochs)
      await writeSyncMode(layout, syncMode)
      const report: StartReport = {
        ...settled,
        volume: verdict.kind,
        lastEnd,
        ...(repaired && { repaired }),
        ...(finishedSwap !== undefined && { finishedSwap }),
      }
      return { identity, lock, session, report, recovery: await lastRecovery(layout) }
    }
    judgeEmpty('without records and counters', identity.lineage, expectationOf(config), clock.now())
    await putAside(layout, 'emptied', clock.now())
  } catch (error) {
    lock.release()
    throw error
  }
  // its loss is accepted: the volume is as if it were new
  lock.release()
  return start(config, layout, clock, log, signal, { seed, repair, onWait })
}

async function judge(config: DatabaseConfig, layout: VolumeLayout, now: number): Promise<VolumeVerdict> {
  const { identity, isNew } = await readIdentity(layout)
  // the name comes last to a new volume: where one is, there was a database, unless a swap is about to bring it back
  if (identity && !existsSync(layout.swap) && !(await holdsBytes(layout.database)))
    return judgeEmpty('without its database files', identity.lineage, expectationOf(config), now)
  return judgeVolume(identity, isNew, expectationOf(config), now)
}

/** What a person put there to be taken over, under a name that the engine does not read: it would begin empty beside it. Errors: conflict. */
function refuseStrangers(engine: EngineKind, { database }: VolumeLayout, names: readonly string[]): void {
  const own = ENGINE_FILE[engine]
  // SQLite throws away a log without its database
  const log = engine === 'SQLite' && names.includes(own) ? ['-wal', '-shm', '-journal'].map(end => `${own}${end}`) : []
  const strangers = names.filter(name => ![own, ...log, 'lost+found'].includes(name))
  if (strangers.length === 0) return
  throw new KvidxError(
    'conflict',
    `${database} belongs to no database yet and holds ${strangers.slice(0, 5).join(', ')}, which ${engine} would not read. ` +
      'Nothing was changed. A SQLite database is taken over as main.db, its log as main.db-wal; others by kvidx import. Move the rest away and start again',
    { path: database, strangers },
  )
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

/** The engine's own word that its files are damaged; not that they are those of another program. */
function isDamage(error: unknown): error is KvidxError {
  return error instanceof KvidxError && error.code === 'engine_corrupt' && error.details.foreign !== true
}

/** Whether the files must be checked before they are served; counts the starts that follow an unclean end. */
async function suspect(layout: VolumeLayout, lastEnd: LastEnd['kind'] | 'first'): Promise<boolean> {
  const suspicion = await readSuspicion(layout)
  if (lastEnd === 'unclean') await writeSuspicion(layout, { ...suspicion, starts: suspicion.starts + 1 })
  return lastEnd === 'changed' || mustCheckFirst(suspicion)
}

/** Errors: engine_corrupt with the problems. */
async function checkEngine({ readers }: Session, signal: AbortSignal): Promise<void> {
  const { problems } = await readers.call('integrity', {}, signal)
  if (problems.length > 0) throw damaged(problems)
}

/** What the engine's own check found, as an error. */
export function damaged(problems: readonly string[]): KvidxError {
  return new KvidxError('engine_corrupt', `the engine reports: ${problems.slice(0, 5).join('; ')}`, { problems })
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

interface SettleInput {
  readonly lastEnd: LastEnd['kind'] | 'first'
  /** What the last process said that it left: the newest epoch, and the position of an end in order. */
  readonly left: { readonly newest: bigint; readonly position?: string }
  /** Every run that may have written acknowledged a commit only when it was on the disk. */
  readonly synced: boolean
}

/** Brings counters and content together. */
async function settle(
  config: DatabaseConfig,
  session: Session,
  { lastEnd, left, synced, suspected }: SettleInput & { readonly suspected: boolean },
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
): Promise<Omit<StartReport, 'volume' | 'lastEnd' | 'finishedSwap'>> {
  const time = BigInt(clock.now())
  const { writer } = session
  const report = { adoptedData: false, orphanExpiries: 0, foreignWrites: false, checkDue: false }
  const recount = async (reason: 'created' | 'adopted' | 'foreignWrites', always: boolean) => {
    const result = await writer.call('recount', { reason, always, time, after: left.newest }, signal)
    writer.epochs = result.epochs
    if (result.orphanExpiries > 0)
      log.warn({ orphanExpiries: result.orphanExpiries }, 'dropped expiries whose records are gone')
    return result
  }
  const always = config.recovery.fullCheck === 'Always' && lastEnd === 'unclean'
  if (suspected || always) await checkEngine(session, signal)
  if (!writer.hadState) {
    const adopted = lastEnd !== 'first' && !holdsNothing(session)
    const result = await recount(adopted ? 'adopted' : 'created', true)
    return { ...report, adoptedData: adopted, orphanExpiries: result.orphanExpiries }
  }
  // sound files of an earlier time: what was committed since is gone, and its positions must not be given out again
  const position = formatPosition(writer.state.position)
  const putBack =
    writer.state.position.epoch < left.newest || (left.position !== undefined && left.position !== position)
  if (lastEnd === 'changed' || putBack) {
    log.warn({ left, found: position }, 'the files are not as the last process left them: comparing everything')
    const result = await recount('foreignWrites', putBack)
    const foreignWrites = result.differed || putBack
    if (foreignWrites) log.error('the database was changed by something else: counters rebuilt, new epoch')
    return { ...report, foreignWrites, orphanExpiries: result.orphanExpiries }
  }
  if (lastEnd === 'unclean') {
    // some acknowledged commits may be missing, and what follows is another branch
    if (!synced) writer.epochs = (await writer.call('beginEpoch', { reason: 'uncleanEnd', time })).epochs
    if (always || suspected) {
      const result = await recount('foreignWrites', false)
      return { ...report, foreignWrites: result.differed }
    }
    return { ...report, checkDue: true }
  }
  return report
}
