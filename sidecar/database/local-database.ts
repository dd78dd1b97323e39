import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import type { EngineFigures, EngineKind, Key, KeyRange } from '../engine/engine.ts'
import { writeCleanExit } from '../volume/clean-exit.ts'
import type { Identity } from '../volume/identity.ts'
import { type VolumeLayout, volumeLayout } from '../volume/layout.ts'
import type { VolumeLock } from '../volume/lock.ts'
import { lastRecovery, type RecoveryNote } from '../volume/recovery-note.ts'
import type { Seed } from '../volume/seed.ts'
import { clearSuspicion, readSuspicion, writeSuspicion } from '../volume/suspicion.ts'
import { removeStaged, swapIn, swapPending } from '../volume/swap.ts'
import { syncTree } from '../volume/sync-tree.ts'
import { followChanges } from './changes.ts'
import { isVisible } from './committer.ts'
import type { DatabaseConfig } from './config.ts'
import type {
  Database,
  DatabaseState,
  EpochRecord,
  Health,
  ImportOptions,
  ImportResult,
  RecordStream,
  ScanOptions,
  TaskName,
  TaskStatus,
} from './database.ts'
import { digestOfRecord } from './digest.ts'
import { rememberEpochs } from './epoch-history.ts'
import { HealthBoard } from './health.ts'
import { importInto } from './import.ts'
import type { Operation, Position, VisibleRecord, WriteRequest, WriteResult } from './operation.ts'
import { isPacked } from './packed-stream.ts'
import { formatPosition } from './position.ts'
import type { ReaderSnapshot } from './readers.ts'
import { damaged, type Repair, type StartReport, start } from './recovery.ts'
import { engineOptions, openSession, type Session } from './session.ts'
import { StagedDatabase } from './staged.ts'
import { EMPTY_STATE, META } from './state.ts'
import type { Consumers, CounterDifference } from './writer-protocol.ts'

export type Lifecycle =
  | 'opening'
  | 'bootstrapping'
  | 'repairing'
  | 'ready'
  | 'swapping'
  | 'failed'
  | 'stopping'
  | 'closed'

/** Runs the long tasks; maintenance gives one. */
export interface TaskRunner {
  run(
    name: TaskName,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>>
  cancel(name: TaskName): boolean
  readonly statuses: readonly TaskStatus[]
}

/** A snapshot for backups: stored records, whatever their expiry, of one position. Release it. */
export type BackupSnapshot = ReaderSnapshot & { readonly epochs: readonly EpochRecord[] }

const FREEZE_LIMIT = 10_000
const RANGE_SLICE = 10_000
const U64_MAX = 0xffff_ffff_ffff_ffffn

/** The database of one volume, in this process. Made at once, so that probes have somebody to ask; usable after `open`. */
export class LocalDatabase implements Database {
  readonly engine: EngineKind
  readonly layout: VolumeLayout
  readonly board = new HealthBoard()
  readonly #clock: Clock
  readonly #log: Logger
  #config: DatabaseConfig
  #lifecycle: Lifecycle = 'opening'
  #failure: KvidxError | undefined
  #session: Session | undefined
  #lock: VolumeLock | undefined
  #identity: Identity | undefined
  #report: StartReport | undefined
  #recovery: RecoveryNote | undefined
  #runner: TaskRunner | undefined
  /** A copy of the same content is being made, to take the place of the files: reads go on. */
  #rewriting = false
  #listeners = new Set<(state: DatabaseState) => void>()
  /** Set while writes that add data are refused: design section 4, NoSpace. */
  noSpace: string | undefined
  /** Called around a swap: other files have the database's place afterwards. */
  onSwap: (moment: 'before' | 'after') => void = () => {}
  readonly #died = Promise.withResolvers<KvidxError>()
  /** Resolves when the writer is gone: only a new process, with its recovery, can go on. */
  readonly died: Promise<KvidxError> = this.#died.promise
  /** Called when the engine found a damaged page in passing. */
  onDamagedRead: () => void = () => {}
  /** Called when the database no longer serves because its files are damaged: `open` carries out what the policy says. */
  onCondemned: (error: KvidxError) => void = () => {}
  /** Called when a commit failed for want of space. */
  onNoSpace: (error: KvidxError) => void = () => {}

  constructor(config: DatabaseConfig, clock: Clock, log: Logger) {
    this.#config = config
    this.engine = config.engine
    this.layout = volumeLayout(config.dataDirectory)
    this.#clock = clock
    this.#log = log
    this.board.onChange = (reason, message) => {
      if (message === undefined) log.info({ reason }, 'no longer degraded by this')
      else log.warn({ reason, cause: message }, 'degraded')
    }
  }

  get config(): DatabaseConfig {
    return this.#config
  }

  /** Takes over what may change while the database is open (bounds of the log), and, before `open`, what the start asks for. */
  configure(config: DatabaseConfig): void {
    this.#config = config
    this.#session?.writer.call('configure', { log: config.changeLog }).catch((error: unknown) => {
      this.#log.warn({ err: error }, 'the bounds of the change log could not be set')
    })
  }

  /**
   * Errors: those of the start; the database then stays `failed` and says why, and may be opened again.
   * @param seed first data of a new volume
   * @param repair what to do with damaged files
   */
  async open(signal: AbortSignal, seed?: Seed, repair?: Repair): Promise<StartReport> {
    const filling: Seed | undefined =
      seed &&
      (async (directory, stop) => {
        this.#lifecycle = 'bootstrapping'
        const origin = await seed(directory, stop)
        this.#lifecycle = 'opening'
        return origin
      })
    const mending: Repair | undefined =
      repair &&
      (async (...given) => {
        this.#lifecycle = 'repairing'
        const note = await repair(...given)
        this.#lifecycle = 'opening'
        return note
      })
    this.#lifecycle = 'opening'
    this.#failure = undefined
    const onWait = (error: KvidxError) => {
      this.#failure = error
    }
    const helpers = { seed: filling, repair: mending, onWait }
    try {
      const started = await start(this.config, this.layout, this.#clock, this.#log, signal, helpers)
      this.#failure = undefined
      this.#lock = started.lock
      this.#identity = started.identity
      this.#report = started.report
      this.#recovery = started.recovery
      this.#use(started.session)
      this.#lifecycle = 'ready'
      return started.report
    } catch (error) {
      this.#failure = asKvidxError(error)
      this.#lifecycle = 'failed'
      throw this.#failure
    }
  }

  get lifecycle(): Lifecycle {
    return this.#lifecycle
  }

  /** Why it is `failed`. */
  get failure(): KvidxError | undefined {
    return this.#failure
  }

  get report(): StartReport | undefined {
    return this.#report
  }

  /** How damaged files were last replaced, while they are still in quarantine. */
  get recovery(): RecoveryNote | undefined {
    return this.#recovery
  }

  /** Something left the quarantine: of damaged files that are gone nobody needs to be told any more. */
  async refreshRecovery(): Promise<void> {
    this.#recovery = await lastRecovery(this.layout)
  }

  get engineVersion(): string {
    return this.#session?.writer.version ?? ''
  }

  get lineage(): string {
    return this.#identity?.lineage ?? ''
  }

  /** When the volume was taken over from another database, Unix ms. */
  get adoptedAt(): number | undefined {
    return this.#identity?.adoptedAt
  }

  get epochs(): readonly EpochRecord[] {
    return this.#session?.writer.epochs ?? []
  }

  get state(): DatabaseState {
    return this.#session?.writer.state ?? EMPTY_STATE
  }

  get health(): Health {
    return this.board.health
  }

  get rewriting(): boolean {
    return this.#rewriting
  }

  get ready(): boolean {
    return this.#lifecycle === 'ready'
  }

  get tasks(): readonly TaskStatus[] {
    return this.#runner?.statuses ?? []
  }

  /** Writes that wait for the disk. */
  get queuedWrites(): number {
    return this.#session?.writer.queued ?? 0
  }

  /** Age of the oldest write without an answer, ms. */
  get oldestWrite(): number {
    return this.#session?.writer.oldestWait(performance.now()) ?? 0
  }

  attachTasks(runner: TaskRunner): void {
    this.#runner = runner
  }

  /** Calls back after every commit, in this thread. Returns how to stop. */
  subscribe(listener: (state: DatabaseState) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** For maintenance and backup: the threads of the open engine. Errors: not_ready. */
  session(): Session {
    if (!this.#session || this.#lifecycle !== 'ready') throw this.#notReady()
    return this.#session
  }

  get(key: Key): { record: VisibleRecord | undefined; digest: bigint | undefined; position: Position } {
    const { record, meta } = this.#pointRead(key)
    const state = meta ? Buffer.from(meta.buffer, meta.byteOffset, meta.byteLength) : undefined
    const position = state ? { epoch: state.readBigUInt64LE(0), seq: state.readBigUInt64LE(8) } : EMPTY_STATE.position
    if (!record || !isVisible(record, BigInt(this.#clock.now())))
      return { record: undefined, digest: undefined, position }
    const digest = digestOfRecord(record)
    const { expiresAt, ...rest } = record
    return { record: expiresAt === 0n ? rest : record, digest, position }
  }

  write(request: WriteRequest): Promise<WriteResult> {
    const session = this.#session
    if (!session || this.#lifecycle !== 'ready') return Promise.reject(this.#notReady())
    if (this.noSpace !== undefined && request.operations.some(addsData))
      return Promise.reject(new KvidxError('no_space', `${this.noSpace}; removes, expiry and reads go on`))
    if (this.#rewriting) return Promise.reject(this.#notWritable())
    const result = session.writer.write(request)
    result.catch((error: KvidxError) => {
      if (error.code === 'no_space') this.onNoSpace(error)
    })
    return result
  }

  async removeRangeSliced(range: KeyRange, signal?: AbortSignal): Promise<{ removed: number; position: Position }> {
    let removed = 0
    let position = this.state.position
    for (let start = range.start; start <= range.end; ) {
      signal?.throwIfAborted()
      const end = this.#endOfSlice(start, range.end)
      const result = await this.write({ operations: [{ op: 'removeRange', range: { start, end } }] }).catch(
        (thrown: unknown) => {
          const error = asKvidxError(thrown)
          const message = `${error.message}; ${removed} records before were removed`
          throw new KvidxError(error.code, message, { ...error.details, removed: String(removed) }, error)
        },
      )
      const outcome = result.outcomes[0]
      if (outcome?.outcome === 'changed') removed += outcome.removed ?? 0
      position = result.position
      if (end === U64_MAX) break
      start = end + 1n
    }
    return { removed, position }
  }

  async scan(options: ScanOptions, signal: AbortSignal): Promise<RecordStream> {
    const snapshot = await this.session().readers.snapshot(signal, isPacked(options))
    const chunks = snapshot.stream({ kind: 'records', options, now: BigInt(this.#clock.now()) }, signal)
    const noticed = this.#releasing(chunks, snapshot)
    return { position: snapshot.state.position, state: snapshot.state, chunks: noticed }
  }

  async count(range: KeyRange, signal: AbortSignal): Promise<{ count: number; position: Position }> {
    return this.#withSnapshot(signal, async snapshot => {
      const { count } = await snapshot.call('count', { range, now: BigInt(this.#clock.now()) }, signal)
      return { count, position: snapshot.state.position }
    })
  }

  async stats(signal: AbortSignal): Promise<DatabaseState & { minKey?: Key; maxKey?: Key; figures: EngineFigures }> {
    const figures = await this.session().readers.call('figures', {})
    return this.#withSnapshot(signal, async snapshot => {
      const bounds = await snapshot.call('bounds', {}, signal)
      return { ...snapshot.state, ...bounds, figures }
    })
  }

  /** One snapshot for a backup; the caller releases it. */
  async snapshot(signal: AbortSignal): Promise<BackupSnapshot> {
    const snapshot = await this.session().readers.snapshot(signal, true)
    return Object.assign(snapshot, { epochs: this.epochs })
  }

  /** One frame with the first stored records of a range. Errors: snapshot_cut. */
  slice(range: KeyRange, bytes: number, signal: AbortSignal): Promise<Uint8Array> {
    return this.#withSnapshot(signal, snapshot => snapshot.call('slice', { range, bytes }, signal))
  }

  async import(body: AsyncIterable<Uint8Array>, options: ImportOptions, signal: AbortSignal): Promise<ImportResult> {
    this.session()
    if (this.noSpace !== undefined) throw new KvidxError('no_space', this.noSpace)
    if (options.clear || this.state.count === 0n) return this.#importStaged(body, options, signal)
    return importInto(request => this.write(request), body, options, this.config.limits, signal)
  }

  changes(since: Position, follow: boolean, signal: AbortSignal): AsyncIterable<Uint8Array> {
    return followChanges(this, this.session(), since, follow, signal)
  }

  async registerConsumer(name: string, position: Position, lease?: number): Promise<void> {
    const seen = this.#clock.now()
    const until = lease === undefined ? {} : { until: seen + lease }
    await this.session().writer.call('setConsumer', { name, position, seen, ...until })
  }

  /** What follows the present position is another branch from here on. @param behind the new epoch is above this one, too */
  async beginEpoch(reason: EpochRecord['reason'], behind = 0n): Promise<void> {
    const { writer } = this.session()
    writer.epochs = (await writer.call('beginEpoch', { reason, time: BigInt(this.#clock.now()), behind })).epochs
    await rememberEpochs(this.layout, writer.epochs)
  }

  /** A whole check found nothing wrong. */
  async noteSound(): Promise<void> {
    if ((await readSuspicion(this.layout)).starts > 0) await clearSuspicion(this.layout)
  }

  /**
   * The engine reports that its files are damaged: nothing is served from them any more, in this process or the next, until they are sound or replaced.
   */
  async condemn(problems: readonly string[]): Promise<KvidxError> {
    const error = damaged(problems)
    const session = this.#session
    if (!session || this.#lifecycle !== 'ready') return error
    this.#lifecycle = 'failed'
    this.#failure = error
    this.#log.error({ problems }, 'the files of the database are damaged: it no longer serves')
    await writeSuspicion(this.layout, { ...(await readSuspicion(this.layout)), damage: error.message })
    this.onSwap('before')
    this.#session = undefined
    await session
      .close()
      .catch((thrown: unknown) => this.#log.warn({ err: thrown }, 'the damaged database did not close'))
    this.#lock?.release()
    this.#lock = undefined
    this.onCondemned(error)
    return error
  }

  /** Takes over counters that a scan found, in a new epoch. */
  async adjust(difference: CounterDifference): Promise<void> {
    const { writer } = this.session()
    const { epochs } = await writer.call('adjust', { difference, time: BigInt(this.#clock.now()) })
    writer.epochs = epochs
    await rememberEpochs(this.layout, epochs)
  }

  consumers(): Promise<Consumers> {
    return this.session().writer.call('consumers', {})
  }

  async removeConsumer(name: string): Promise<void> {
    await this.session().writer.call('setConsumer', { name, seen: this.#clock.now() })
  }

  /** Whoever was last seen before `seenBefore` (Unix ms) pins the log no longer, until it registers again. Returns their names. */
  lapseConsumers(seenBefore: number): Promise<readonly string[]> {
    return this.session().writer.call('lapseConsumers', { seenBefore })
  }

  runTask(
    name: TaskName,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>> {
    if (!this.#runner) return Promise.reject(this.#notReady())
    return this.#runner.run(name, parameters, signal)
  }

  cancelTask(name: TaskName): boolean {
    return this.#runner?.cancel(name) ?? false
  }

  async freeze(ms: number): Promise<{ token: string; position: Position; expiresAt: number }> {
    const token = randomUUID()
    const { writer } = this.session()
    const { expiresAt } = await writer.call('freeze', { token, ms: Math.min(ms, FREEZE_LIMIT) })
    return { token, position: writer.state.position, expiresAt }
  }

  thaw(token: string): Promise<{ withinLease: boolean }> {
    return this.session().writer.call('thaw', { token })
  }

  async close(): Promise<void> {
    if (this.#lifecycle === 'closed') return
    this.#lifecycle = 'stopping'
    const session = this.#session
    if (session) {
      const failed = session.writer.failed
      // on a full disk neither checkpoint nor marker may fit; the WAL keeps everything, and the next start checks
      const tryTo = (what: string, work: Promise<unknown>) =>
        work.catch((error: unknown) => this.#log.warn({ err: error }, `${what} failed at the end`))
      if (!failed) await tryTo('the checkpoint', session.writer.call('checkpoint', { mode: 'truncate' }))
      const position = formatPosition(session.writer.state.position)
      await session.close()
      // only what was closed in order may say so
      if (!failed) await tryTo('the clean-exit marker', this.#markClean(position))
    }
    this.#session = undefined
    this.#lock?.release()
    this.#lifecycle = 'closed'
  }

  /** With Normal and Off not everything was synced; a power loss behind the marker must find what the marker describes. */
  async #markClean(position: string): Promise<void> {
    await syncTree(this.layout.database)
    await writeCleanExit(this.layout, position)
  }

  /**
   * Replaces the database by what `stage` builds in an empty directory; the old one goes to quarantine. `finish` is called when nothing
   * writes any more, with the last state of the old one, and must leave a closed engine. Writes meanwhile are answered not_ready.
   * Returns the quarantine's name.
   * @param same what is staged is the same content, so reads go on while it is being finished; conflict when that changed after all
   */
  async replace(
    reason: string,
    staged: string,
    finish: (last: DatabaseState) => Promise<void>,
    same = false,
  ): Promise<string> {
    const old = this.session()
    if (this.#rewriting) throw this.#notWritable()
    if (same) this.#rewriting = true
    else this.#lifecycle = 'swapping'
    try {
      // writes that a freeze holds back come before the last state, not behind it
      await old.writer.call('endFreeze', {})
      await old.writer.call('checkpoint', { mode: 'truncate' })
      const last = old.writer.state
      await finish(last)
      if (same) {
        // closed or condemned meanwhile
        if (this.session() !== old) throw this.#notReady()
        this.#lifecycle = 'swapping'
        await old.writer.call('flush', {})
        const { state } = old.writer
        if (formatPosition(state.position) !== formatPosition(last.position) || state.digest !== last.digest)
          throw new KvidxError('conflict', 'the database changed while its copy was made; try again')
      }
    } catch (error) {
      // nothing has happened: it serves on
      if (this.#session === old) this.#lifecycle = 'ready'
      throw error
    } finally {
      this.#rewriting = false
    }
    this.onSwap('before')
    let unfinished = false
    try {
      await old.close()
      return await swapIn(this.layout, staged, reason, this.#clock.now())
    } catch (error) {
      // half done: what this database acknowledged from now on would be replaced by the next start, so only that may open it
      unfinished = await swapPending(this.layout)
      if (unfinished) {
        this.#session = undefined
        this.#fail(asKvidxError(error), 'a swap could not be finished')
      }
      throw error
    } finally {
      if (!unfinished) {
        await this.#reopen()
        this.onSwap('after')
      }
    }
  }

  async #reopen(): Promise<void> {
    try {
      const session = await openSession(this.config, this.layout.database)
      this.#use(session)
      await rememberEpochs(this.layout, session.writer.epochs)
      // other files than those that were suspected
      await clearSuspicion(this.layout)
      this.#lifecycle = 'ready'
    } catch (error) {
      this.#failure = asKvidxError(error)
      this.#lifecycle = 'failed'
      this.board.raise('EngineFailed', this.#failure.message, this.#clock.now(), true)
      throw this.#failure
    }
  }

  async #importStaged(
    body: AsyncIterable<Uint8Array>,
    options: ImportOptions,
    signal: AbortSignal,
  ): Promise<ImportResult> {
    const id = `import-${randomUUID()}`
    const directory = join(this.layout.staging, id)
    await mkdir(directory, { mode: 0o700 })
    let staged: StagedDatabase | undefined
    try {
      staged = await StagedDatabase.open({
        options: engineOptions(this.config, directory),
        format: options.format,
        onDuplicate: options.onDuplicate,
        maxDataBytes: this.config.limits.maxDataBytes,
      })
      const building = staged
      const { read, imported, skipped, replaced } = await staged.load(body, signal)
      await this.replace('import', id, async last => {
        if (!options.clear && last.count > 0n)
          throw new KvidxError(
            'conflict',
            'records were written while the import into the empty database was under way; import again, or with clear=true',
          )
        const now = BigInt(this.#clock.now())
        const time = now > last.time ? now : last.time
        const epochs = nextEpoch(this.epochs, last, 'imported', time)
        const epoch = epochs.at(-1)?.epoch ?? 1n
        // no file of changes holds the import, so it takes a seq of its own: a restore, or who follows, sees that one is missing
        await building.finish({ epoch, seq: last.position.seq + 1n }, time, epochs)
      })
      return { read, imported, skipped, replaced, position: this.state.position }
    } catch (error) {
      await staged?.abandon()
      throw error
    } finally {
      await removeStaged(this.layout, id)
    }
  }

  #use(session: Session): void {
    this.#session = session
    session.writer.onCommit = state => {
      for (const listener of this.#listeners) listener(state)
    }
    session.writer.onStuck = error => {
      // the room of the ballast is what the next process opens the database with
      this.onNoSpace(error)
      session.writer.onFailure(error)
    }
    session.writer.onFailure = error => {
      if (this.#session !== session || this.#lifecycle === 'failed') return
      this.#fail(error, 'the writer died')
    }
  }

  /** Only a new process can go on: the kubelet's restart runs the recovery that this one cannot. */
  #fail(error: KvidxError, what: string): void {
    this.#lifecycle = 'failed'
    this.#failure = error
    this.board.raise('WriterFailed', error.message, this.#clock.now(), true)
    this.#log.error({ err: error }, what)
    this.#died.resolve(error)
  }

  /** The last key of a slice of a range that one commit may remove; `end` when the rest fits. */
  #endOfSlice(start: bigint, end: bigint): bigint {
    const { atomicBytes, atomicRecords } = this.config.limits
    const records = Math.min(RANGE_SLICE, atomicRecords)
    let last = end
    let bytes = 0
    let count = 0
    let cut = false
    const snapshot = this.session().points.snapshot()
    try {
      snapshot.scan({ start, end }, false, record => {
        bytes += record.data.length
        cut = count === records || (count > 0 && bytes > atomicBytes / 8)
        if (cut) return false
        last = record.key
        count++
        return true
      })
    } finally {
      snapshot.release()
    }
    return cut ? last : end
  }

  #pointRead(key: Key): ReturnType<Session['points']['getWithMeta']> {
    try {
      return this.session().points.getWithMeta(key, META.state)
    } catch (error) {
      this.#noticeDamage(error)
      throw error
    }
  }

  #noticeDamage(error: unknown): void {
    if (error instanceof KvidxError && error.code === 'engine_corrupt') this.onDamagedRead()
  }

  async *#releasing(chunks: AsyncIterable<Uint8Array>, snapshot: ReaderSnapshot): AsyncGenerator<Uint8Array> {
    try {
      yield* chunks
    } catch (error) {
      this.#noticeDamage(error)
      throw error
    } finally {
      snapshot.release()
    }
  }

  async #withSnapshot<T>(signal: AbortSignal, use: (snapshot: ReaderSnapshot) => Promise<T>): Promise<T> {
    const snapshot = await this.session().readers.snapshot(signal)
    try {
      return await use(snapshot)
    } finally {
      snapshot.release()
    }
  }

  #notWritable(): KvidxError {
    return new KvidxError('not_ready', 'the files of the database are being rewritten: reads go on, writes come back')
  }

  #notReady(): KvidxError {
    if (this.#lifecycle === 'failed' && this.#failure)
      return new KvidxError('not_ready', `the database is not open: ${this.#failure.message}`, {
        reason: this.#failure.code,
      })
    const why = {
      opening: 'it is starting',
      bootstrapping: 'its first data is being restored or imported',
      repairing: 'its files are damaged and are being replaced',
      swapping: 'its files are being replaced',
      stopping: 'it is stopping',
      closed: 'it is closed',
      failed: 'it failed',
      ready: 'it is not open',
    }
    return new KvidxError('not_ready', `the database is not ready: ${why[this.#lifecycle]}`)
  }
}

/** The history with one more epoch that forks from the last state. */
export function nextEpoch(
  epochs: readonly EpochRecord[],
  last: DatabaseState,
  reason: EpochRecord['reason'],
  time: bigint,
): EpochRecord[] {
  const { epoch, seq } = last.position
  return [...epochs, { epoch: epoch + 1n, parentEpoch: epoch, forkSeq: seq, reason, time }]
}

function addsData(operation: Operation): boolean {
  return operation.op !== 'remove' && operation.op !== 'removeRange' && operation.op !== 'expiry'
}
