import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import { syncTree } from '../backup/sync-tree.ts'
import type { EngineOptions } from '../engine/engine.ts'
import type { EpochRecord, StreamFormat } from './database.ts'
import type { Position } from './operation.ts'
import { fromPlain, type PlainError } from './writer-protocol.ts'

export interface StagedData {
  /** `directory` is the staging directory; it exists and is empty. */
  readonly options: EngineOptions
  readonly format: StreamFormat
  readonly onDuplicate: 'fail' | 'skip' | 'replace'
  readonly maxDataBytes: number
}

export type ToStaged =
  | { readonly type: 'chunk'; readonly chunk: Uint8Array }
  | { readonly type: 'end' }
  | {
      readonly type: 'finish'
      readonly position: Position
      readonly time: bigint
      readonly epochs: readonly EpochRecord[]
    }

export type FromStaged =
  | { readonly type: 'taken'; readonly records: number }
  | {
      readonly type: 'ended'
      readonly read: number
      readonly imported: number
      readonly skipped: number
      readonly replaced: number
    }
  | { readonly type: 'finished' }
  | { readonly type: 'failed'; readonly error: PlainError }

/** A database under construction in a thread of its own. */
export class StagedDatabase {
  readonly #worker: Worker
  readonly #directory: string
  #waiting: { resolve(message: FromStaged): void; reject(error: KvidxError): void } | undefined
  #failure: KvidxError | undefined

  private constructor(worker: Worker, directory: string) {
    this.#worker = worker
    this.#directory = directory
    worker.on('message', (message: FromStaged) => {
      if (message.type === 'failed') this.#fail(fromPlain(message.error))
      else this.#take()?.resolve(message)
    })
    worker.on('error', error =>
      this.#fail(new KvidxError('engine_io', `the staged database cannot be written: ${error.message}`, {}, error)),
    )
  }

  static async open(data: StagedData): Promise<StagedDatabase> {
    const staged = new StagedDatabase(
      new Worker(workerUrl('sidecar/database/staged.worker'), { workerData: data, name: 'staged' }),
      data.options.directory,
    )
    await staged.#answer()
    return staged
  }

  /** Feeds the whole stream, one chunk at a time, so that a fast sender waits for the engine. */
  async load(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<FromStaged & { type: 'ended' }> {
    for await (const chunk of chunks) {
      if (signal.aborted) throw new KvidxError('cancelled', 'the import was cancelled')
      await this.#ask({ type: 'chunk', chunk })
    }
    return (await this.#ask({ type: 'end' })) as FromStaged & { type: 'ended' }
  }

  /** Writes position and history, makes everything durable and closes. */
  async finish(position: Position, time: bigint, epochs: readonly EpochRecord[]): Promise<void> {
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    await this.#ask({ type: 'finish', position, time, epochs })
    await ended
    // the engine was filled without syncs, and its last checkpoint wrote without one, too
    await syncTree(this.#directory)
  }

  /** Ends the thread; what it wrote is the caller's to remove. */
  async abandon(): Promise<void> {
    await this.#worker.terminate()
  }

  #ask(message: ToStaged): Promise<FromStaged> {
    this.#worker.postMessage(message)
    return this.#answer()
  }

  #answer(): Promise<FromStaged> {
    if (this.#failure) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  #take(): { resolve(message: FromStaged): void; reject(error: KvidxError): void } | undefined {
    const waiting = this.#waiting
    this.#waiting = undefined
    return waiting
  }

  #fail(error: KvidxError): void {
    this.#failure ??= error
    this.#take()?.reject(this.#failure)
  }
}
