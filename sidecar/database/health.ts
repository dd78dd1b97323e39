import type { Health } from './database.ts'

interface Cause {
  readonly reason: string
  readonly message: string
  readonly since: number
  readonly fatal: boolean
}

/** What is wrong at the moment, each with the time since when. Fatal causes are those that a restart can mend. */
export class HealthBoard {
  readonly #causes = new Map<string, Cause>()
  /** Called when a cause appears or goes. */
  onChange: (reason: string, message: string | undefined) => void = () => {}

  raise(reason: string, message: string, now: number, fatal = false): void {
    const known = this.#causes.get(reason)
    this.#causes.set(reason, { reason, message, since: known?.since ?? now, fatal })
    if (!known) this.onChange(reason, message)
  }

  clear(reason: string): void {
    if (this.#causes.delete(reason)) this.onChange(reason, undefined)
  }

  has(reason: string): boolean {
    return this.#causes.has(reason)
  }

  get health(): Health {
    const causes = [...this.#causes.values()]
    const state = causes.some(cause => cause.fatal) ? 'UNHEALTHY' : causes.length > 0 ? 'DEGRADED' : 'OK'
    return { state, causes: causes.map(({ reason, message, since }) => ({ reason, message, since })) }
  }
}
