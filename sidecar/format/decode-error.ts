import { KvidxError } from '../../src/common/errors.ts'
import type { StreamFormat } from '../database/database.ts'

/** Where in a stream something is wrong. */
export interface Place {
  /** Index of the record, the first is 0; absent before the first. */
  readonly record?: number
  /** Bytes from the start of the stream. */
  readonly offset: number
  /** Text formats: the first is 1. */
  readonly line?: number
}

/** `invalid_body`: "CSV, line 3, record index 1, offset 40: …". */
export function invalidBody(format: StreamFormat, place: Place, problem: string, expected?: string): KvidxError {
  const message = `${describe(format, place)}: ${problem}${expected === undefined ? '' : `; expected ${expected}`}`
  return new KvidxError('invalid_body', message, { format, ...place, ...(expected === undefined ? {} : { expected }) })
}

/** `too_large` for the data of one record. */
export function dataTooLarge(format: StreamFormat, place: Place, length: string, limit: number): KvidxError {
  const message = `${describe(format, place)}: the data has ${length} bytes, above the limit of ${limit}`
  return new KvidxError('too_large', message, { format, ...place, limit })
}

/** A byte as a person recognises it. */
export function showByte(byte: number): string {
  const hex = `0x${byte.toString(16).padStart(2, '0')}`
  return byte > 0x20 && byte < 0x7f ? `'${String.fromCharCode(byte)}'` : hex
}

function describe(format: StreamFormat, place: Place): string {
  const parts: string[] = [format.toUpperCase()]
  if (place.line !== undefined) parts.push(`line ${place.line}`)
  if (place.record !== undefined) parts.push(`record index ${place.record}`)
  parts.push(`offset ${place.offset}`)
  return parts.join(', ')
}
