import { KvidxError } from '../../src/common/errors.ts'
import type { EngineSnapshot, KeyRange } from '../engine/engine.ts'
import { binaryHeader, checkBinaryCount } from '../format/binary-writer.ts'
import type { ScanOptions } from './database.ts'

/**
 * A BINARY export read by several threads at once. They hold the same moment; the range is cut into stretches of about one chunk each, which the
 * threads pack by turns and this side puts in order. How many keys make a chunk is learned on the way: keys may lie densely or far apart.
 */

/** One packed stretch. */
export interface PackedChunk {
  readonly chunk: Uint8Array<ArrayBuffer>
  readonly records: number
  /** Where to go on when the stretch did not fit. */
  readonly next?: bigint
}

/** A thread with the snapshot. `buffer`: memory that nobody reads any more, to be used again. */
export type PackLane = (range: KeyRange, buffer: ArrayBuffer | undefined) => Promise<PackedChunk>

/** Bytes that a stretch aims at. */
export const PACK_CHUNK = 512 * 1024
const FIRST_WIDTH = 2000n
/** Stretches under way, or done and waiting for their turn: two a thread. */
const AHEAD = 2

interface Stretch {
  readonly start: bigint
  readonly end: bigint
  readonly result?: Promise<PackedChunk>
}

/** Whole records in key order: what the engines can pack, and reads so much that every thread shall take part. */
export function isPacked({ format, descending, limit }: ScanOptions): boolean {
  return format === 'binary' && !descending && limit === undefined
}

/** What a lane does. */
export function packStretch(
  snapshot: EngineSnapshot,
  range: KeyRange,
  visibleAt: bigint | undefined,
  buffer: ArrayBuffer = new ArrayBuffer(PACK_CHUNK),
): PackedChunk {
  let target = new Uint8Array(buffer)
  let packed = snapshot.pack(range, visibleAt, target)
  if (packed.bytes === 0 && packed.needed > target.length) {
    // a record larger than a chunk has one of its own
    target = new Uint8Array(packed.needed)
    packed = snapshot.pack(range, visibleAt, target)
  }
  return {
    chunk: target.subarray(0, packed.bytes),
    records: packed.records,
    ...(packed.next !== undefined && { next: packed.next }),
  }
}

export async function* packedStream(
  lanes: readonly PackLane[],
  range: KeyRange,
  count: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  yield binaryHeader(count)
  const spare: ArrayBuffer[] = []
  const busy = lanes.map(() => 0)
  let width = FIRST_WIDTH
  let stretches: Stretch[] = range.start > range.end ? [] : [{ ...range }]
  let written = 0

  const start = ({ start, end }: Stretch): Stretch => {
    const lane = busy.indexOf(Math.min(...busy))
    busy[lane] = (busy[lane] as number) + 1
    const result = (lanes[lane] as PackLane)({ start, end }, spare.pop()).finally(() => {
      busy[lane] = (busy[lane] as number) - 1
    })
    // a failure is met when its turn comes; until then it must not count as unhandled
    result.catch(() => undefined)
    return { start, end, result }
  }
  /** Starts the first stretches, each cut to the present width. */
  const fill = () => {
    let started = stretches.filter(stretch => stretch.result).length
    for (let i = 0; i < stretches.length && (started < lanes.length * AHEAD || i < lanes.length); i++) {
      const stretch = stretches[i] as Stretch
      if (stretch.result) continue
      const end = stretch.end - stretch.start < width ? stretch.end : stretch.start + width - 1n
      const rest = end < stretch.end ? [{ start: end + 1n, end: stretch.end }] : []
      stretches.splice(i, 1, start({ start: stretch.start, end }), ...rest)
      started++
    }
  }

  for (;;) {
    fill()
    const [first, ...others] = stretches
    if (!first?.result) break
    if (signal?.aborted) throw new KvidxError('cancelled', 'the stream was cancelled')
    const { chunk, records, next } = await first.result
    if (signal?.aborted) throw new KvidxError('cancelled', 'the stream was cancelled')
    stretches = next === undefined ? others : [{ start: next, end: first.end }, ...others]
    width = nextWidth(width, first, chunk.length, next)
    written += records
    if (chunk.length > 0) {
      lent.set(chunk.buffer, spare)
      yield chunk
    } else if (chunk.buffer.byteLength > 0) spare.push(chunk.buffer)
  }
  checkBinaryCount(count, written)
}

/** Keys that should make three quarters of a chunk, as far as the last stretch can tell. */
function nextWidth(width: bigint, { start, end }: KeyRange, bytes: number, next: bigint | undefined): bigint {
  const walked = (next ?? end + 1n) - start
  // learned already from a stretch that began later
  if (next === undefined && end + 1n - start < width / 2n) return width
  const factor = Math.min(64, (PACK_CHUNK * 0.75) / Math.max(1, bytes))
  const wanted = (walked * BigInt(Math.max(1, Math.round(factor * 1024)))) / 1024n
  return wanted < 1n ? 1n : wanted
}

/** Where the memory of chunks that were handed out goes back to. */
const lent = new WeakMap<ArrayBufferLike, ArrayBuffer[]>()

/**
 * Says that nobody reads a chunk any more. Without it the chunk is garbage, which is collected late, because it does not lie in the heap: a stream at
 * full speed then holds hundreds of MiB.
 */
export function giveBack(chunk: Uint8Array): void {
  const { buffer } = chunk
  const home = lent.get(buffer)
  if (!home) return
  lent.delete(buffer)
  home.push(buffer as ArrayBuffer)
}
