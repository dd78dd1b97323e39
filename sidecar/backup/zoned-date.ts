import { KvidxError } from '../../src/common/errors.ts'

/** The calendar units that a moment falls into, as a wall calendar in some time zone shows them. */
export interface ZonedDate {
  /** `2026-11-23` */
  readonly day: string
  /** ISO 8601 week, Monday to Sunday: `2026-W48`. The week's year can differ from the day's. */
  readonly week: string
  /** `2026-11` */
  readonly month: string
}

const DAY_MS = 86_400_000
/** Making a format costs far more than using it. */
const formats = new Map<string, Intl.DateTimeFormat>()

/** @param time Unix ms @param timeZone IANA name. Errors: invalid_parameter for a zone that is not known. */
export function zonedDate(time: number, timeZone: string): ZonedDate {
  const parts = new Map(
    formatOf(timeZone)
      .formatToParts(time)
      .map(part => [part.type, Number(part.value)]),
  )
  const year = parts.get('year') ?? Number.NaN
  const month = parts.get('month') ?? Number.NaN
  const day = parts.get('day') ?? Number.NaN
  const monthText = `${pad(year, 4)}-${pad(month, 2)}`
  return { day: `${monthText}-${pad(day, 2)}`, month: monthText, week: isoWeek(year, month, day) }
}

/** The week belongs to the year that holds its Thursday. */
function isoWeek(year: number, month: number, day: number): string {
  const date = Date.UTC(year, month - 1, day)
  const weekday = (new Date(date).getUTCDay() + 6) % 7
  const thursday = new Date(date + (3 - weekday) * DAY_MS)
  const weekYear = thursday.getUTCFullYear()
  const week = 1 + Math.floor((thursday.getTime() - Date.UTC(weekYear, 0, 1)) / (7 * DAY_MS))
  return `${pad(weekYear, 4)}-W${pad(week, 2)}`
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone)
  if (!format) {
    try {
      format = new Intl.DateTimeFormat('en-US', {
        timeZone,
        calendar: 'gregory',
        numberingSystem: 'latn',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
      })
    } catch (thrown) {
      throw new KvidxError(
        'invalid_parameter',
        `timeZone: '${timeZone}' is not known (allowed: IANA names such as Europe/Berlin)`,
        { field: 'timeZone' },
        thrown,
      )
    }
    formats.set(timeZone, format)
  }
  return format
}

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0')
}
