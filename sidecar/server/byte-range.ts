import { KvidxError } from '../../src/common/errors.ts'
import { Refusal } from './exchange.ts'

/** Offsets into the data, `end` inclusive. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * The part that a Range header asks for (RFC 9110, section 14). undefined: the whole, also for a header that is malformed, of another
 * unit or of several ranges, which a server may ignore. Errors: range_not_satisfiable.
 */
export function byteRange(header: string | undefined, length: number): ByteRange | undefined {
  const match = header === undefined ? null : /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/.exec(header)
  if (!match) return undefined
  const [, first = '', last = ''] = match
  if (first === '') {
    if (last === '') return undefined
    const suffix = Number(last)
    if (suffix === 0 || length === 0) throw unsatisfiable(header as string, length)
    return { start: Math.max(0, length - suffix), end: length - 1 }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return undefined
  if (start >= length) throw unsatisfiable(header as string, length)
  return { start, end: last === '' ? length - 1 : Math.min(Number(last), length - 1) }
}

function unsatisfiable(header: string, length: number): KvidxError {
  return new Refusal(
    new KvidxError('range_not_satisfiable', `range: '${header}' lies outside the ${length} bytes of data`, { length }),
    { headers: { 'content-range': `bytes */${length}` } },
  )
}
