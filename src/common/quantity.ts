import { KvidxError } from './errors.ts'

/**
 * Kubernetes quantities (`10Gi`, `1500m`, `1e3`, `0.5`), read exactly: as a count of 10^-9, which is as fine as Kubernetes itself
 * goes. Nothing is rounded; what cannot be held exactly is refused.
 */

const NANO = 1_000_000_000n

const SUFFIXES: Readonly<Record<string, { readonly factor: bigint; readonly divisor: bigint }>> = {
  n: { factor: 1n, divisor: NANO },
  u: { factor: 1n, divisor: 1_000_000n },
  m: { factor: 1n, divisor: 1000n },
  '': { factor: 1n, divisor: 1n },
  k: { factor: 1000n, divisor: 1n },
  M: { factor: 1000n ** 2n, divisor: 1n },
  G: { factor: 1000n ** 3n, divisor: 1n },
  T: { factor: 1000n ** 4n, divisor: 1n },
  P: { factor: 1000n ** 5n, divisor: 1n },
  E: { factor: 1000n ** 6n, divisor: 1n },
  Ki: { factor: 1024n, divisor: 1n },
  Mi: { factor: 1024n ** 2n, divisor: 1n },
  Gi: { factor: 1024n ** 3n, divisor: 1n },
  Ti: { factor: 1024n ** 4n, divisor: 1n },
  Pi: { factor: 1024n ** 5n, divisor: 1n },
  Ei: { factor: 1024n ** 6n, divisor: 1n },
}

const QUANTITY = /^([+-]?)(\d{1,19})?(?:\.(\d{0,9}))?(?:(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE]([+-]?\d{1,2}))?$/

/** As Kubernetes: what is above this is not a quantity. */
const LARGEST = 2n ** 63n - 1n

/** In words, for messages. */
export const QUANTITY_FORM = 'a quantity such as 512Mi, 10Gi or 1000000 (suffixes Ki Mi Gi Ti Pi Ei, k M G T P E)'

/** Inclusive bounds of a quantity, as quantities. */
export interface QuantityRange {
  readonly min?: string
  readonly max?: string
}

/** Units of 10^-9; undefined when the text is not a quantity that can be held exactly. */
export function parseNano(text: string | number | bigint): bigint | undefined {
  const match = QUANTITY.exec(typeof text === 'number' && !Number.isInteger(text) ? '' : String(text))
  if (!match) return undefined
  const [, sign = '', whole = '', fraction = '', suffix = '', exponent] = match
  if (whole === '' && fraction === '') return undefined
  const scale = SUFFIXES[suffix]
  if (!scale) return undefined
  let numerator = BigInt(whole + fraction) * scale.factor * NANO
  let divisor = 10n ** BigInt(fraction.length) * scale.divisor
  const power = exponent === undefined ? 0 : Number(exponent)
  if (power > 0) numerator *= 10n ** BigInt(power)
  else divisor *= 10n ** BigInt(-power)
  if (numerator % divisor !== 0n) return undefined
  const value = numerator / divisor
  if (value > LARGEST * NANO) return undefined
  return sign === '-' ? -value : value
}

/** -1, 0 or 1. Throws KvidxError invalid_parameter when one of them is not a quantity. */
export function compareQuantities(a: string | number | bigint, b: string | number | bigint): -1 | 0 | 1 {
  const [left, right] = [nanoOf(a, 'quantity'), nanoOf(b, 'quantity')]
  return left < right ? -1 : left > right ? 1 : 0
}

/**
 * Units of 10^-9. Throws KvidxError invalid_parameter naming `field`.
 * @param field path of the field, for the message
 */
export function nanoOf(value: string | number | bigint, field: string): bigint {
  const nano = parseNano(value)
  if (nano === undefined) throw refused(field, value, QUANTITY_FORM)
  return nano
}

/**
 * Whole bytes (or any other whole unit), at most 2^63-1. Throws KvidxError invalid_parameter when the value is not a quantity, not whole,
 * negative, or outside `range`.
 */
export function bytesAsBigint(value: string | number | bigint, field: string, range: QuantityRange = {}): bigint {
  const nano = nanoOf(value, field)
  if (nano < 0n || nano % NANO !== 0n) throw refused(field, value, `a whole number of bytes, as ${QUANTITY_FORM}`)
  if (!isWithin(nano, range)) throw refused(field, value, describeRange(range))
  return nano / NANO
}

/** As bytesAsBigint, at most 2^53-1 (8 PiB), as a number. */
export function bytes(value: string | number | bigint, field: string, range: QuantityRange = {}): number {
  const whole = bytesAsBigint(value, field, range)
  if (whole > BigInt(Number.MAX_SAFE_INTEGER)) throw refused(field, value, 'at most 8Pi')
  return Number(whole)
}

export function isWithin(nano: bigint, range: QuantityRange): boolean {
  if (range.min !== undefined && nano < nanoOf(range.min, 'min')) return false
  return range.max === undefined || nano <= nanoOf(range.max, 'max')
}

/** `from 1Mi to 1Ti` */
export function describeRange({ min, max }: { readonly min?: string; readonly max?: string }): string {
  if (min !== undefined && max !== undefined) return `from ${min} to ${max}`
  if (min !== undefined) return `at least ${min}`
  return max !== undefined ? `at most ${max}` : QUANTITY_FORM
}

const BINARY = ['Ei', 'Pi', 'Ti', 'Gi', 'Mi', 'Ki'] as const

/** The shortest exact quantity with a binary suffix: 10737418240 -> `10Gi`, 1000 -> `1000`. */
export function formatQuantity(value: number | bigint): string {
  const whole = BigInt(value)
  for (const suffix of BINARY) {
    const factor = SUFFIXES[suffix]?.factor ?? 1n
    if (whole !== 0n && whole % factor === 0n) return `${whole / factor}${suffix}`
  }
  return String(whole)
}

/** For people, rounded to three digits: 10_800_000_000 -> `10.1 GiB`. */
export function formatBytes(value: number | bigint): string {
  let rest = Number(value)
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']
  let unit = 0
  while (Math.abs(rest) >= 1024 && unit < units.length - 1) {
    rest /= 1024
    unit++
  }
  const digits = unit === 0 || Math.abs(rest) >= 100 ? 0 : Math.abs(rest) >= 10 ? 1 : 2
  return `${rest.toFixed(digits)} ${units[unit]}`
}

function refused(field: string, value: unknown, allowed: string): KvidxError {
  return new KvidxError('invalid_parameter', `${field}: '${String(value)}' is not allowed; it must be ${allowed}`, {
    field,
    value: String(value),
    allowed,
  })
}
