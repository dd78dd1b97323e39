import type { StoredRecord } from '../engine.ts'

/** In front of the data in a record's value: term, cmd, expiresAt, u64 little-endian each. */
export const HEADER = 24

/**
 * The record of a value that lies in `buffer` from byte `start`, a multiple of 8, with `length` bytes. The data is borrowed.
 * @param words the same memory, by u64
 */
export function decodeRecord(
  key: bigint,
  bytes: Uint8Array,
  words: BigUint64Array,
  start: number,
  length: number,
): StoredRecord {
  const word = start >>> 3
  return {
    key,
    term: words[word] ?? 0n,
    cmd: words[word + 1] ?? 0n,
    data: bytes.subarray(start + HEADER, start + length),
    expiresAt: words[word + 2] ?? 0n,
  }
}

/** The record of a value at the beginning of the memory, with a copy of its data. */
export function decodeCopy(key: bigint, bytes: Uint8Array, words: BigUint64Array, length: number): StoredRecord {
  return {
    key,
    term: words[0] ?? 0n,
    cmd: words[1] ?? 0n,
    // From Node's pool: a third of the cost of slice() for small data.
    data: Buffer.from(bytes.subarray(HEADER, length)),
    expiresAt: words[2] ?? 0n,
  }
}
