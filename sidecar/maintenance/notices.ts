import type { Clock } from '../../src/common/clock.ts'
import type { LocalDatabase } from '../database/local-database.ts'

/** How long a person is told of writes that nobody here made, ms. */
const FOREIGN_WRITES_SHOWN = 24 * 3600_000
const REASONS = ['ForeignWrites', 'Salvaged', 'RestoredAfterDamage'] as const
type Reason = (typeof REASONS)[number]

/** Says on the health board what happened to the content, for as long as a person should look at it. */
export class Notices {
  readonly #database: LocalDatabase
  readonly #clock: Clock

  constructor(database: LocalDatabase, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  show(): void {
    const { board } = this.#database
    const notices = this.#notices()
    for (const reason of REASONS) {
      const message = notices.get(reason)
      if (message === undefined) board.clear(reason)
      else board.raise(reason, message, this.#clock.now())
    }
  }

  #notices(): ReadonlyMap<Reason, string> {
    const { epochs, recovery } = this.#database
    const found = new Map<Reason, string>()
    const epoch = epochs.at(-1)
    if (epoch?.reason === 'foreignWrites' && this.#clock.now() - Number(epoch.time) < FOREIGN_WRITES_SHOWN)
      found.set(
        'ForeignWrites',
        `something else wrote to the files: counters were rebuilt and epoch ${epoch.epoch} began; make a Full backup`,
      )
    if (recovery) {
      const { action, damage, quarantine, records, lost, reached } = recovery
      const after = `${damage}. The damaged files are in quarantine; when they are no longer needed: kvidx quarantine remove ${quarantine}`
      if (action === 'Salvaged')
        found.set('Salvaged', `${records} records were kept and ${lost ?? 'an unknown number'} lost. It was: ${after}`)
      else found.set('RestoredAfterDamage', `the backups' state ${reached} took its place. It was: ${after}`)
    }
    return found
  }
}
