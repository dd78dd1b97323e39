import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { cp, mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Clock } from '../../src/common/clock.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { Home } from '../backup/layout.ts'
import type { StoreSettings } from '../backup/store/settings.ts'
import type { EpochRecord } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import type { LocalDatabase } from '../database/local-database.ts'
import { formatPosition } from '../database/position.ts'
import { engineOptions } from '../database/session.ts'
import { decodeState, encodeEpochs, encodeState, META } from '../database/state.ts'
import { EVERY_KEY } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { checkSpace } from '../volume/check-space.ts'
import { syncDirectory } from '../volume/layout.ts'
import { removeStaged } from '../volume/swap.ts'
import { syncTree } from '../volume/sync-tree.ts'
import { type Filled, type FillTask, FillThread, type RestoreFrom } from './fill.ts'
import { listQuarantine, treeSize } from './quarantine.ts'

export interface RestoreRequest {
  readonly from: RestoreFrom | { readonly kind: 'undo'; readonly name: string }
  /** The epoch that the database must be in; otherwise nothing is done. */
  readonly atEpoch?: bigint
  readonly dryRun: boolean
}

/** How a restore goes, or went. The names are those of the status of KvidxRestore. */
export interface RestoreStatus {
  readonly phase: 'Staging' | 'Verifying' | 'Swapping' | 'Completed' | 'Failed'
  /** What was asked for. */
  readonly from: string
  readonly dryRun: boolean
  readonly startedAt: string
  readonly completedAt?: string
  /** Records so far. */
  readonly progress?: number
  /** Position of the source that was restored. */
  readonly target?: string
  readonly sources?: readonly string[]
  /** Files of the store that proved damaged; others took their place. */
  readonly damaged?: readonly string[]
  /** The epoch that began with it. */
  readonly epoch?: string
  readonly position?: string
  readonly records?: string
  readonly digest?: string
  /** False: the changes in the store end before the time that was asked for. */
  readonly complete?: boolean
  readonly added?: number
  readonly removed?: number
  readonly changed?: number
  /** Name of what was there before. */
  readonly quarantine?: string
  readonly error?: string
  readonly code?: string
}

export interface RestoreOptions {
  readonly store: () => StoreSettings | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Everything acknowledged so far goes to the store, as far as it can: a restore to a time of this minute needs it. */
  readonly flush: () => Promise<void>
}

const SPACE_FACTOR = 1.2

/** In-place restores of one database, one at a time. It serves until the swap. */
export class RestoreRunner {
  readonly #database: LocalDatabase
  readonly #options: RestoreOptions
  #running: { key: string; promise: Promise<RestoreStatus>; controller: AbortController } | undefined
  #status: RestoreStatus | undefined

  constructor(database: LocalDatabase, options: RestoreOptions) {
    this.#database = database
    this.#options = options
  }

  get status(): RestoreStatus | undefined {
    return this.#status
  }

  /** Errors: superseded, conflict (another restore runs), those of resolveChain and stageRestore, insufficient_space, cancelled. */
  async run(request: RestoreRequest): Promise<RestoreStatus> {
    const key = keyOf(request)
    if (this.#running) {
      if (this.#running.key === key) return this.#running.promise
      throw new KvidxError('conflict', `another restore runs (${this.#status?.from ?? ''}); wait for it or cancel it`)
    }
    const { epoch } = this.#database.state.position
    if (request.atEpoch !== undefined && request.atEpoch !== epoch)
      throw new KvidxError(
        'superseded',
        `the restore was meant for epoch ${request.atEpoch}, the database is in epoch ${epoch}: nothing was done`,
        { field: 'atEpoch', epoch: String(epoch) },
      )
    const controller = new AbortController()
    const promise = this.#restore(request, controller.signal).finally(() => {
      this.#running = undefined
    })
    this.#running = { key, promise, controller }
    return promise
  }

  cancel(): boolean {
    if (!this.#running || this.#status?.phase === 'Swapping') return false
    this.#running.controller.abort()
    return true
  }

  /** Cancels what has not come to its swap, and waits. */
  async stop(): Promise<void> {
    this.cancel()
    await this.#running?.promise.catch(() => {})
  }

  async #restore(request: RestoreRequest, signal: AbortSignal): Promise<RestoreStatus> {
    const { clock, log } = this.#options
    this.#status = {
      phase: 'Staging',
      from: describeFrom(request.from),
      dryRun: request.dryRun,
      startedAt: new Date(clock.now()).toISOString(),
    }
    log.info({ from: this.#status.from, dryRun: request.dryRun }, 'a restore began')
    const id = `restore-${randomUUID()}`
    const directory = join(this.#database.layout.staging, id)
    try {
      const { from } = request
      if (from.kind === 'undo') await this.#undo(from.name, id, directory, request.dryRun, signal)
      else await this.#fromStore(from, id, directory, request.dryRun, signal)
      this.#update({ phase: 'Completed', completedAt: new Date(clock.now()).toISOString() })
      const { phase, from: what, target, epoch, records, quarantine, added, removed, changed, damaged } = this.#status
      log.info(
        { phase, from: what, target, epoch, records, quarantine, added, removed, changed, damaged },
        'a restore ended',
      )
      return this.#status
    } catch (thrown) {
      const error = asKvidxError(thrown)
      this.#update({
        phase: 'Failed',
        completedAt: new Date(clock.now()).toISOString(),
        error: error.message,
        code: error.code,
      })
      log.error({ err: error, code: error.code }, 'a restore failed')
      throw error
    } finally {
      await removeStaged(this.#database.layout, id)
    }
  }

  async #fromStore(
    from: RestoreFrom,
    id: string,
    directory: string,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, flush } = this.#options
    const store = this.#options.store()
    if (!store)
      throw new KvidxError('invalid_parameter', 'the database has no backup destination to restore from', {
        field: 'backup.destination',
      })
    if (from.kind !== 'backup') await flush()
    const { namespace, name } = this.#database.config
    const where: Home = { namespace, database: name, lineage: this.#database.lineage }
    const { epochs } = this.#database
    const task: FillTask = {
      kind: 'restore',
      store,
      where,
      from,
      engine: engineOptions(this.#database.config, directory),
      continues: epochs,
      now: clock.now(),
    }
    const thread = await FillThread.start(
      task,
      progress =>
        this.#update({
          phase: progress.stage === 'verifying' ? 'Verifying' : 'Staging',
          progress: progress.records,
        }),
      dryRun,
    )
    let filled: Filled
    try {
      filled = await thread.filled(signal)
      this.#update({
        target: filled.reached,
        records: filled.count,
        digest: filled.digest,
        sources: filled.sources.slice(0, 100),
        ...(filled.damaged && { damaged: filled.damaged.slice(0, 100) }),
        complete: filled.complete,
      })
      if (dryRun) {
        this.#update(await this.#compare(thread, signal))
        return
      }
    } finally {
      await thread.end()
    }
    await this.#swap(id, 'restored', epochs)
  }

  async #compare(thread: FillThread, signal: AbortSignal) {
    const stream = await this.#database.scan(
      { range: EVERY_KEY, descending: false, values: true, format: 'ndjson', stored: true },
      signal,
    )
    return thread.compare(stream.chunks, signal)
  }

  /** Back to what an earlier swap put aside. It is copied: the safety copy stays until it is removed by time or by hand. */
  async #undo(name: string, id: string, directory: string, dryRun: boolean, signal: AbortSignal): Promise<void> {
    const { layout, config } = this.#database
    const entries = await listQuarantine(layout)
    const entry =
      name === 'latest' ? entries.find(({ reason }) => UNDOABLE.has(reason)) : entries.find(e => e.name === name)
    if (!entry)
      throw new KvidxError(
        'not_found',
        `there is nothing in quarantine to go back to (${name}; there are: ${entries.map(e => e.name).join(', ') || 'none'})`,
        { name },
      )
    const source = join(layout.quarantine, entry.name, 'db')
    await stat(source).catch(() => {
      throw new KvidxError('not_found', `${entry.name} in quarantine holds no database`, { name: entry.name })
    })
    checkSpace(layout.staging, Math.ceil((await treeSize(source)) * SPACE_FACTOR))
    await mkdir(directory, { mode: 0o700 })
    await cp(source, directory, { recursive: true, mode: constants.COPYFILE_FICLONE, preserveTimestamps: true })
    if (signal.aborted) throw new KvidxError('cancelled', 'the undo was cancelled')
    failpoint('undo.copied')
    this.#update({ phase: 'Verifying' })
    const { epochs } = this.#database
    const state = await this.#markUndone(directory, epochs)
    this.#update({
      target: formatPosition(state.position),
      records: String(state.count),
      digest: formatDigest(state.digest),
      sources: [entry.name],
      complete: true,
    })
    if (dryRun) {
      // nothing is swapped; what would change is counted by the same walk as for a restore
      const { Comparison } = await import('./compare.ts')
      const comparison = await Comparison.open(engineOptions(config, directory))
      const stream = await this.#database.scan(
        { range: EVERY_KEY, descending: false, values: true, format: 'ndjson', stored: true },
        signal,
      )
      for await (const chunk of stream.chunks) await comparison.push(chunk)
      this.#update(await comparison.end())
      return
    }
    await this.#swap(id, 'undo', epochs)
  }

  /** The old database goes on in an epoch of its own, behind all that are known. */
  async #markUndone(directory: string, epochs: readonly EpochRecord[]) {
    const writer = await openWriter({ ...engineOptions(this.#database.config, directory), directory })
    try {
      const bytes = writer.view.getMeta(META.state)
      if (!bytes) throw new KvidxError('engine_corrupt', 'what is in quarantine has no state')
      const state = decodeState(bytes)
      const newest = epochs.reduce((most, record) => (record.epoch > most ? record.epoch : most), 0n)
      const next: EpochRecord = {
        epoch: newest + 1n,
        parentEpoch: state.position.epoch,
        forkSeq: state.position.seq,
        reason: 'restored',
        time: BigInt(this.#options.clock.now()),
      }
      failpoint('undo.beforeMark')
      writer.transact(transaction => {
        transaction.putMeta(META.epochs, encodeEpochs([...epochs, next]))
        transaction.putMeta(
          META.state,
          encodeState({ ...state, position: { epoch: next.epoch, seq: state.position.seq } }),
        )
      })
      writer.flush()
      writer.checkpoint('truncate')
      return state
    } finally {
      writer.close()
      failpoint('undo.beforeSync')
      await syncTree(directory)
      await syncDirectory(this.#database.layout.staging)
    }
  }

  async #swap(id: string, reason: string, epochs: readonly EpochRecord[]): Promise<void> {
    this.#update({ phase: 'Swapping' })
    failpoint('restore.beforeSwap')
    const quarantine = await this.#database.replace(reason, id, async () => {
      if (this.#database.epochs.at(-1)?.epoch !== epochs.at(-1)?.epoch)
        throw new KvidxError('superseded', 'another epoch began while the restore was staged: nothing was done')
    })
    const { position } = this.#database.state
    this.#update({ quarantine, epoch: String(position.epoch), position: formatPosition(position) })
  }

  #update(change: Partial<RestoreStatus>): void {
    if (this.#status) this.#status = { ...this.#status, ...change }
  }
}

/** Why something went to quarantine, when a person may want it back. */
const UNDOABLE = new Set(['restored', 'undo', 'import'])

/** For people and for the status. */
export function describeFrom(from: RestoreRequest['from']): string {
  switch (from.kind) {
    case 'backup':
      return `backup ${from.name}`
    case 'time':
      return `time ${new Date(Number(from.time)).toISOString()}`
    case 'position':
      return `position ${formatPosition(from.position)}`
    case 'latest':
      return 'latest change'
    case 'latestBackup':
      return 'latest backup'
    case 'undo':
      return `undo ${from.name}`
  }
}

function keyOf({ from, dryRun, atEpoch }: RestoreRequest): string {
  return `${describeFrom(from)} ${dryRun} ${atEpoch ?? ''}`
}
