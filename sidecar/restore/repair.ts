import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import { readLineage } from '../backup/catalog.ts'
import type { Home } from '../backup/layout.ts'
import { openStore, type StoreSettings } from '../backup/store/settings.ts'
import type { DatabaseConfig } from '../database/config.ts'
import { rememberedEpochs } from '../database/epoch-history.ts'
import type { Repair } from '../database/recovery.ts'
import { ENGINE_FILE, engineOptions } from '../database/session.ts'
import type { VolumeLayout } from '../volume/layout.ts'
import { type RecoveryNote, shortened } from '../volume/recovery-note.ts'
import { removeStaged, swapIn } from '../volume/swap.ts'
import { type Filled, type FillProgress, type FillTask, FillThread, type RestoreFrom } from './fill.ts'

/** Older good backups that are tried when newer ones do not restore. */
const OLDER_BACKUPS = 5
const NO_ROOM: readonly string[] = ['no_space', 'insufficient_space']
/** These say nothing of what the store has: an older state would be a loss for no reason. */
const UNASKED: readonly string[] = [
  ...NO_ROOM,
  'store_unreachable',
  'store_denied',
  'wrong_encryption_key',
  'cancelled',
]
/** What is mended from outside, with no word to us: a Secret may come after the pod. */
const LATER: readonly string[] = [...UNASKED, 'invalid_parameter']

export interface RepairOptions {
  readonly config: () => DatabaseConfig
  readonly layout: VolumeLayout
  /** Undefined: no backups are configured. */
  readonly store: () => StoreSettings | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly progress: (progress: FillProgress | undefined) => void
}

/**
 * Carries out `recovery.onCorruption` at a start that found damage. Stop, and what cannot be done, ends in engine_corrupt with the damage, the reason and
 * what to type; nothing is touched then. Otherwise a sound database takes the place of the damaged one, which goes to quarantine.
 */
export function repairOf(options: RepairOptions): Repair {
  return async (damage, lineage, signal) => {
    const { onCorruption } = options.config().recovery
    if (onCorruption === 'Stop') throw stopped(damage, options.config())
    try {
      options.log.error({ damage: damage.message, onCorruption }, 'the database is damaged: repairing it')
      const note =
        onCorruption === 'Salvage'
          ? await salvage(damage, options, signal)
          : await restore(damage, lineage, options, signal)
      options.log.error({ ...shortened(note) }, `the database was damaged and is ${note.action.toLowerCase()}`)
      return note
    } catch (thrown) {
      const error = asKvidxError(thrown)
      if (LATER.includes(error.code))
        throw new KvidxError(
          error.code,
          `the database is damaged (${damage.message}) and waits for ${NO_ROOM.includes(error.code) ? 'space' : 'its backups'}: ${error.message}`,
          error.details,
          error,
        )
      throw stopped(damage, options.config(), `${onCorruption} did not work: ${error.message}`, error)
    } finally {
      options.progress(undefined)
    }
  }
}

function stopped(
  damage: KvidxError,
  { engine, recovery }: DatabaseConfig,
  why?: string,
  cause: KvidxError = damage,
): KvidxError {
  const tried = recovery.onCorruption
  const ways = [
    ...(tried === 'RestoreLatest'
      ? []
      : ['set spec.recovery.onCorruption: RestoreLatest for the newest state of the backups']),
    ...(tried === 'Salvage' || engine !== 'SQLite'
      ? []
      : ['set spec.recovery.onCorruption: Salvage to keep what can be read']),
    ...(tried === 'Stop' ? [] : ['restore from another store or lineage (docs/backup.md, Corrupted database)']),
  ]
  return new KvidxError(
    'engine_corrupt',
    `the database is damaged: ${damage.message}. ${why === undefined ? '' : `${why}. `}Nothing was changed; ${ways.join(', or ')}`,
    { ...damage.details, field: 'recovery.onCorruption' },
    cause,
  )
}

/** Errors: setting_unsupported (not SQLite), and those of fillFromDamaged; then nothing was changed. */
export async function salvage(
  damage: KvidxError,
  options: Omit<RepairOptions, 'store' | 'log'>,
  signal: AbortSignal,
): Promise<RecoveryNote> {
  const { layout } = options
  const config = options.config()
  if (config.engine !== 'SQLite')
    throw new KvidxError(
      'setting_unsupported',
      `only SQLite files can be salvaged, this is a ${config.engine} database`,
    )
  const continues = await rememberedEpochs(layout)
  return replaceBy(damage, options, signal, (engine, now) => ({
    kind: 'salvage',
    file: join(layout.database, ENGINE_FILE.SQLite),
    engine,
    continues,
    now,
  }))
}

/** The newest state that the store has whole; should it not restore, older good backups, one after the other. */
async function restore(
  damage: KvidxError,
  lineage: string,
  options: RepairOptions,
  signal: AbortSignal,
): Promise<RecoveryNote> {
  const { layout, clock, log } = options
  const store = options.store()
  if (!store) throw new KvidxError('backup_not_found', 'no backups are configured')
  const { namespace, name } = options.config()
  const where: Home = { namespace, database: name, lineage }
  const continues = await rememberedEpochs(layout)
  const good = await goodBackups(store, where, clock, signal)
  const tries: RestoreFrom[] = [
    { kind: 'latest', upToGap: true },
    ...good.slice(0, OLDER_BACKUPS).map(backup => ({ kind: 'backup' as const, name: backup })),
  ]
  let first: KvidxError | undefined
  for (const from of tries) {
    try {
      return await replaceBy(damage, options, signal, (engine, now) => ({
        kind: 'restore',
        store,
        where,
        from,
        engine,
        continues,
        now,
      }))
    } catch (thrown) {
      const error = asKvidxError(thrown)
      if (UNASKED.includes(error.code)) throw error
      log.error({ err: error, from }, 'this state of the backups does not restore')
      first ??= error
    }
  }
  throw first ?? new KvidxError('backup_not_found', `the store has no good backup of lineage ${lineage}`)
}

/** Directories, newest first. */
async function goodBackups(store: StoreSettings, home: Home, clock: Clock, signal: AbortSignal): Promise<string[]> {
  const context = await openStore(store, clock)
  try {
    const catalog = await readLineage(context.store, home, signal)
    return catalog.backups
      .filter(backup => backup.good)
      .map(backup => backup.directory)
      .reverse()
  } finally {
    await context.store.close()
  }
}

async function replaceBy(
  damage: KvidxError,
  options: Omit<RepairOptions, 'store' | 'log'>,
  signal: AbortSignal,
  taskOf: (engine: FillTask['engine'], now: number) => FillTask,
): Promise<RecoveryNote> {
  const { layout, clock, progress } = options
  const id = `repair-${randomUUID()}`
  const directory = join(layout.staging, id)
  await mkdir(directory, { mode: 0o700 })
  try {
    const task = taskOf(engineOptions(options.config(), directory), clock.now())
    const thread = await FillThread.start(task, progress)
    let filled: Filled
    try {
      filled = await thread.filled(signal)
    } finally {
      await thread.end()
    }
    let note: RecoveryNote | undefined
    await swapIn(layout, id, 'damaged', clock.now(), quarantine => {
      // an older backup may be whole, and is yet not all that the store has
      const complete = filled.complete && !(task.kind === 'restore' && task.from.kind === 'backup')
      note = noteOf({ ...filled, complete }, damage, quarantine, clock.now())
      return `${JSON.stringify(note, undefined, 2)}\n`
    })
    return note as unknown as RecoveryNote
  } finally {
    await removeStaged(layout, id)
  }
}

function noteOf(filled: Filled, damage: KvidxError, quarantine: string, now: number): RecoveryNote {
  const { salvage: report } = filled
  return {
    action: report ? 'Salvaged' : 'Restored',
    time: new Date(now).toISOString(),
    damage: damage.message,
    quarantine,
    reached: filled.reached,
    position: filled.position,
    records: filled.count,
    dataBytes: filled.dataBytes,
    digest: filled.digest,
    complete: filled.complete,
    ...(report?.missing !== undefined && { lost: String(report.missing < 0n ? 0n : report.missing) }),
    sources: filled.sources.slice(0, 100),
    ...(report && { salvage: plain(report) }),
  }
}

/** As JSON has it: u64 as decimal strings. */
function plain(report: object): Record<string, unknown> {
  const text = JSON.stringify(report, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))
  return JSON.parse(text) as Record<string, unknown>
}
