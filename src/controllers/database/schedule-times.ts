import { Cron } from 'croner'

/** The times of one cron schedule around a moment, Unix ms. Undefined where there is none, such as after the 30th of February. */
export interface ScheduleTimes {
  readonly next: number | undefined
  /** The latest at or before the moment, and the one before that. */
  readonly previous: number | undefined
  readonly beforePrevious: number | undefined
}

/** Pure but for the time zone data. Errors: croner's, for a schedule or a time zone that validation would have refused. */
export function scheduleTimes(schedule: string, timeZone: string, now: number): ScheduleTimes {
  const cron = new Cron(schedule, { timezone: timeZone, paused: true })
  // a run that is due this very second is the previous one
  const [previous, beforePrevious] = cron.previousRuns(2, new Date(now + 1000))
  return {
    next: cron.nextRun(new Date(now))?.getTime(),
    previous: previous?.getTime(),
    beforePrevious: beforePrevious?.getTime(),
  }
}
