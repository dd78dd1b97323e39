import type { Logger } from 'pino'
import { Gauge, type Registry } from 'prom-client'
import type { Clock } from '../../src/common/clock.ts'
import type { LocalDatabase } from '../database/local-database.ts'

const DAY = 24 * 3600_000

/** A monthly schedule comes every 31 days at the latest, and may be late. What comes more rarely begins with a Full. */
export const UNSEEN_DAYS = 40

/**
 * Consumers that do not come back, of a deleted schedule say: after UNSEEN_DAYS they pin the change log no longer, which would
 * otherwise stay at `changeLog.maxSize` for ever. One that does come back pins it again.
 */
export class UnseenConsumers {
  readonly #database: LocalDatabase
  readonly #clock: Clock
  readonly #log: Logger
  readonly #started: number
  #names: readonly string[] = []

  constructor(database: LocalDatabase, clock: Clock, log: Logger) {
    this.#database = database
    this.#clock = clock
    this.#log = log
    this.#started = clock.monotonic()
  }

  get names(): readonly string[] {
    return this.#names
  }

  /** @param now Unix ms, of a clock that is to be trusted */
  async look(now: number): Promise<void> {
    // while the database was away nobody could come
    if (this.#clock.monotonic() - this.#started < DAY) return
    const names = await this.#database.lapseConsumers(now - UNSEEN_DAYS * DAY)
    for (const consumer of names)
      if (!this.#names.includes(consumer))
        this.#log.warn(
          { consumer, days: UNSEEN_DAYS },
          'a consumer did not come back: the change log waits for it no longer',
        )
    this.#names = names
  }
}

export function registerUnseenConsumers(registry: Registry, count: () => number): void {
  new Gauge({
    name: 'kvidx_change_log_unseen_consumers',
    help: 'Consumers that the change log waits for no longer, because they did not come back',
    registers: [registry],
    collect() {
      this.set(count())
    },
  })
}
