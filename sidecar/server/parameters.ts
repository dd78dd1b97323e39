import { type TSchema, Type } from '@sinclair/typebox'
import { milliseconds } from '../../src/common/duration.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { suggest } from '../../src/common/suggest.ts'
import type { Position } from '../database/operation.ts'
import { parsePosition } from '../database/position.ts'
import type { KeyRange } from '../engine/engine.ts'
import { DurationText, KeyText, PositionText, TimeText, U64Text } from './schemas.ts'

/** One query parameter: its schema for the OpenAPI document and its reader for requests. */
export interface Parameter<T> {
  readonly schema: TSchema
  readonly description: string
  readonly required?: true
  /** Errors: invalid_parameter or invalid_key naming `field`. */
  readonly parse: (text: string, field: string) => T
}

export type Parameters = Readonly<Record<string, Parameter<unknown>>>

export type ParameterValues<P extends Parameters> = {
  readonly [Name in keyof P]?: P[Name] extends Parameter<infer T> ? T : never
}

const U64_MAX = 0xffff_ffff_ffff_ffffn
const DECIMAL = /^(?:0|[1-9][0-9]{0,19})$/
const HEX = /^0x[0-9a-fA-F]{1,16}$/

/** A u64 in decimal or 0x hex; undefined when it is none. */
export function readU64(text: string): bigint | undefined {
  if (!DECIMAL.test(text) && !HEX.test(text)) return undefined
  const value = BigInt(text)
  return value > U64_MAX ? undefined : value
}

/** Errors: invalid_key. */
export function parseKey(text: string, field = 'key'): bigint {
  const key = readU64(text)
  if (key === undefined)
    throw new KvidxError(
      'invalid_key',
      `${field}: '${clip(text)}' is not a key (allowed: 0 to 18446744073709551615, decimal without leading zeros or 0x hex)`,
      { field },
    )
  return key
}

/** Errors: invalid_parameter. */
export function parseU64(text: string, field: string): bigint {
  const value = readU64(text)
  if (value === undefined)
    throw invalid(field, text, '0 to 18446744073709551615, decimal without leading zeros or 0x hex')
  return value
}

/** A duration with unit, in milliseconds, at least 1. Errors: invalid_parameter. */
export function parseDuration(text: string, field: string): bigint {
  return BigInt(milliseconds(text, field, { min: '1ms' }))
}

const RFC3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})$/

/** Unix ms (1 … 2^64-1) or RFC 3339. Errors: invalid_parameter. */
export function parseTime(text: string, field: string): bigint {
  if (DECIMAL.test(text)) {
    const value = BigInt(text)
    if (value >= 1n && value <= U64_MAX) return value
  } else if (RFC3339.test(text)) {
    const value = Date.parse(text.toUpperCase())
    // Date.parse takes 30 February for 1 March: only what comes back as it went in is a date
    if (value >= 1 && isRealDate(text)) return BigInt(value)
  }
  throw invalid(field, text, 'Unix milliseconds from 1 to 18446744073709551615, or RFC 3339 as in 2030-01-31T12:00:00Z')
}

function isRealDate(text: string): boolean {
  const [year, month, day] = text.slice(0, 10).split('-').map(Number) as [number, number, number]
  return month >= 1 && month <= 12 && day >= 1 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate()
}

export const key = (description: string): Parameter<bigint> => ({ schema: KeyText, description, parse: parseKey })
export const u64 = (description: string): Parameter<bigint> => ({ schema: U64Text, description, parse: parseU64 })
export const duration = (description: string): Parameter<bigint> => ({
  schema: DurationText,
  description,
  parse: parseDuration,
})
export const time = (description: string): Parameter<bigint> => ({ schema: TimeText, description, parse: parseTime })
export const position = (description: string): Parameter<Position> => ({
  schema: PositionText,
  description,
  parse: parsePosition,
})

export const boolean = (description: string): Parameter<boolean> => ({
  schema: Type.Boolean(),
  description,
  parse(text, field) {
    if (text !== 'true' && text !== 'false') throw invalid(field, text, 'true or false')
    return text === 'true'
  },
})

export const choice = <const T extends readonly [string, ...string[]]>(
  description: string,
  values: T,
): Parameter<T[number]> => ({
  schema: Type.Union(values.map(value => Type.Literal(value))),
  description,
  parse(text, field) {
    if (!values.includes(text)) throw invalid(field, text, values.join(', '))
    return text
  },
})

export const integer = (description: string, minimum: number, maximum: number): Parameter<number> => ({
  schema: Type.Integer({ minimum, maximum }),
  description,
  parse(text, field) {
    const value = DECIMAL.test(text) ? Number(text) : Number.NaN
    if (!(value >= minimum && value <= maximum))
      throw invalid(field, text, `a whole number from ${minimum} to ${maximum}`)
    return value
  },
})

export const text = (description: string, maximum: number): Parameter<string> => ({
  schema: Type.String({ minLength: 1, maxLength: maximum }),
  description,
  parse(value, field) {
    if (value.length < 1 || value.length > maximum) throw invalid(field, value, `1 to ${maximum} characters`)
    return value
  },
})

export function required<T>(parameter: Parameter<T>): Parameter<T> {
  return { ...parameter, required: true }
}

const NOTHING = Object.freeze({})

const needs = new WeakMap<Parameters, boolean>()

function needsSome(table: Parameters): boolean {
  let some = needs.get(table)
  if (some === undefined) {
    some = Object.values(table).some(parameter => parameter.required)
    needs.set(table, some)
  }
  return some
}

/** Reads a query string (without `?`). Errors: unknown_parameter, invalid_parameter, invalid_key. */
export function parseQuery<P extends Parameters>(query: string, table: P): ParameterValues<P> {
  if (query === '' && !needsSome(table)) return NOTHING as ParameterValues<P>
  const values: Record<string, unknown> = {}
  for (const pair of query.split('&')) {
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const name = decode(equals === -1 ? pair : pair.slice(0, equals))
    const parameter = Object.hasOwn(table, name) ? table[name] : undefined
    if (!parameter) {
      const known = Object.keys(table)
      const meant = suggest(name, known)
      throw new KvidxError(
        'unknown_parameter',
        `'${clip(name)}' is not a parameter of this call (${known.length === 0 ? 'it has none' : `allowed: ${known.join(', ')}`})` +
          (meant === undefined ? '' : `; did you mean ${meant}?`),
        { field: clip(name) },
      )
    }
    if (Object.hasOwn(values, name)) throw invalidParameter(name, `${name} is given twice`)
    values[name] = parameter.parse(equals === -1 ? '' : decode(pair.slice(equals + 1)), name)
  }
  for (const [name, parameter] of Object.entries(table))
    if (parameter.required && !Object.hasOwn(values, name))
      throw invalidParameter(name, `${name} is missing (${parameter.description})`)
  return values as ParameterValues<P>
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch (error) {
    throw new KvidxError('invalid_parameter', `the query has a malformed percent sign in '${clip(text)}'`, {}, error)
  }
}

/** The bounds that every range call has. */
export const RANGE = {
  start: key('first key, default 0'),
  end: key('last key, default 18446744073709551615'),
  startExclusive: boolean('true: the range begins behind `start`'),
  endExclusive: boolean('true: the range ends before `end`'),
}

const EMPTY: KeyRange = { start: 1n, end: 0n }

/** The range of inclusive bounds that the four parameters mean; start behind end is an empty range. */
export function rangeOf(values: ParameterValues<typeof RANGE>): KeyRange {
  const { start = 0n, end = U64_MAX } = values
  if (values.startExclusive && values.start === undefined)
    throw invalidParameter('startExclusive', 'startExclusive needs start')
  if (values.endExclusive && values.end === undefined) throw invalidParameter('endExclusive', 'endExclusive needs end')
  if ((values.startExclusive && start === U64_MAX) || (values.endExclusive && end === 0n)) return EMPTY
  return { start: values.startExclusive ? start + 1n : start, end: values.endExclusive ? end - 1n : end }
}

export function invalidParameter(field: string, message: string): KvidxError {
  return new KvidxError('invalid_parameter', message, { field })
}

function invalid(field: string, text: string, allowed: string): KvidxError {
  return new KvidxError('invalid_parameter', `${field}: '${clip(text)}' is not allowed (allowed: ${allowed})`, {
    field,
    allowed,
  })
}

/** What a client sent, short enough for a message. */
export function clip(text: string): string {
  return text.length <= 64 ? text : `${text.slice(0, 61)}...`
}
