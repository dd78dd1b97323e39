import type { Logger } from 'pino'
import type { DynamicConfig } from '../../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../../src/common/clock.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import type { StartReport } from '../database/recovery.ts'
import { TaskBoard } from './task-board.ts'
import { checkpointTask, checkTask, compactTask, expireTask, vacuumTask } from './tasks.ts'

/** Everything that keeps a running database in shape. */
export class Maintenance {
  readonly #database: LocalDatabase
  readonly #board: TaskBoard
  readonly #log: Logger

  constructor(database: LocalDatabase, config: DynamicConfig, clock: Clock, log: Logger) {
    this.#database = database
    this.#log = log
    const settings = config.maintenance
    this.#board = new TaskBoard(
      [
        expireTask(database, settings.expiry, clock),
        checkpointTask(database, settings.checkpoint),
        vacuumTask(database, settings.vacuum),
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
    if (report.checkDue) {
      // the content is compared with the counters beside the work: most unclean ends leave nothing wrong
      this.#board
        .run('check', {}, new AbortController().signal)
        .catch((error: unknown) => this.#log.error({ err: error }, 'the check after an unclean end failed'))
    }
  }

  /** Members of `/status`. */
  status(): Record<string, unknown> {
    return {}
  }

  async stop(): Promise<void> {
    await this.#board.stop()
  }
}
