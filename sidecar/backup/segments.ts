import type { Clock } from '../../src/common/clock.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import type { EpochRecord } from '../database/database.ts'
import { changeFileHeader, FrameSplitter, readFrameHeader } from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import { unseal } from './canonical.ts'
import type { Segment } from './catalog.ts'
import { readSegment } from './change-file.ts'
import {
  changesPath,
  epochPrefix,
  epochsName,
  type Home,
  parseEpochsName,
  parseSegmentName,
  segmentName,
} from './layout.ts'
import { checkEpochsDocument, encodeEpochsDocument, epochsOf, LARGEST_MANIFEST } from './manifest.ts'
import { readAll } from './store/body.ts'
import { backoffDelay } from './store/retry.ts'
import { listObjects } from './store/store.ts'
import { type FileContext, sealed } from './stored-file.ts'

export interface ShipperOptions extends FileContext {
  readonly home: Home
  readonly clock: Clock
  /** Longest age of a commit before its segment is closed, ms; default 1000. */
  readonly intervalMs?: number
  /** Bytes of frames that close a segment; default 1 MiB. A larger commit makes a larger segment. */
  readonly maxBytes?: number
  /** 0 … 1, for the jitter of retries; default Math.random */
  readonly random?: () => number
  /** Called when everything up to the position is in the store: move the log's consumer there. */
  readonly onShipped?: (position: Position) => void | Promise<void>
}

export interface ShipperStatus {
  /** Everything up to here is in the store. */
  readonly shipped: Position
  /** Commit time of the oldest commit that was taken from the log and is not in the store, Unix ms; now minus this is the RPO. */
  readonly oldestWaiting?: number
  /** Bytes taken from the log and not stored; the rest of a backlog waits in the log. */
  readonly waitingBytes: number
  /** Since when the store has not taken anything, and why. */
  readonly failing?: { readonly since: number; readonly error: KvidxError }
  readonly segments: number
  readonly bytes: number
}

const LONGEST_PAUSE = 6

interface Batch {
  readonly epoch: bigint
  readonly first: bigint
  last: bigint
  readonly frames: Buffer[]
  bytes: number
  readonly oldest: number
}

/**
 * Ships commits as they become durable. What the store does not take waits in the change log: only one segment is held in memory, and nothing
 * is left out, whatever happens.
 */
export class SegmentShipper {
  readonly #options: ShipperOptions
  #shipped: Position
  #batch: Batch | undefined
  #failing: ShipperStatus['failing']
  #segments = 0
  #bytes = 0
  #epochsWritten = new Set<bigint>()

  /** @param from everything up to here is in the store already */
  constructor(options: ShipperOptions, from: Position) {
    this.#options = options
    this.#shipped = from
  }

  get status(): ShipperStatus {
    const batch = this.#batch
    return {
      shipped: this.#shipped,
      ...(batch && { oldestWaiting: batch.oldest }),
      waitingBytes: batch?.bytes ?? 0,
      ...(this.#failing && { failing: this.#failing }),
      segments: this.#segments,
      bytes: this.#bytes,
    }
  }

  /**
   * Ships until the frames end (then ships the rest) or the signal is aborted. Errors: history_conflict (the store holds another history: ship nothing more
   * until a person has looked), backup_gap, cancelled. A store that does not answer is not an error here: it is tried again for ever, and told in `status`.
   * @param frames encoded commits behind `from`, durable ones only @param epochs the history, with the epoch of every frame
   */
  async run(
    frames: AsyncIterable<Uint8Array>,
    epochs: () => readonly EpochRecord[],
    signal: AbortSignal,
  ): Promise<void> {
    const iterator = frames[Symbol.asyncIterator]()
    const splitter = new FrameSplitter()
    let pending: Promise<IteratorResult<Uint8Array>> | undefined
    try {
      for (;;) {
        pending ??= iterator.next()
        const arrived = await this.#nextOrDue(pending, signal)
        if (arrived === 'due') {
          await this.#ship(epochs(), signal)
          continue
        }
        pending = undefined
        if (arrived.done) break
        for (const frame of splitter.push(arrived.value)) await this.#add(frame, epochs, signal)
      }
      splitter.end()
      await this.#ship(epochs(), signal)
    } finally {
      pending?.catch(() => undefined)
      // a source that waits for the next commit returns only when its own signal ends it
      void iterator.return?.()?.catch?.(() => undefined)
    }
  }

  /** The next piece, or 'due' when the batch has waited long enough. */
  async #nextOrDue(
    pending: Promise<IteratorResult<Uint8Array>>,
    signal: AbortSignal,
  ): Promise<IteratorResult<Uint8Array> | 'due'> {
    if (signal.aborted) throw new KvidxError('cancelled', 'shipping was cancelled')
    const waits: Promise<IteratorResult<Uint8Array> | 'due'>[] = [pending]
    const stop = new AbortController()
    const cancel = () => stop.abort()
    signal.addEventListener('abort', cancel, { once: true })
    const { clock, intervalMs = 1000 } = this.#options
    // without a batch there is nothing to be late with; the wait only listens to the signal
    const left = this.#batch
      ? Math.max(0, intervalMs - (clock.monotonic() - this.#batchBegan))
      : Number.POSITIVE_INFINITY
    waits.push(
      clock.sleep(left, stop.signal).then(
        () => 'due' as const,
        () => {
          if (signal.aborted) throw new KvidxError('cancelled', 'shipping was cancelled')
          return 'due' as const
        },
      ),
    )
    try {
      return await Promise.race(waits)
    } finally {
      signal.removeEventListener('abort', cancel)
      stop.abort()
    }
  }

  #batchBegan = 0

  async #add(frame: Buffer, epochs: () => readonly EpochRecord[], signal: AbortSignal): Promise<void> {
    const header = readFrameHeader(frame)
    const reached = this.#batch?.last ?? this.#shipped.seq
    if (header.lastSeq <= reached) return
    if (header.firstSeq !== reached + 1n)
      throw new KvidxError(
        'backup_gap',
        `the log continues seq ${reached} with ${header.firstSeq}: changes between are missing`,
        {
          first: String(reached + 1n),
          last: String(header.firstSeq - 1n),
        },
      )
    if (this.#batch && this.#batch.epoch !== header.epoch) await this.#ship(epochs(), signal)
    if (!this.#batch) {
      this.#batchBegan = this.#options.clock.monotonic()
      this.#batch = {
        epoch: header.epoch,
        first: header.firstSeq,
        last: header.lastSeq,
        frames: [],
        bytes: 0,
        oldest: Number(header.time),
      }
    }
    this.#batch.frames.push(frame)
    this.#batch.bytes += frame.length
    this.#batch.last = header.lastSeq
    if (this.#batch.bytes >= (this.#options.maxBytes ?? 1024 * 1024)) await this.#ship(epochs(), signal)
  }

  async #ship(epochs: readonly EpochRecord[], signal: AbortSignal): Promise<void> {
    const batch = this.#batch
    if (!batch) return
    const { clock, random = Math.random } = this.#options
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#store(batch, epochs, signal)
        break
      } catch (thrown) {
        const error = asKvidxError(thrown)
        if (!['store_unreachable', 'store_denied', 'insufficient_space'].includes(error.code)) throw error
        this.#failing = { since: this.#failing?.since ?? clock.now(), error }
        await clock
          .sleep(1000 + backoffDelay(Math.min(attempt + 3, LONGEST_PAUSE), random), signal)
          .catch(() => undefined)
        if (signal.aborted) throw new KvidxError('cancelled', 'shipping was cancelled', {}, error)
      }
    }
    this.#failing = undefined
    this.#batch = undefined
    this.#shipped = { epoch: batch.epoch, seq: batch.last }
    this.#segments++
    this.#bytes += batch.bytes
    await this.#options.onShipped?.(this.#shipped)
  }

  async #store(batch: Batch, epochs: readonly EpochRecord[], signal: AbortSignal): Promise<void> {
    const context = { ...this.#options, signal }
    if (!this.#epochsWritten.has(batch.epoch)) {
      await writeEpochs(context, this.#options.home, batch.epoch, epochs)
      this.#epochsWritten.add(batch.epoch)
    }
    await writeSegment(context, this.#options.home, batch, batch.frames)
  }
}

/**
 * Stores commits as one segment, create-only. The same commits under the same name are no error: an answer may have been lost, or the process died
 * before it noted its position. Errors: history_conflict for other content.
 */
export async function writeSegment(
  context: FileContext,
  home: Home,
  range: { readonly epoch: bigint; readonly first: bigint; readonly last: bigint },
  frames: readonly Buffer[],
): Promise<void> {
  const encrypted = context.keys.current !== undefined
  const key = changesPath(home) + segmentName(range, encrypted)
  const plain = Buffer.concat([changeFileHeader('commits'), ...frames])
  const body = await readAll(sealed(once(plain), context.keys, context.level), 2 * plain.length + 1024 * 1024, key)
  if (context.bandwidth) await context.bandwidth.take(body.length, context.signal)
  if ((await context.store.putIfAbsent(key, body, context.signal)) === 'created') return
  const segment: Segment = { ...range, key, size: 0, modified: 0, encrypted }
  let at = 0
  for await (const found of readSegment(context, segment)) {
    for (const { frame, header } of found) {
      const mine = frames[at++]
      if (!mine?.equals(frame))
        throw new KvidxError(
          'history_conflict',
          `${key} is in the store with another commit at ${formatPosition({ epoch: header.epoch, seq: header.firstSeq })} than this database has`,
          { key, position: formatPosition({ epoch: header.epoch, seq: header.firstSeq }) },
        )
    }
  }
}

/** Stores the history of an epoch before its first segment. Errors: history_conflict when the store knows the epoch otherwise. */
export async function writeEpochs(
  context: FileContext,
  home: Home,
  epoch: bigint,
  epochs: readonly EpochRecord[],
): Promise<void> {
  const key = changesPath(home) + epochsName(epoch)
  const mine = epochs.find(record => record.epoch === epoch)
  if (!mine) throw new KvidxError('internal', `epoch ${epoch} is not in the history that came with its commits`)
  if ((await context.store.putIfAbsent(key, encodeEpochsDocument(home.lineage, epochs), context.signal)) === 'created')
    return
  const { chunks } = await context.store.get(key, context.signal && { signal: context.signal })
  const document = checkEpochsDocument(unseal(await readAll(chunks, LARGEST_MANIFEST, key), key), key)
  const theirs = epochsOf(document.epochs).find(record => record.epoch === epoch)
  if (document.lineage !== home.lineage || theirs?.parentEpoch !== mine.parentEpoch || theirs?.forkSeq !== mine.forkSeq)
    throw new KvidxError(
      'history_conflict',
      `${key} says that epoch ${epoch} forked at seq ${theirs?.forkSeq}, here it forked at ${mine.forkSeq}`,
      {
        key,
        epoch: String(epoch),
      },
    )
}

/** Last seq that the store has of an epoch; undefined when it has no segment of it. A volume behind this must begin a new epoch. */
export async function lastShipped(context: FileContext, home: Home, epoch: bigint): Promise<bigint | undefined> {
  const prefix = changesPath(home)
  const start = `${prefix}${epochPrefix(epoch)}`
  let last: bigint | undefined
  for await (const { key } of listObjects(context.store, start, context.signal)) {
    const range = parseSegmentName(key.slice(prefix.length))
    if (range?.epoch === epoch && (last === undefined || range.last > last)) last = range.last
  }
  return last
}

/** The newest epoch above `epoch` of which the store has a segment or the history. */
export async function newestEpochAbove(context: FileContext, home: Home, epoch: bigint): Promise<bigint | undefined> {
  const prefix = changesPath(home)
  let newest: bigint | undefined
  for (let above = epoch; ; above = newest) {
    // behind everything that the epoch's names begin with
    const after = `${prefix}${epochPrefix(above)}~`
    const { objects } = await context.store.list(prefix, {
      after,
      limit: 1,
      ...(context.signal && { signal: context.signal }),
    })
    const name = objects[0]?.key.slice(prefix.length)
    const found = name === undefined ? undefined : (parseEpochsName(name) ?? parseSegmentName(name)?.epoch)
    if (found === undefined) return newest
    newest = found
  }
}

/**
 * Compares the last commit of the store's segments with the one that this database has at its place. Errors: history_conflict when they differ: the volume was put
 * back to an earlier time and has gone on from there, so the store's changes and its own are two branches of one name.
 * @param frames encoded commits that end with `last`
 */
export async function checkLastCommit(context: FileContext, home: Home, last: Position, frames: Buffer): Promise<void> {
  const mine = frames.length === 0 ? undefined : new FrameSplitter().push(frames).at(-1)
  if (!mine) return
  const prefix = changesPath(home)
  let shortest: Segment | undefined
  for await (const { key } of listObjects(context.store, `${prefix}${epochPrefix(last.epoch)}`, context.signal)) {
    const range = parseSegmentName(key.slice(prefix.length))
    if (range?.epoch !== last.epoch || range.last !== last.seq) continue
    if (!shortest || range.first > shortest.first) shortest = { ...range, key, size: 0, modified: 0 }
  }
  if (!shortest) return
  let theirs: Buffer | undefined
  for await (const found of readSegment(context, shortest)) theirs = found.at(-1)?.frame ?? theirs
  if (theirs && !theirs.equals(mine))
    throw new KvidxError(
      'history_conflict',
      `${shortest.key} ends with another commit at ${formatPosition(last)} than this database has: its volume was put back to an earlier time`,
      { key: shortest.key, position: formatPosition(last) },
    )
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}
