import type { Clock } from '../../src/common/clock.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import { type ClockState, firstReading, nextReading } from './clock-guard.ts'
import type { LiveSettings } from './live-settings.ts'

const COUNT_INTERVAL = 60_000

/** Decides whether expired records may be removed for good now, and says on the health board why not. They are invisible anyway. */
export class ExpiryGate {
  readonly #database: LocalDatabase
  readonly #settings: LiveSettings
  readonly #clock: Clock
  #state: ClockState
  #counted = Number.NEGATIVE_INFINITY

  constructor(database: LocalDatabase, settings: LiveSettings, clock: Clock) {
    this.#database = database
    this.#settings = settings
    this.#clock = clock
    this.#state = firstReading(this.#reading(), 0)
  }

  /** With the database open: compares the clock with the last commit. @param fresh its first data was made by this start */
  start(fresh: boolean): void {
    const { state, epochs } = this.#database
    // an adopted database may have no commit of ours yet
    const last = Math.max(Number(state.time), Number(epochs.at(-1)?.time ?? 0n))
    this.#state = firstReading(this.#reading(), fresh ? 0 : last)
    this.#show()
  }

  /** Why nothing may be removed; undefined: it may. */
  get closed(): string | undefined {
    if (this.#state.jump) return this.#state.jump.message
    const until = this.#graceEnd()
    return this.#clock.now() < until
      ? `the database was adopted: nothing goes before ${new Date(until).toISOString()}`
      : undefined
  }

  /** A person has looked at the clock. */
  confirmClock(): void {
    this.#state = { anchor: this.#reading() }
    this.#show()
  }

  async look(): Promise<void> {
    this.#state = nextReading(this.#state, this.#reading())
    this.#show()
    await this.#countAdopted()
  }

  #show(): void {
    const { board } = this.#database
    const { jump } = this.#state
    if (jump) board.raise('ClockJump', `${jump.message}; expired records are not removed for now`, this.#clock.now())
    else board.clear('ClockJump')
  }

  async #countAdopted(): Promise<void> {
    const { board } = this.#database
    const until = this.#graceEnd()
    if (this.#clock.now() >= until) return board.clear('AdoptedExpiries')
    if (this.#clock.monotonic() - this.#counted < COUNT_INTERVAL && board.has('AdoptedExpiries')) return
    this.#counted = this.#clock.monotonic()
    const { count } = await this.#database.session().readers.call('expired', { until: BigInt(until) })
    if (count === 0) return board.clear('AdoptedExpiries')
    board.raise(
      'AdoptedExpiries',
      `${count} expired records of the adopted database will be removed from ${new Date(until).toISOString()} on`,
      this.#clock.now(),
    )
  }

  /** Unix ms; 0 when nothing was adopted. The epoch history and identity.json outlive restarts. */
  #graceEnd(): number {
    const epochs = this.#database.epochs.filter(epoch => epoch.reason === 'adopted').map(epoch => Number(epoch.time))
    const adopted = Math.max(0, this.#database.adoptedAt ?? 0, ...epochs)
    return adopted === 0 ? 0 : adopted + this.#settings.dynamic.recovery.adoptGrace
  }

  #reading() {
    return { wall: this.#clock.now(), monotonic: this.#clock.monotonic() }
  }
}
