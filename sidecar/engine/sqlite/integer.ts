import type { KeyRange } from '../engine.ts'

/** SQLite's integers are signed; a u64 is kept as the i64 with the same bits, as kvidxkit does. */
export function toSigned(value: bigint): bigint {
  return BigInt.asIntN(64, value)
}

export function toUnsigned(value: bigint): bigint {
  return BigInt.asUintN(64, value)
}

/** One run of row ids, both ends inclusive. */
export interface RowRange {
  readonly first: bigint
  readonly last: bigint
}

const SIGN = 1n << 63n

/**
 * The row ids of an unsigned range in unsigned order: at most two runs, because keys from 2^63 are stored as negative numbers
 * and so lie before 0 in the file.
 */
export function rowRanges(range: KeyRange, descending: boolean): RowRange[] {
  const { start, end } = range
  if (start > end) return []
  const runs: RowRange[] = []
  if (start < SIGN) runs.push({ first: start, last: end < SIGN ? end : SIGN - 1n })
  if (end >= SIGN) runs.push({ first: toSigned(start < SIGN ? SIGN : start), last: toSigned(end) })
  return descending ? runs.reverse() : runs
}
