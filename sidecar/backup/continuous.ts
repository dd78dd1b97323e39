import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { asKvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import type { Position } from '../database/operation.ts'
import { ancestry, formatPosition, isAncestor, parsePosition } from '../database/position.ts'
import { readLineage } from './catalog.ts'
import { resolveChain } from './chain.ts'
import { compactSegments, DEFAULT_COMPACTION, planCompaction } from './compaction.ts'
import type { Home } from './layout.ts'
import { beganUnseen } from './line.ts'
import { checkLastCommit, lastShipped, newestEpochAbove, SegmentShipper, writeEpochs } from './segments.ts'
import { openStore, type StoreSettings } from './store/settings.ts'
import type { FileContext } from './stored-file.ts'
import { UnshippedAge } from './unshipped-age.ts'

export interface ContinuousOptions {
  readonly settings: StoreSettings
  /** ms */
  readonly interval: number
  readonly segmentBytes: number
  readonly clock: Clock
  readonly log: Logger
}

/** Member `continuous` of `/status`; the operator makes conditions of it. */
export interface ContinuousStatus {
  readonly state: 'Starting' | 'Shipping' | 'Failing' | 'HistoryConflict' | 'Paused' | 'Stopped'
  /** Everything up to here is in the store. */
  readonly shipped?: string
  /** Changes that are acknowledged and not in the store. */
  readonly backlogChanges: number
  /** Age of the oldest of them, ms: what a lost volume would cost now. */
  readonly rpoMs: number
  readonly segments: number
  readonly bytes: number
  readonly failing?: { readonly since: number; readonly code: string; readonly message: string }
  /** Changes that never came to the store: no moment between can be restored. The newest last, at most 16. */
  readonly gaps: ReadonlyArray<{ readonly after: string; readonly before: string; readonly time: number }>
  /** Why a Full is due. */
  readonly needsFull?: string
}

const CONSUMER = 'continuous'
/** The consumer's position is a write of its own; so often at most. ms */
const CONSUMER_INTERVAL = 10_000
const RETRY = 2000
const FLUSH_LIMIT = 10_000
/** Segments after which the store is looked at for some to merge. */
const COMPACT_AFTER = 64

/** Ships every durable commit to the store, for as long as the process runs. Its own failures never touch the database. */
export class ContinuousBackup {
  readonly #database: LocalDatabase
  readonly #options: ContinuousOptions
  readonly #age: UnshippedAge
  #state: ContinuousStatus['state'] = 'Starting'
  #failing: ContinuousStatus['failing']
  #gaps: ContinuousStatus['gaps'][number][] = []
  #needsFull: string | undefined
  #shipper: SegmentShipper | undefined
  /** What the store had when that was last noted on the volume: counts until the store itself was asked. */
  #known: bigint | undefined
  #before = { segments: 0, bytes: 0 }
  #stopping = new AbortController()
  #feed = new AbortController()
  #flushing = false
  #loop: Promise<void> | undefined
  #consumerAt = Number.NEGATIVE_INFINITY
  #compacted = 0
  #unsubscribe: (() => void) | undefined

  constructor(database: LocalDatabase, options: ContinuousOptions) {
    this.#database = database
    this.#options = options
    this.#age = new UnshippedAge()
  }

  get status(): ContinuousStatus {
    const shipper = this.#shipper?.status
    const { seq } = this.#database.state.position
    const failing =
      shipper?.failing && this.#state === 'Shipping'
        ? { since: shipper.failing.since, code: shipper.failing.error.code, message: shipper.failing.error.message }
        : this.#failing
    const safe = shipper?.shipped.seq ?? this.#known ?? seq
    const backlog = seq > safe ? Number(seq - safe) : 0
    return {
      state: this.#state === 'Shipping' && failing ? 'Failing' : this.#state,
      ...(shipper && { shipped: formatPosition(shipper.shipped) }),
      backlogChanges: backlog,
      rpoMs: this.#age.of(safe, seq, this.#options.clock.now()),
      segments: this.#before.segments + (shipper?.segments ?? 0),
      bytes: this.#before.bytes + (shipper?.bytes ?? 0),
      ...(failing && { failing }),
      gaps: this.#gaps,
      ...(this.#needsFull !== undefined && { needsFull: this.#needsFull }),
    }
  }

  /**
   * Before anything is written: a volume that is behind the store's last segment of its epoch lost commits, so it begins a new epoch. Waits for the store at
   * most `ms`; one that does not answer is looked at again later. Never rejects.
   */
  async settle(ms: number): Promise<void> {
    const signal = AbortSignal.timeout(ms)
    try {
      const context = { ...(await openStore(this.#options.settings, this.#options.clock)), signal }
      try {
        await this.#settleEpoch(context)
      } finally {
        await context.store.close()
      }
    } catch (thrown) {
      this.#options.log.warn({ err: thrown }, 'the backup store could not be looked at before the start')
    }
  }

  start(): void {
    if (this.#loop) return
    this.#stopping = new AbortController()
    const { position, time } = this.#database.state
    // older ones may be among what is not in the store; how old is not known before it was asked
    this.#age.note(position.seq, Number(time))
    this.#unsubscribe = this.#database.subscribe((state: DatabaseState) =>
      this.#age.note(state.position.seq, this.#options.clock.now()),
    )
    this.#loop = this.#run(this.#stopping.signal)
  }

  /** The database's files are about to be replaced. */
  pause(): void {
    this.#stopping.abort()
    this.#unsubscribe?.()
    this.#state = 'Paused'
  }

  /** Other files have their place: another epoch, another log. */
  async resume(): Promise<void> {
    await this.#loop?.catch(() => {})
    this.#loop = undefined
    this.#age.clear()
    this.#known = undefined
    this.start()
  }

  /** Ships what is acknowledged by now. False: the store did not take all of it in time; it stays in the log. @param ms 1 … 10,000 */
  async flush(ms = FLUSH_LIMIT): Promise<boolean> {
    const { clock } = this.#options
    const { seq } = this.#database.state.position
    const until = clock.monotonic() + ms
    const done = () => (this.#shipper?.status.shipped.seq ?? -1n) >= seq
    if (done()) return true
    this.#flushing = true
    this.#feed.abort()
    while (!done() && clock.monotonic() < until && this.#loop && this.#state !== 'HistoryConflict')
      await clock.sleep(10)
    this.#flushing = false
    return done()
  }

  /** Ships the rest, at most 10 s, and ends. What is left stays on the volume. */
  async stop(): Promise<void> {
    if (!this.#loop) return
    if (!(await this.flush().catch(() => false)))
      this.#options.log.warn({ ...this.status }, 'stopped before everything was in the backup store')
    const shipped = this.#shipper?.status.shipped
    this.#stopping.abort()
    this.#feed.abort()
    this.#unsubscribe?.()
    await this.#loop
    this.#state = 'Stopped'
    if (shipped) await this.#database.registerConsumer(CONSUMER, shipped).catch(() => {})
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { settings, clock, log, interval, segmentBytes } = this.#options
    let context: FileContext | undefined
    this.#state = 'Starting'
    while (!signal.aborted) {
      try {
        this.#known ??= await this.#lastNoted()
        context ??= { ...(await openStore(settings, clock)), signal }
        await this.#settleEpoch(context)
        const home = this.#home
        const from = await this.#findStart(context, home)
        // a store that knows of the epoch does not take the end of the one before for the newest state
        const { position } = this.#database.state
        await writeEpochs(context, home, position.epoch, this.#database.epochs)
        await this.#noteMissing(context, home)
        await this.#register(from, true)
        const shipper = new SegmentShipper(
          {
            ...context,
            home,
            clock,
            intervalMs: interval,
            maxBytes: segmentBytes,
            onShipped: position => this.#register(position, false),
          },
          from,
        )
        const before = this.#shipper?.status
        this.#before = {
          segments: this.#before.segments + (before?.segments ?? 0),
          bytes: this.#before.bytes + (before?.bytes ?? 0),
        }
        this.#shipper = shipper
        if (this.#state !== 'Shipping') log.info({ from: formatPosition(from) }, 'continuous backup ships changes')
        this.#state = 'Shipping'
        this.#failing = undefined
        this.#feed = new AbortController()
        const compacting = this.#compactNowAndThen(context, home, shipper, this.#feed.signal)
        try {
          await shipper.run(this.#frames(from, shipper, signal), () => this.#database.epochs, signal)
        } finally {
          this.#feed.abort()
          await compacting
        }
      } catch (thrown) {
        if (signal.aborted) break
        const error = asKvidxError(thrown)
        this.#failing = { since: this.#failing?.since ?? clock.now(), code: error.code, message: error.message }
        if (error.code === 'history_conflict') {
          this.#state = 'HistoryConflict'
          log.error({ err: error }, 'the backup store holds another history: nothing more is shipped')
          break
        }
        if (this.#state === 'Shipping' || this.#state === 'Starting')
          log.warn({ err: error }, 'continuous backup fails')
        this.#state = 'Failing'
        await clock.sleep(RETRY, signal).catch(() => {})
      }
    }
    await context?.store.close()
  }

  /** Follows the log; a flush ends it after everything that is acknowledged by then. */
  async *#frames(from: Position, shipper: SegmentShipper, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#database.changes(from, true, AbortSignal.any([signal, this.#feed.signal]))
    } catch (thrown) {
      if (signal.aborted || !this.#feed.signal.aborted) throw thrown
    }
    if (this.#flushing) yield* this.#database.changes(shipper.status.shipped, false, signal)
  }

  get #home(): Home {
    const { config, lineage } = this.#database
    return { namespace: config.namespace, database: config.name, lineage }
  }

  async #settleEpoch(context: FileContext): Promise<void> {
    const { position } = this.#database.state
    const last = await lastShipped(context, this.#home, position.epoch)
    const newest = await newestEpochAbove(context, this.#home, position.epoch)
    if (newest === undefined && (last === undefined || last <= position.seq)) return
    await this.#database.beginEpoch('behindStore', newest)
    this.#options.log.error(
      { shipped: String(last), newest: String(newest ?? position.epoch), position: formatPosition(position) },
      'the volume is behind what it shipped to the backup store: commits were lost, a new epoch begins',
    )
  }

  /** Where the store's segments end on this database's ancestry. */
  async #findStart(context: FileContext, home: Home): Promise<Position> {
    const { epochs, state } = this.#database
    const { position, logBase } = state
    const start = (await this.#endOfSegments(context, home)) ?? (await this.#newestBackup(context, home)) ?? position
    if (start.seq >= logBase.seq) return start
    const current = epochs.find(record => record.epoch === position.epoch)
    // a restore begins its log where it ended: that state came from the store
    if (current?.reason === 'restored' && current.forkSeq === logBase.seq) return logBase
    this.#missing(start, logBase)
    return logBase
  }

  /** The store alone tells after a restart that a Full is still due. */
  async #noteMissing(context: FileContext, home: Home): Promise<void> {
    const catalog = await readLineage(context.store, home, context.signal)
    try {
      if (catalog.backups.length > 0) resolveChain(catalog, { kind: 'latest' })
    } catch (thrown) {
      const { code, details } = asKvidxError(thrown)
      if (code !== 'backup_gap') return
      const at = (seq: bigint): Position => {
        const line = ancestry(this.#database.epochs, this.#database.state.position.epoch)
        return { epoch: line.find(record => record.forkSeq <= seq)?.epoch ?? 1n, seq }
      }
      this.#missing(at(BigInt(String(details.first)) - 1n), at(BigInt(String(details.last))))
    }
  }

  #missing(after: Position, before: Position): void {
    const gap = { after: formatPosition(after), before: formatPosition(before), time: this.#options.clock.now() }
    if (this.#gaps.at(-1)?.before === gap.before) return
    this.#gaps = [...this.#gaps, gap].slice(-16)
    const began = this.#database.epochs.find(record => record.epoch === before.epoch)
    this.#needsFull =
      began && beganUnseen(began) && before.seq === began.forkSeq + 1n
        ? `what began epoch ${before.epoch} (${began.reason}) stands in no backup yet`
        : `the change log was cut at ${gap.before} before everything behind ${gap.after} was in the store`
    this.#options.log.error(gap, 'changes are missing in the backup store: a Full is due')
  }

  async #endOfSegments(context: FileContext, home: Home): Promise<Position | undefined> {
    const { epochs, state } = this.#database
    let limit = state.position.seq
    for (const record of ancestry(epochs, state.position.epoch)) {
      const last = await lastShipped(context, home, record.epoch)
      if (last !== undefined && last >= record.forkSeq) {
        const end = { epoch: record.epoch, seq: last < limit ? last : limit }
        if (last <= limit) await checkLastCommit(context, home, end, await this.#commitAt(end.seq))
        return end
      }
      if (record.forkSeq < limit) limit = record.forkSeq
    }
    return undefined
  }

  /** The commit that ends with this seq, as far as the log has it. */
  async #commitAt(seq: bigint): Promise<Buffer> {
    const { logBase } = this.#database.state
    if (seq <= logBase.seq) return Buffer.alloc(0)
    const { readers } = this.#database.session()
    // a call gives whole commits, so it begins with the one that holds this seq
    const { frames } = await readers.call('log', { afterSeq: seq - 1n, untilSeq: seq, maxBytes: 1 })
    return Buffer.from(frames)
  }

  async #newestBackup(context: FileContext, home: Home): Promise<Position | undefined> {
    const { epochs, state } = this.#database
    const catalog = await readLineage(context.store, home, context.signal)
    return catalog.backups
      .map(backup => backup.position)
      .filter(position => isAncestor(epochs, position, state.position))
      .reduce<Position | undefined>((best, at) => (best && best.seq >= at.seq ? best : at), undefined)
  }

  /** Without a note: nothing that the log has. */
  async #lastNoted(): Promise<bigint> {
    const noted = (await this.#database.consumers())[CONSUMER]
    return noted ? parsePosition(noted.position, CONSUMER).seq : this.#database.state.logBase.seq
  }

  async #register(position: Position, now: boolean): Promise<void> {
    const time = this.#options.clock.monotonic()
    this.#age.shipped(position.seq)
    if (!now && time - this.#consumerAt < CONSUMER_INTERVAL) return
    this.#consumerAt = time
    await this.#database.registerConsumer(CONSUMER, position)
  }

  /** Small segments become large ones, so that a restore reads few files. */
  async #compactNowAndThen(
    context: FileContext,
    home: Home,
    shipper: SegmentShipper,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, log } = this.#options
    while (!signal.aborted) {
      await clock.sleep(30_000, signal).catch(() => {})
      const { segments } = shipper.status
      if (signal.aborted || this.#before.segments + segments - this.#compacted < COMPACT_AFTER) continue
      try {
        const catalog = await readLineage(context.store, home, signal)
        const plan = planCompaction(catalog.segments, DEFAULT_COMPACTION, clock.now())
        const result = await compactSegments({ ...context, signal }, home, plan)
        this.#compacted = this.#before.segments + segments
        log.debug({ ...result }, 'segments were merged')
      } catch (thrown) {
        if (!signal.aborted) log.warn({ err: thrown }, 'segments could not be merged; they are tried again')
      }
    }
  }

  /** A Full was made: what was missing before it no longer matters. */
  noteFull(): void {
    this.#needsFull = undefined
  }
}
