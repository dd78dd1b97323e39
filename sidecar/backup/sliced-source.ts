import { mkdir, rm } from 'node:fs/promises'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { changesOf, FrameSplitter, readFrameHeader } from '../database/frame.ts'
import type { Position } from '../database/operation.ts'
import { packedStream, packStretch } from '../database/packed-stream.ts'
import { formatPosition } from '../database/position.ts'
import type { ScanTotals } from '../database/reader-protocol.ts'
import { expirySlices, readTotals, storedBounds } from '../database/record-stream.ts'
import {
  type EngineSnapshot,
  type EngineWriter,
  EVERY_KEY,
  type KeyRange,
  type StoredRecord,
  type WriteTransaction,
} from '../engine/engine.ts'
import { openReader, openWriter } from '../engine/open.ts'
import type { SnapshotSource, SourceDescription } from './snapshot-source.ts'
import { throwIfAborted } from './store/body.ts'

/** The first records of a range, of one moment. */
export interface KeySlice {
  readonly position: Position
  /** In key order. None: the range has no more. */
  readonly records: readonly StoredRecord[]
}

/** A database that lets nobody hold a snapshot for long. */
export interface SlicedDatabase extends SourceDescription {
  /** Recorded before anything was read. */
  readonly state: DatabaseState
  /** Of all that was stored at some moment behind `state`, and before the first slice. */
  readonly maxKey: bigint | undefined
  /** One record at least, if there is one. Errors: snapshot_cut when it took the database too long; overloaded. */
  slice(range: KeyRange, bytes: number): Promise<KeySlice>
  /** Encoded frames behind a position, to the newest durable commit of now. Errors: log_trimmed. */
  frames(since: Position): AsyncIterable<Uint8Array>
  /** The change log has to keep what comes behind this position. In the beginning it keeps what comes behind `state`. */
  hold(position: Position): Promise<void>
  /** The change log is no longer needed. */
  letGo(): Promise<void>
}

export interface SliceOptions {
  /** For the scratch engine: made new, and removed at the end. */
  readonly directory: string
  readonly progress: (stage: string, done: number, total?: number) => void
  readonly signal?: AbortSignal | undefined
  readonly sliceBytes?: number
}

/** Read in some milliseconds, and held in memory on either side. */
const SLICE_BYTES = 1024 * 1024
/** In a row, without a record or a commit more. */
const ATTEMPTS = 30
const PAUSE = 250
/** Between two words to the database that the change log is needed from here on. */
const HOLD_INTERVAL = 5000

/**
 * Makes one consistent moment of a database out of key slices of many: see docs/decisions/0015. What `store` makes of it is returned. Errors: log_trimmed when
 * changes come faster than they are replayed; conflict when the database began a new epoch meanwhile; internal when what came out is not what the
 * database recorded; cancelled; those of the engine, of `store`, and snapshot_cut when not even one record could be read.
 */
export async function fromSlices<T>(
  database: SlicedDatabase,
  options: SliceOptions,
  store: (source: SnapshotSource, slices: number) => Promise<T>,
): Promise<T> {
  const { directory, signal } = options
  let writer: EngineWriter | undefined
  const assemble = async () => {
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { mode: 0o700 })
    writer = await openWriter({ kind: database.engine, directory, tuning: { syncMode: 'Off' } })
    const assembly = new Assembly(writer, database, options)
    await assembly.run()
    return { assembly, share: writer.share }
  }
  try {
    const { assembly, share } = await assemble().finally(() => database.letGo().catch(() => undefined))
    const reader = await openReader(share)
    try {
      const snapshot = reader.snapshot()
      try {
        const { expiring } = compare(await readTotals(snapshot, () => throwIfAborted(signal)), assembly.state)
        const state = { ...assembly.state, expiring }
        return await store(sourceOf(database, snapshot, state), assembly.slices)
      } finally {
        snapshot.release()
      }
    } finally {
      reader.close()
    }
  } finally {
    writer?.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/**
 * Keys are read upwards, slice by slice, and after each slice what was committed meanwhile is replayed on what is here. A commit may be older than the slice that
 * has its records: the record is then put back for a while, and the commits up to the slice's position, all of which are replayed, bring it forward again. So the
 * scratch engine holds the database's moment `state` as soon as that is not before the last slice, and the change log has to reach back one slice only.
 */
class Assembly {
  state: DatabaseState
  slices = 0
  readonly #writer: EngineWriter
  readonly #database: SlicedDatabase
  readonly #options: SliceOptions
  /** Keys from here to the last have not been read. What is behind the last was not there in the beginning: every record of it comes by the change log. */
  #next = 0n
  readonly #last: bigint
  readonly #most: number
  #bytes: number
  #records = 0
  #held = performance.now()

  constructor(writer: EngineWriter, database: SlicedDatabase, options: SliceOptions) {
    this.#writer = writer
    this.#database = database
    this.#options = options
    this.state = database.state
    this.#last = database.maxKey ?? 0n
    this.#most = options.sliceBytes ?? SLICE_BYTES
    this.#bytes = this.#most
  }

  async run(): Promise<void> {
    const total = Number(this.#database.state.count)
    for (;;) {
      const { records, position } = await this.#slice()
      this.#writer.transact(transaction => {
        for (const record of records)
          if (!transaction.insert(record))
            throw new KvidxError('internal', `a key slice has key ${record.key}, which an earlier one had`)
      })
      this.slices++
      this.#records += records.length
      this.#options.progress('reading key slices', this.#records, Math.max(total, this.#records))
      const key = records.at(-1)?.key ?? this.#last
      this.#next = key + 1n
      await this.#replay()
      if (key < this.#last) continue
      // a reader may see a commit a moment before the feed has it
      for (let attempt = 0; this.state.position.seq < position.seq; attempt++) {
        if (attempt === ATTEMPTS)
          throw new KvidxError('internal', `the change feed does not reach ${formatPosition(position)}, which was read`)
        await setTimeout(PAUSE)
        await this.#replay()
      }
      return
    }
  }

  /** Smaller ones are tried where one is cut. */
  async #slice(): Promise<KeySlice> {
    const range = { start: this.#next, end: this.#last }
    for (let attempt = 1; ; attempt++) {
      throwIfAborted(this.#options.signal)
      try {
        const slice = await this.#database.slice(range, this.#bytes)
        this.#checkEpoch(slice.position.epoch)
        if (slice.position.seq < this.state.position.seq)
          throw new KvidxError(
            'internal',
            `a key slice of ${formatPosition(slice.position)} came behind the commit ${formatPosition(this.state.position)}`,
          )
        this.#bytes = Math.min(this.#most, this.#bytes * 2)
        return slice
      } catch (thrown) {
        const code = thrown instanceof KvidxError && thrown.code
        if ((code !== 'snapshot_cut' && code !== 'overloaded') || attempt === ATTEMPTS) throw thrown
        if (code === 'snapshot_cut') this.#bytes = Math.max(1, this.#bytes >> 1)
        else await setTimeout(PAUSE)
      }
    }
  }

  /** To the newest commit of now, however many come meanwhile. */
  async #replay(): Promise<void> {
    const { signal, progress } = this.#options
    const splitter = new FrameSplitter()
    for await (const chunk of this.#database.frames(this.state.position)) {
      throwIfAborted(signal)
      const frames = splitter.push(chunk)
      if (frames.length === 0) continue
      this.#writer.transact(transaction => {
        for (const frame of frames) this.#play(transaction, frame)
      })
      progress('replaying changes', Number(this.state.position.seq - this.#database.state.position.seq))
    }
    splitter.end()
    if (performance.now() - this.#held < HOLD_INTERVAL) return
    await this.#database.hold(this.state.position)
    this.#held = performance.now()
  }

  #play(transaction: WriteTransaction, frame: Buffer): void {
    const { epoch, firstSeq, lastSeq, time, after } = readFrameHeader(frame)
    this.#checkEpoch(epoch)
    if (firstSeq !== this.state.position.seq + 1n)
      throw new KvidxError(
        'backup_gap',
        `the change feed goes on with seq ${firstSeq} behind ${formatPosition(this.state.position)}`,
      )
    for (const change of changesOf(frame)) {
      if (change.kind === 'removeRange') {
        transaction.removeRange(change.range)
        continue
      }
      const key = change.kind === 'put' ? change.record.key : change.key
      // its slice will have what came of it
      if (key >= this.#next && key <= this.#last) continue
      if (change.kind === 'put' && transaction.insert(change.record)) continue
      const found = transaction.get(key)
      // a later commit, which its slice had already, has removed it
      if (!found) continue
      const old = { ...found, data: Buffer.from(found.data) }
      if (change.kind === 'remove') transaction.remove(old)
      else transaction.replace(old, change.kind === 'put' ? change.record : { ...old, expiresAt: change.expiresAt })
    }
    const position = { epoch, seq: lastSeq }
    this.state = { ...this.state, position, time, ...after, logBase: position, logBytes: 0n }
  }

  #checkEpoch(epoch: bigint): void {
    const begun = this.#database.state.position.epoch
    if (epoch !== begun)
      throw new KvidxError(
        'conflict',
        `the database began epoch ${epoch} while a backup of epoch ${begun} was read in key slices; make it again`,
      )
  }
}

/** Errors: internal when the slices make something else than the database recorded. */
function compare(found: ScanTotals, recorded: DatabaseState): ScanTotals {
  const text = ({ count, dataBytes, digest }: Pick<ScanTotals, 'count' | 'dataBytes' | 'digest'>) =>
    `${count} records with ${dataBytes} bytes and digest ${formatDigest(digest)}`
  if (text(found) !== text(recorded))
    throw new KvidxError(
      'internal',
      `key slices and changes make ${text(found)}; at ${formatPosition(recorded.position)} the database recorded ${text(recorded)}`,
    )
  return found
}

function sourceOf(database: SlicedDatabase, snapshot: EngineSnapshot, state: DatabaseState): SnapshotSource {
  const { lineage, epochs, engine, engineVersion } = database
  // at once, so that none is under way when the snapshot is released
  const lane = async (range: KeyRange, buffer?: ArrayBuffer) => packStretch(snapshot, range, undefined, buffer)
  return {
    ...{ lineage, epochs, engine, engineVersion, state },
    ...storedBounds(snapshot),
    records: () => packedStream([lane], EVERY_KEY, Number(state.count)),
    expiries: () => expiriesOf(snapshot, state),
    release: () => {},
  }
}

async function* expiriesOf(snapshot: EngineSnapshot, state: DatabaseState): AsyncGenerator<Uint8Array> {
  const next = expirySlices(snapshot, state)
  for (let end = false; !end; ) {
    const slice = next()
    end = slice.end
    if (slice.chunk.length > 0) yield slice.chunk
    await setImmediate()
  }
}
