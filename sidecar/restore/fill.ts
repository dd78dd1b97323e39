import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import type { Target } from '../backup/chain.ts'
import type { DatabaseName, Home } from '../backup/layout.ts'
import type { RestoreProgress } from '../backup/restore.ts'
import type { StoreSettings } from '../backup/store/settings.ts'
import type { EpochRecord } from '../database/database.ts'
import { fromPlain, type PlainError } from '../database/plain-error.ts'
import type { EngineOptions } from '../engine/engine.ts'
import { holdEngine } from '../engine/open.ts'
import type { SalvageReport } from '../format/salvage/report.ts'

/** Filling an engine from a backup or a file, in a thread of its own: the thread that answers requests never waits for it. */

/** What a restore should bring back: a target, or the newest good backup. */
export type RestoreFrom = Target | { readonly kind: 'latestBackup' }

export type FillTask =
  | {
      readonly kind: 'restore'
      readonly store: StoreSettings
      /** Where to look: one lineage; or the newest of a database, or that of the named backup. */
      readonly where: Home | (DatabaseName & { readonly lineage?: undefined })
      readonly from: RestoreFrom
      /** The directory does not exist yet, or is empty. */
      readonly engine: EngineOptions
      /** In place: the database's own history, which a new epoch continues. Otherwise a new lineage begins. */
      readonly continues?: readonly EpochRecord[]
      /** Unix ms */
      readonly now: number
    }
  | {
      readonly kind: 'import'
      /** A path on a mounted volume, or an object of a store. */
      readonly file: { readonly path: string } | { readonly store: StoreSettings; readonly key: string }
      readonly format: 'Binary' | 'JSON' | 'CSV' | 'SQLite'
      readonly onDuplicate: 'Fail' | 'Skip' | 'Replace'
      readonly engine: EngineOptions
      readonly maxDataBytes: number
      readonly scratch: string
      readonly now: number
    }
  | {
      readonly kind: 'salvage'
      /** A damaged SQLite file that nobody has open. */
      readonly file: string
      readonly engine: EngineOptions
      /** What is known of its history besides. */
      readonly continues: readonly EpochRecord[]
      readonly now: number
    }

/** What was filled in. u64 as decimal strings. */
export interface Filled {
  /** Of the source. */
  readonly reached: string
  readonly reachedTime: string
  /** Of the new database. */
  readonly position: string
  readonly count: string
  readonly dataBytes: string
  readonly digest: string
  /** Lineage of the source; imports have none. */
  readonly lineage?: string
  /** Directories of backups and keys of segments that were used. */
  readonly sources: readonly string[]
  /** Files of changes that proved damaged, and how; others took their place. */
  readonly damaged?: readonly string[]
  /** False: the store's changes end before the time that was asked for. */
  readonly complete: boolean
  /** Imports: orphan expiries that were left out, duplicates skipped and replaced. */
  readonly orphanExpiries?: number
  readonly skipped?: number
  readonly replaced?: number
  /** Of a salvage: what could be read and what not. */
  readonly salvage?: SalvageReport
}

/** What a restore would change. */
export interface Difference {
  readonly added: number
  readonly removed: number
  readonly changed: number
}

export type FillProgress = RestoreProgress | { readonly stage: 'verifying'; readonly records: number }

export type ToFill =
  | { readonly type: 'live'; readonly chunk: Uint8Array }
  | { readonly type: 'liveEnd' }
  | { readonly type: 'cancel' }

export type FromFill =
  | { readonly type: 'progress'; readonly progress: FillProgress }
  | { readonly type: 'filled'; readonly filled: Filled }
  | { readonly type: 'taken' }
  | { readonly type: 'compared'; readonly difference: Difference }
  | { readonly type: 'failed'; readonly error: PlainError }

/** One filling. `end` it, whatever came of it. */
export class FillThread {
  readonly #worker: Worker
  #failure: KvidxError | undefined
  #waiting: { resolve(message: FromFill): void; reject(error: KvidxError): void } | undefined
  readonly #arrived: FromFill[] = []
  readonly #onProgress: (progress: FillProgress) => void

  /** @param compare keep the filled engine open for `compare` */
  static async start(
    task: FillTask,
    onProgress: (progress: FillProgress) => void,
    compare = false,
  ): Promise<FillThread> {
    await holdEngine(task.engine.kind)
    return new FillThread(task, onProgress, compare)
  }

  private constructor(task: FillTask, onProgress: (progress: FillProgress) => void, compare: boolean) {
    this.#onProgress = onProgress
    this.#worker = new Worker(workerUrl('sidecar/restore/fill.worker'), { workerData: { task, compare }, name: 'fill' })
    this.#worker.on('message', (message: FromFill) => this.#receive(message))
    this.#worker.on('error', error =>
      this.#fail(new KvidxError('internal', `the restore died: ${error.message}`, {}, error)),
    )
    this.#worker.on('exit', () => this.#fail(new KvidxError('internal', 'the thread of the restore ended')))
  }

  /** Resolves when everything is on the disk and was read back. Errors: those of stageRestore; cancelled. */
  async filled(signal: AbortSignal): Promise<Filled> {
    const cancel = () => this.#worker.postMessage({ type: 'cancel' } satisfies ToFill)
    signal.addEventListener('abort', cancel, { once: true })
    if (signal.aborted) cancel()
    try {
      const message = await this.#next()
      if (message.type !== 'filled') throw new KvidxError('internal', `a filling answered ${message.type}`)
      return message.filled
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }

  /** Compares what was filled with the records of a database, given as NDJSON in key order. */
  async compare(live: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<Difference> {
    for await (const chunk of live) {
      if (signal.aborted) throw new KvidxError('cancelled', 'the comparison was cancelled')
      this.#worker.postMessage({ type: 'live', chunk } satisfies ToFill)
      await this.#next()
    }
    this.#worker.postMessage({ type: 'liveEnd' } satisfies ToFill)
    const message = await this.#next()
    if (message.type !== 'compared') throw new KvidxError('internal', `a comparison answered ${message.type}`)
    return message.difference
  }

  async end(): Promise<void> {
    this.#worker.removeAllListeners('exit')
    await this.#worker.terminate()
  }

  #receive(message: FromFill): void {
    if (message.type === 'progress') this.#onProgress(message.progress)
    else if (message.type === 'failed') this.#fail(fromPlain(message.error))
    else if (this.#waiting) {
      this.#waiting.resolve(message)
      this.#waiting = undefined
    } else this.#arrived.push(message)
  }

  #fail(error: KvidxError): void {
    this.#failure ??= error
    this.#waiting?.reject(this.#failure)
    this.#waiting = undefined
  }

  #next(): Promise<FromFill> {
    const arrived = this.#arrived.shift()
    if (arrived) return Promise.resolve(arrived)
    if (this.#failure) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }
}
