import type { Logger } from 'pino'
import type { Registry } from 'prom-client'
import type { Clock } from '../../src/common/clock.ts'
import { shareOf, volumeSpace } from '../../src/common/volume-space.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import type { StartReport } from '../database/recovery.ts'
import type { EngineFigures } from '../engine/engine.ts'
import { DEGRADATIONS, degradations } from './degradations.ts'
import { ExpiryGate } from './expiry-gate.ts'
import { Growth } from './growth.ts'
import type { LiveSettings } from './live-settings.ts'
import { Notices } from './notices.ts'
import { cutSnapshots } from './snapshot-guard.ts'
import { SpaceKeeper } from './space-keeper.ts'
import { TaskBoard } from './task-board.ts'
import { type CheckPolicy, checkpointTask, checkTask, compactTask, expireTask, vacuumTask } from './tasks.ts'
import { TrimmedConsumers } from './trimmed-consumers.ts'
import { registerUnseenConsumers, UnseenConsumers } from './unseen-consumers.ts'
import { registerVolumeMetrics } from './volume-metrics.ts'
import { type VolumeStatus, VolumeWatch } from './volume-watch.ts'

/** Between two looks at the engine's figures, ms. */
const LOOK = 2000
const LOOK_AT_VOLUME = 60_000
/** Between two checks for a damaged page, ms. */
const CHECK_PAUSE = 600_000

/** Everything that keeps a running database in shape. */
export class Maintenance {
  readonly #database: LocalDatabase
  readonly #settings: LiveSettings
  readonly #clock: Clock
  readonly #board: TaskBoard
  readonly #volume: VolumeWatch
  readonly #growth: Growth
  readonly #space: SpaceKeeper
  readonly #gate: ExpiryGate
  readonly #notices: Notices
  readonly #trimmed: TrimmedConsumers
  readonly #unseen: UnseenConsumers
  readonly #log: Logger
  readonly #stopping = new AbortController()
  readonly #loops: Promise<void>[] = []
  #unregister: () => void = () => {}
  #stopSpace: () => Promise<void> = async () => {}
  #figures: EngineFigures | undefined
  readonly #check: CheckPolicy = { uncompared: false }
  #checkedAt = Number.NEGATIVE_INFINITY
  /** Positions at the last look, and at the last cut of an idle WAL. */
  #idleSeq = -1n
  #cutSeq = -1n

  constructor(database: LocalDatabase, settings: LiveSettings, clock: Clock, log: Logger) {
    this.#database = database
    this.#settings = settings
    this.#clock = clock
    this.#log = log
    this.#volume = new VolumeWatch(database.layout)
    this.#growth = new Growth(database.layout)
    this.#notices = new Notices(database, clock)
    this.#trimmed = new TrimmedConsumers(database, log)
    this.#unseen = new UnseenConsumers(database, clock, log)
    this.#gate = new ExpiryGate(database, settings, clock)
    const maintenance = () => settings.dynamic.maintenance
    this.#board = new TaskBoard(
      [
        expireTask(database, () => maintenance().expiry, this.#gate, clock),
        checkpointTask(database, () => maintenance().checkpoint),
        vacuumTask(database, () => maintenance().vacuum, clock),
        compactTask(
          database,
          () => maintenance().vacuum,
          size => shareOf(settings.dynamic.space.reserve, size),
          clock,
        ),
        checkTask(database, () => maintenance().check, this.#check, clock),
      ],
      clock,
      (task, outcome, seconds, message) => {
        const line = { task, outcome, seconds, ...(message !== undefined && { message }) }
        if (outcome === 'failed') log.error(line, 'a task failed')
        else log.debug(line, 'a task ended')
      },
    )
    database.attachTasks(this.#board)
    this.#space = new SpaceKeeper(database, settings, clock, log, () => this.#makeRoom())
  }

  async start(report: StartReport): Promise<void> {
    this.#database.onDamagedRead = () => this.#checkSoon()
    this.#board.start()
    this.#unregister = this.#settings.onChange(() => this.#board.reschedule())
    this.#stopSpace = this.#space.start()
    // first: it says whether the clock is to be trusted
    this.opened(report)
    this.#loop(LOOK, () => this.#look())
    this.#loop(LOOK_AT_VOLUME, () => this.#lookAtVolume())
  }

  /** Also after the database was closed for its damage and opened again. */
  opened(report: StartReport): void {
    this.#gate.start(report.lastEnd === 'first')
    this.#notices.show()
    this.#check.uncompared = report.checkDue
    this.#database.board.clear('ContentDiffers')
    // the content is compared with the counters beside the work: most unclean ends leave nothing wrong
    if (report.checkDue) this.#runCheck('after an unclean end')
  }

  /** The engine stumbled over a page: the whole of it decides. Not again and again: one page may be read by many. */
  #checkSoon(): void {
    const now = this.#clock.monotonic()
    if (now - this.#checkedAt < CHECK_PAUSE) return
    this.#runCheck('of a damaged page')
  }

  #runCheck(why: string): void {
    this.#checkedAt = this.#clock.monotonic()
    this.#board
      .run('check', {}, this.#stopping.signal)
      .catch((error: unknown) => this.#log.error({ err: error }, `the check ${why} failed`))
  }

  /** Members of `/status`. */
  status(): Record<string, unknown> {
    const trimmed = this.#trimmed.names
    const unseen = this.#unseen.names
    return {
      volume: this.#volumeStatus(),
      ...(trimmed.length > 0 && { trimmedConsumers: trimmed }),
      ...(unseen.length > 0 && { unseenConsumers: unseen }),
    }
  }

  register(registry: Registry): void {
    registerVolumeMetrics(registry, () => this.#volumeStatus())
    registerUnseenConsumers(registry, () => this.#unseen.names.length)
  }

  #volumeStatus(): VolumeStatus {
    const reusable = this.#figures?.freeBytes
    const { days } = this.#growth
    return this.#volume.status({
      ...(reusable !== undefined && { reusable }),
      ...(days !== undefined && { daysUntilFull: days }),
    })
  }

  async stop(): Promise<void> {
    this.#unregister()
    this.#stopping.abort()
    await Promise.all(this.#loops)
    await this.#stopSpace()
    await this.#board.stop()
  }

  async #look(): Promise<void> {
    // while files are being swapped, or after a failure, there is nothing to look at
    if (!this.#database.ready) return
    this.#degrade()
    this.#notices.show()
    await this.#gate.look()
    await this.#trimmed.look()
    const { content } = this.#space
    this.#figures = await this.#database.session().readers.call('figures', {}, this.#stopping.signal)
    this.#degrade()
    this.#space.look(this.#figures, content)
    this.#boundSnapshots(this.#figures)
    this.#checkpointWhenDue(this.#figures)
  }

  #degrade(): void {
    const { board, oldestWrite } = this.#database
    const found = degradations(this.#figures, this.#settings.dynamic.monitoring, oldestWrite)
    const now = this.#clock.now()
    for (const { reason, message } of found) board.raise(reason, message, now)
    for (const reason of DEGRADATIONS) if (!found.some(entry => entry.reason === reason)) board.clear(reason)
  }

  #boundSnapshots(figures: EngineFigures): void {
    const { free } = volumeSpace(this.#database.layout.root)
    const bound = shareOf(this.#settings.dynamic.space.snapshotGrowth, free)
    const cut = cutSnapshots(this.#database.session().readers.held, this.#database.engine, figures, bound)
    if (cut > 0) this.#log.warn({ cut, bound }, 'ended reads that held up too much space')
  }

  /** By size at once; a WAL that nobody writes to any more is copied back and cut. */
  #checkpointWhenDue({ walBytes = 0 }: EngineFigures): void {
    // the keeper of space knows when one fits
    if (this.#database.noSpace !== undefined) return
    const { seq } = this.#database.state.position
    const idle = seq === this.#idleSeq
    this.#idleSeq = seq
    const cutIdle = idle && this.#database.engine === 'SQLite' && walBytes > 0 && seq !== this.#cutSeq
    if (walBytes < this.#settings.dynamic.maintenance.checkpoint.walSize && !cutIdle) return
    if (cutIdle) this.#cutSeq = seq
    // its failure stands in the task's status
    this.#board.run('checkpoint', {}, this.#stopping.signal).catch(() => {})
  }

  /** For a full volume: what is expired goes at once, and unused pages go back. */
  async #makeRoom(): Promise<void> {
    const { signal } = this.#stopping
    const tasks = this.#database.engine === 'RocksDB' ? (['expire', 'vacuum'] as const) : (['expire'] as const)
    for (const task of tasks)
      await this.#board
        .run(task, {}, signal)
        .catch((error: unknown) => this.#log.warn({ err: error, task }, 'the task found no space either'))
  }

  async #lookAtVolume(): Promise<void> {
    const { quarantine } = this.#settings.dynamic.recovery
    if (this.#figures) await this.#growth.look(this.#figures.freeBytes, this.#clock.now())
    const now = this.#database.board.has('ClockJump') ? undefined : this.#clock.now()
    const gone = await this.#volume.look(quarantine, now)
    if (gone.length > 0) this.#log.info({ quarantine: gone }, 'removed old files from quarantine')
    await this.#database.refreshRecovery()
    if (now !== undefined && this.#database.ready) await this.#unseen.look(now)
  }

  /** Does something at once and then again and again; a failure is logged and does not end it. */
  #loop(interval: number, work: () => Promise<void>): void {
    const { signal } = this.#stopping
    const turn = async () => {
      while (!signal.aborted) {
        try {
          await work()
        } catch (error) {
          if (!signal.aborted) this.#log.warn({ err: error }, 'a look at the database failed')
        }
        await this.#clock.sleep(interval, signal).catch(() => {})
      }
    }
    this.#loops.push(turn())
  }
}
