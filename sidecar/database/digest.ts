import { xxh3 } from '@node-rs/xxhash'
import type { StoredRecord } from '../engine/engine.ts'
import { Bytes } from './bytes.ts'

/** Bytes of the canonical encoding before the data (docs/formats.md, section 1). */
export const CANONICAL_HEADER = 32

const MODULUS_BITS = 128

/** Sums and differences of digests are taken without reduction and brought back to 128 bits once. */
export function reduceDigest(sum: bigint): bigint {
  return BigInt.asUintN(MODULUS_BITS, sum)
}

/** XXH3-128 (seed 0) of a canonical encoding; the bytes are read, not kept. */
export function digestOfCanonical(canonical: Uint8Array): bigint {
  return xxh3.xxh128(canonical)
}

let scratch = new Bytes(64 * 1024)

/** The record's own term of the content digest: its ETag. */
export function digestOfRecord(record: StoredRecord): bigint {
  const length = CANONICAL_HEADER + record.data.length
  if (scratch.length < length) scratch = new Bytes(Math.max(length, scratch.length * 2))
  writeCanonical(scratch, 0, record)
  const digest = xxh3.xxh128(scratch.buffer.subarray(0, length))
  // one large record must not hold its size for ever
  if (scratch.length > 8 * 1024 * 1024) scratch = new Bytes(64 * 1024)
  return digest
}

/** Writes the canonical encoding at `offset`; returns the offset behind it. The target must have the room. */
export function writeCanonical(target: Bytes, offset: number, record: StoredRecord): number {
  const { view } = target
  view.setBigUint64(offset, record.key, true)
  view.setBigUint64(offset + 8, record.term, true)
  view.setBigUint64(offset + 16, record.cmd, true)
  view.setBigUint64(offset + 24, record.expiresAt, true)
  target.buffer.set(record.data, offset + CANONICAL_HEADER)
  return offset + CANONICAL_HEADER + record.data.length
}

/** 32 lower-case hex digits. */
export function formatDigest(digest: bigint): string {
  return digest.toString(16).padStart(32, '0')
}

/** The inverse of formatDigest; undefined when the text is not 32 hex digits. */
export function parseDigest(text: string): bigint | undefined {
  return /^[0-9a-f]{32}$/i.test(text) ? BigInt(`0x${text}`) : undefined
}

/** u128 little-endian. */
export function writeDigest(target: DataView, offset: number, digest: bigint): void {
  // only the lowest 64 bits of what is set are taken
  target.setBigUint64(offset, digest, true)
  target.setBigUint64(offset + 8, digest >> 64n, true)
}

export function readDigest(source: Buffer, offset: number): bigint {
  return source.readBigUInt64LE(offset) | (source.readBigUInt64LE(offset + 8) << 64n)
}
