import { setImmediate } from 'node:timers/promises'
import { type EngineSnapshot, EVERY_KEY, type KeyRange, type ReadView, type StoredRecord } from '../engine/engine.ts'
import { createEncoder, ENCODER_CHUNK } from '../format/encode.ts'
import { isVisible } from './committer.ts'
import type { DatabaseState } from './database.ts'
import { CANONICAL_HEADER, digestOfCanonical, digestOfRecord, reduceDigest } from './digest.ts'
import { changeFileHeader, FrameBuilder } from './frame.ts'
import { PACK_CHUNK } from './packed-stream.ts'
import { formatPosition } from './position.ts'
import type { ScanTotals, StreamSpec } from './reader-protocol.ts'

/** Streams over one snapshot, cut into slices, so that a thread serves several of them and none holds memory for all its records. */

/** One piece of a stream; `end` with the last. */
export interface Slice {
  readonly chunk: Uint8Array<ArrayBuffer>
  readonly end: boolean
}

const LAST_KEY = EVERY_KEY.end
/** Keys looked at before a slice ends without bytes (all expired, say), so that others get their turn. */
const SLICE_RECORDS = 50_000
const EXPIRIES_PER_FRAME = 10_000
/** Records that are summed up before others get their turn. */
const TOTALS_SLICE = 10_000
/** Expiries that are put in key order in memory: about 20 MB. Reading every record for the sake of them costs as much as the records themselves. */
const SORTED_EXPIRIES = 200_000n

export function recordSlices(
  snapshot: EngineSnapshot,
  state: DatabaseState,
  spec: StreamSpec & { kind: 'records' },
): () => Slice {
  const { options, now } = spec
  const limit = options.limit ?? Number.POSITIVE_INFINITY
  const countHeader =
    options.format === 'binary'
      ? {
          count: Math.min(
            limit,
            options.stored
              ? countStored(snapshot, state, options.range)
              : countVisible(snapshot, state, options.range, now),
          ),
        }
      : {}
  const encoder = createEncoder(options.format, { values: options.values, ...countHeader })
  let { start, end } = options.range
  let written = 0
  let began = false
  let exhausted = start > end || limit === 0
  return () => {
    const header = began ? undefined : encoder.header()
    began = true
    let seen = 0
    while (!exhausted && encoder.length < ENCODER_CHUNK && seen < SLICE_RECORDS) {
      let last: bigint | undefined
      let stopped = false
      snapshot.scan({ start, end }, options.descending, record => {
        last = record.key
        seen++
        if (options.stored || isVisible(record, now)) {
          encoder.append(record)
          written++
        }
        stopped = written >= limit || encoder.length >= ENCODER_CHUNK || seen >= SLICE_RECORDS
        return !stopped
      })
      exhausted = !stopped || written >= limit || last === undefined || last === (options.descending ? start : end)
      if (last !== undefined && !exhausted) {
        if (options.descending) end = last - 1n
        else start = last + 1n
      }
    }
    const parts = [...(header ? [header] : []), exhausted ? encoder.footer() : encoder.take()]
    if (exhausted && options.format === 'ndjson')
      parts.push(
        new Uint8Array(
          Buffer.from(
            `${JSON.stringify({ end: true, count: String(written), position: formatPosition(state.position) })}\n`,
          ),
        ),
      )
    return { chunk: join(parts), end: exhausted }
  }
}

/** The bytes of `expiries.bin`: docs/formats.md, section 3. Expiries are gathered by time and written by key. */
export function expirySlices(snapshot: EngineSnapshot, state: DatabaseState): () => Slice {
  const frame = new FrameBuilder()
  const next = state.expiring <= SORTED_EXPIRIES ? sortedExpiries(snapshot) : walkedExpiries(snapshot)
  const after = { count: state.count, dataBytes: state.dataBytes, digest: state.digest }
  let began = false
  return () => {
    const header = began ? new Uint8Array(0) : new Uint8Array(changeFileHeader('expiries'))
    began = true
    frame.reset()
    const done = state.expiring === 0n || next(frame)
    const body =
      frame.changeCount === 0 ? new Uint8Array(0) : new Uint8Array(frame.finish(state.position, state.time, after))
    return { chunk: join([header, body]), end: done }
  }
}

/** The first records of a range, ended by that which brings them to so many bytes, 32 and the data of each: docs/formats.md, section 12. */
export function keySlice(snapshot: EngineSnapshot, state: DatabaseState, range: KeyRange, bytes: number): Uint8Array {
  const frame = new FrameBuilder()
  let size = 0
  snapshot.scan(range, false, record => {
    frame.put(record)
    size += CANONICAL_HEADER + record.data.length
    return size < bytes
  })
  return frame.finish(state.position, state.time, state)
}

/** Few enough to be put in key order in memory, by the index alone; returns true with the last. */
function sortedExpiries(snapshot: EngineSnapshot): (frame: FrameBuilder) => boolean {
  let all: { key: bigint; expiresAt: bigint }[] | undefined
  let at = 0
  return frame => {
    if (!all) {
      const gathered: { key: bigint; expiresAt: bigint }[] = []
      snapshot.scanExpiries(LAST_KEY, Number.MAX_SAFE_INTEGER, ({ key, expiresAt }) => {
        gathered.push({ key, expiresAt })
      })
      all = gathered.sort((a, b) => (a.key < b.key ? -1 : 1))
    }
    const end = Math.min(all.length, at + EXPIRIES_PER_FRAME)
    for (const { key, expiresAt } of all.slice(at, end)) frame.expiry(key, expiresAt)
    at = end
    return at === all.length
  }
}

/**
 * Walks all records in key order, a slice a call, which goes on until `visit` says that it is enough. Returns true with the last.
 */
function slicedWalk(view: ReadView, visit: (record: StoredRecord) => boolean): () => boolean {
  let next = 0n
  return () => {
    let last: bigint | undefined
    let stopped = false
    view.scan({ start: next, end: LAST_KEY }, false, record => {
      last = record.key
      stopped = visit(record)
      return !stopped
    })
    if (!stopped || last === undefined || last === LAST_KEY) return true
    next = last + 1n
    return false
  }
}

/** The index is ordered by time; with many of them only a walk over the keys gives key order with bounded memory. */
function walkedExpiries(snapshot: EngineSnapshot): (frame: FrameBuilder) => boolean {
  let seen = 0
  let into: FrameBuilder
  const walk = slicedWalk(snapshot, ({ key, expiresAt }) => {
    if (expiresAt !== 0n) into.expiry(key, expiresAt)
    return into.changeCount >= EXPIRIES_PER_FRAME || ++seen >= SLICE_RECORDS
  })
  return frame => {
    seen = 0
    into = frame
    return walk()
  }
}

/** Walks everything in slices. `step` returns the totals when it is through. */
export interface Totals {
  step(): ScanTotals | undefined
  readonly seen: number
}

/** Counts, sums and digests everything. */
export function totalsOf(view: ReadView | EngineSnapshot): Totals {
  return ('pack' in view && packedTotals(view)) || scannedTotals(view)
}

/** Totals of everything, a slice a turn of the event loop. @param between called at each turn with the records so far; what it throws ends the walk */
export async function readTotals(view: EngineSnapshot, between: (seen: number) => void): Promise<ScanTotals> {
  const walk = totalsOf(view)
  for (;;) {
    const totals = walk.step()
    if (totals) return totals
    await setImmediate()
    between(walk.seen)
  }
}

function scannedTotals(snapshot: ReadView): Totals {
  let count = 0
  let dataBytes = 0
  let digest = 0n
  let expiring = 0
  const walk = slicedWalk(snapshot, record => {
    count++
    dataBytes += record.data.length
    if (record.expiresAt !== 0n) expiring++
    digest += digestOfRecord(record)
    return count % TOTALS_SLICE === 0
  })
  return {
    get seen() {
      return count
    },
    step() {
      const done = walk()
      digest = reduceDigest(digest)
      return done
        ? { count: BigInt(count), dataBytes: BigInt(dataBytes), digest, expiring: BigInt(expiring) }
        : undefined
    },
  }
}

/** A packed record is its canonical encoding but for the length in the place of the expiry. Undefined when there are too many expiries to hold. */
function packedTotals(snapshot: EngineSnapshot): Totals | undefined {
  const expiries = new Map<bigint, bigint>()
  const most = Number(SORTED_EXPIRIES)
  snapshot.scanExpiries(LAST_KEY, most + 1, ({ key, expiresAt }) => {
    expiries.set(key, expiresAt)
  })
  if (expiries.size > most) return undefined
  let target = Buffer.allocUnsafeSlow(PACK_CHUNK)
  let next: bigint | undefined = 0n
  let count = 0
  let dataBytes = 0
  let digest = 0n
  let expiring = 0
  return {
    get seen() {
      return count
    },
    step() {
      const { bytes, needed, next: rest } = snapshot.pack({ start: next ?? 0n, end: LAST_KEY }, undefined, target)
      if (bytes === 0 && rest !== undefined && needed > target.length) target = Buffer.allocUnsafeSlow(needed)
      for (let at = 0; at < bytes; ) {
        const length = target.readUInt32LE(at + CANONICAL_HEADER - 8)
        const end = at + CANONICAL_HEADER + length
        const expiresAt = expiries.size > 0 ? expiries.get(target.readBigUInt64LE(at)) : undefined
        target.writeBigUInt64LE(expiresAt ?? 0n, at + CANONICAL_HEADER - 8)
        if (expiresAt) expiring++
        digest += digestOfCanonical(target.subarray(at, end))
        count++
        dataBytes += length
        at = end
      }
      digest = reduceDigest(digest)
      next = rest
      if (rest === undefined)
        return { count: BigInt(count), dataBytes: BigInt(dataBytes), digest, expiring: BigInt(expiring) }
      return undefined
    },
  }
}

/** Exact, and at once where it is everything. */
export function countStored(snapshot: EngineSnapshot, state: DatabaseState, range: KeyRange): number {
  return range.start === 0n && range.end === LAST_KEY ? Number(state.count) : snapshot.count(range)
}

/** Exact: what is stored in the range, less what of it has expired by `now`. */
export function countVisible(snapshot: EngineSnapshot, state: DatabaseState, range: KeyRange, now: bigint): number {
  let expired = 0
  if (state.expiring > 0n)
    snapshot.scanExpiries(now, Number.MAX_SAFE_INTEGER, ({ key }) => {
      if (key >= range.start && key <= range.end) expired++
    })
  return countStored(snapshot, state, range) - expired
}

/** Smallest and largest stored key. Of visible ones a mass of expired records at either end would be walked over each time. */
export function storedBounds(snapshot: EngineSnapshot): { minKey?: bigint; maxKey?: bigint } {
  const first = (descending: boolean) => {
    let found: bigint | undefined
    snapshot.scan(EVERY_KEY, descending, record => {
      found = record.key
      return false
    })
    return found
  }
  const minKey = first(false)
  const maxKey = minKey === undefined ? undefined : first(true)
  return { ...(minKey !== undefined && { minKey }), ...(maxKey !== undefined && { maxKey }) }
}

function join(parts: ReadonlyArray<Uint8Array<ArrayBuffer>>): Uint8Array<ArrayBuffer> {
  const filled = parts.filter(part => part.length > 0)
  if (filled.length === 1) return filled[0] as Uint8Array<ArrayBuffer>
  const joined = new Uint8Array(filled.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of filled) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}
