import type { Logger } from 'pino'
import type { DynamicConfig } from '../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../src/common/clock.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import type { StartReport } from '../database/recovery.ts'
import { TaskBoard } from './task-board.ts'
import { checkpointTask, checkTask, compactTask, expireTask, vacuumTask } from './tasks.ts'
import { VolumeWatch } from './volume-watch.ts'

/** The settings in force; they change while the process runs. */
export interface LiveSettings {
  readonly dynamic: DynamicConfig
  onChange(listener: () => void): () => void
}

const LOOK_AT_VOLUME = 60_000

/** Everything that keeps a running database in shape. */
export class Maintenance {
  readonly #settings: LiveSettings
  readonly #clock: Clock
  readonly #board: TaskBoard
  readonly #volume: VolumeWatch
  readonly #log: Logger
  readonly #stopping = new AbortController()
  readonly #loops: Promise<void>[] = []
  #unregister: () => void = () => {}

  constructor(database: LocalDatabase, settings: LiveSettings, clock: Clock, log: Logger) {
    this.#settings = settings
    this.#clock = clock
    this.#log = log
    this.#volume = new VolumeWatch(database.layout)
    const maintenance = () => settings.dynamic.maintenance
    this.#board = new TaskBoard(
      [
        expireTask(database, () => maintenance().expiry, clock),
        checkpointTask(database, () => maintenance().checkpoint),
        vacuumTask(database, () => maintenance().vacuum),
        compactTask(database),
        checkTask(database),
      ],
      clock,
      (task, outcome, seconds, message) => {
        const line = { task, outcome, seconds, ...(message !== undefined && { message }) }
        if (outcome === 'failed') log.error(line, 'a task failed')
        else log.debug(line, 'a task ended')
      },
    )
    database.attachTasks(this.#board)
  }

  async start(report: StartReport): Promise<void> {
    this.#board.start()
    this.#unregister = this.#settings.onChange(() => this.#board.reschedule())
    this.#loop(LOOK_AT_VOLUME, () => this.#lookAtVolume())
    if (report.checkDue) {
      // the content is compared with the counters beside the work: most unclean ends leave nothing wrong
      this.#board
        .run('check', {}, this.#stopping.signal)
        .catch((error: unknown) => this.#log.error({ err: error }, 'the check after an unclean end failed'))
    }
  }

  /** Members of `/status`. */
  status(): Record<string, unknown> {
    return { volume: this.#volume.status({}) }
  }

  async stop(): Promise<void> {
    this.#unregister()
    this.#stopping.abort()
    await Promise.all(this.#loops)
    await this.#board.stop()
  }

  async #lookAtVolume(): Promise<void> {
    const { quarantine } = this.#settings.dynamic.recovery
    const gone = await this.#volume.look(quarantine, this.#clock.now())
    if (gone.length > 0) this.#log.info({ quarantine: gone }, 'removed old files from quarantine')
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
