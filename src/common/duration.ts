import { KvidxError } from './errors.ts'

/**
 * Durations as Kubernetes writes them, plus whole days: `1500ms`, `90s`, `1h30m`, `7d`. Whole numbers, largest unit first, each unit once, days by
 * themselves (`36h`, not `1d12h`: the API server cannot judge the range of a mixture). A bare number is refused: nobody can see whether it means seconds or milliseconds.
 */

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const

const DURATION = /^(?=\d)(?:(\d{1,5})d|(?:(\d{1,7})h)?(?:(\d{1,8})m)?(?:(\d{1,10})s)?(?:(\d{1,13})ms)?)$/

/** The same as a pattern of JSON Schema and RE2, which has no look-ahead: it also matches the empty text, so it needs minLength 2. */
export const DURATION_PATTERN = '^([0-9]{1,5}d|([0-9]{1,7}h)?([0-9]{1,8}m)?([0-9]{1,10}s)?([0-9]{1,13}ms)?)$'

/** In words, for messages. */
export const DURATION_FORM = 'a duration with units, largest first, such as 1500ms, 30s, 1h30m or 7d'

/** Inclusive bounds of a duration, as durations. */
export interface DurationRange {
  readonly min?: string
  readonly max?: string
}

/** Milliseconds; undefined when the text is not a duration. */
export function parseDuration(text: string): number | undefined {
  const match = DURATION.exec(text)
  if (!match) return undefined
  let total = 0
  UNITS.forEach(([, ms], index) => {
    total += Number(match[index + 1] ?? 0) * ms
  })
  return Number.isSafeInteger(total) ? total : undefined
}

/**
 * Milliseconds. Throws KvidxError invalid_parameter naming `field` when the value is not a duration or lies outside `range`.
 * @param field path of the field, for the message
 */
export function milliseconds(value: string, field: string, range: DurationRange = {}): number {
  const total = parseDuration(value)
  if (total === undefined) throw refused(field, value, DURATION_FORM)
  if (!isDurationWithin(total, range)) {
    const { min, max } = range
    const bounds = [min === undefined ? '' : `from ${min}`, max === undefined ? '' : `to ${max}`]
    throw refused(field, value, bounds.filter(bound => bound !== '').join(' '))
  }
  return total
}

export function isDurationWithin(ms: number, range: DurationRange): boolean {
  const min = range.min === undefined ? undefined : parseDuration(range.min)
  const max = range.max === undefined ? undefined : parseDuration(range.max)
  return (min === undefined || ms >= min) && (max === undefined || ms <= max)
}

/** The shortest text that parseDuration reads back: 5_400_000 -> `1h30m`, 0 -> `0s`. Whole milliseconds from 0 on. */
export function formatDuration(ms: number): string {
  if (!Number.isSafeInteger(ms) || ms < 0)
    throw new RangeError(`formatDuration: ${ms} is not a whole number of milliseconds`)
  const [, day] = UNITS[0]
  if (ms > 0 && ms % day === 0) return `${ms / day}d`
  let rest = ms
  let text = ''
  for (const [unit, size] of UNITS.slice(1)) {
    const count = Math.floor(rest / size)
    if (count > 0) text += `${count}${unit}`
    rest -= count * size
  }
  return text === '' ? '0s' : text
}

function refused(field: string, value: unknown, allowed: string): KvidxError {
  return new KvidxError('invalid_parameter', `${field}: '${String(value)}' is not allowed; it must be ${allowed}`, {
    field,
    value: String(value),
    allowed,
  })
}
