import type { ReadView, StoredRecord } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'

/** Keys where signed, 53-bit and unsigned order differ, in unsigned order. */
export const EDGE_KEYS: readonly bigint[] = [
  0n,
  1n,
  255n,
  256n,
  (1n << 32n) - 1n,
  1n << 32n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 53n) + 1n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 63n) + 1n,
  (1n << 64n) - 2n,
  (1n << 64n) - 1n,
]

export function record(key: bigint, text: string | Uint8Array = `value ${key}`, expiresAt = 0n): StoredRecord {
  const data = typeof text === 'string' ? new TextEncoder().encode(text) : text
  return { key, term: key ^ 7n, cmd: BigInt.asUintN(64, ~key), data, expiresAt }
}

/** A record that outlives the view it came from, with data that compares by content. */
export function kept(item: StoredRecord): StoredRecord {
  return { ...item, data: Uint8Array.from(item.data) }
}

export function everything(view: ReadView, range = EVERY_KEY, descending = false): StoredRecord[] {
  const found: StoredRecord[] = []
  view.scan(range, descending, item => {
    found.push(kept(item))
  })
  return found
}

export function keysOf(view: ReadView, range = EVERY_KEY, descending = false): bigint[] {
  const found: bigint[] = []
  view.scan(range, descending, item => {
    found.push(item.key)
  })
  return found
}

export function expiries(view: ReadView, until = (1n << 64n) - 1n, limit = 1000): [bigint, bigint][] {
  const found: [bigint, bigint][] = []
  view.scanExpiries(until, limit, item => {
    found.push([item.key, item.expiresAt])
  })
  return found
}

export function logOf(view: ReadView, fromSeq = 0n): [bigint, bigint, number][] {
  const found: [bigint, bigint, number][] = []
  view.scanLog(fromSeq, frame => {
    found.push([frame.firstSeq, frame.lastSeq, frame.frame.length])
  })
  return found
}

/** Bytes that differ from place to place and do not compress, the same for the same seed. */
export function noise(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = seed | 1
  for (let index = 0; index < length; index++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[index] = state
  }
  return bytes
}
