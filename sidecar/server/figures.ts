import type { Database } from '../database/database.ts'
import type { EngineFigures } from '../engine/engine.ts'
import type { Log } from './log.ts'
import type { FiguresSource } from './metrics.ts'

/** Older figures are read again. Milliseconds. */
const FRESH = 5000

/** The engine's figures as last read. Whoever asks gets them at once; what is old is read again beside that. */
export class Figures implements FiguresSource {
  readonly #log: Log
  readonly #stopping = new AbortController()
  #database: Database | undefined
  #figures: EngineFigures | undefined
  #read = Number.NEGATIVE_INFINITY
  #reading = false

  constructor(log: Log) {
    this.#log = log
  }

  attach(database: Database): void {
    this.#database = database
    this.#refresh()
  }

  get figures(): EngineFigures | undefined {
    if (performance.now() - this.#read > FRESH) this.#refresh()
    return this.#figures
  }

  stop(): void {
    this.#stopping.abort()
  }

  #refresh(): void {
    if (!this.#database || this.#reading || this.#stopping.signal.aborted) return
    this.#reading = true
    this.#database
      .stats(this.#stopping.signal)
      .then(stats => {
        this.#figures = stats.figures
        this.#read = performance.now()
      })
      .catch((error: unknown) => {
        if (!this.#stopping.signal.aborted) this.#log.debug({ err: error }, 'the figures could not be read')
      })
      .finally(() => {
        this.#reading = false
      })
  }
}
