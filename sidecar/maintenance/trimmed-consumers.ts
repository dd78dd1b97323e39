import type { Logger } from 'pino'
import type { LocalDatabase } from '../database/local-database.ts'
import { parsePosition } from '../database/position.ts'

/** Consumers of the change log that no longer find in it what they need: the next backup of a schedule among them is a Full. */
export class TrimmedConsumers {
  readonly #database: LocalDatabase
  readonly #log: Logger
  #base: bigint | undefined
  #names: readonly string[] = []

  constructor(database: LocalDatabase, log: Logger) {
    this.#database = database
    this.#log = log
  }

  get names(): readonly string[] {
    return this.#names
  }

  async look(): Promise<void> {
    const base = this.#database.state.logBase.seq
    // only a trim makes one, and only a backup takes it away
    if (base === this.#base && this.#names.length === 0) return
    const consumers = await this.#database.consumers()
    const names = Object.entries(consumers)
      .filter(([name, { position }]) => parsePosition(position, name).seq < base)
      .map(([name]) => name)
    for (const name of names)
      if (!this.#names.includes(name))
        this.#log.warn(
          { consumer: name },
          'changes that a consumer needed are gone from the log: its next backup is Full',
        )
    this.#base = base
    this.#names = names
  }
}
