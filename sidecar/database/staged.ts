import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import type { EngineOptions } from '../engine/engine.ts'
import { syncTree } from '../volume/sync-tree.ts'
import type { EpochRecord, StreamFormat } from './database.ts'
import type { Position } from './operation.ts'
import { fromPlain, type PlainError } from './plain-error.ts'

export interface StagedData {
  /** `directory` is the staging directory; it exists and is empty. */
  readonly options: EngineOptions
  readonly format: StreamFormat
  readonly onDuplicate: 'fail' | 'skip' | 'replace'
  readonly maxDataBytes: number
}

export type ToStaged =
  /** The buffer comes back with the answer. */
  | { readonly type: 'chunk'; readonly chunk: Uint8Array<ArrayBuffer> }
  | { readonly type: 'end' }
  | { readonly type: 'abandon' }
  | {
      readonly type: 'finish'
      readonly position: Position
      readonly time: bigint
      readonly epochs: readonly EpochRecord[]
    }

export type FromStaged =
  | { readonly type: 'taken'; readonly buffer?: ArrayBuffer }
  | {
      readonly type: 'ended'
      readonly read: number
      readonly imported: number
      readonly skipped: number
      readonly replaced: number
    }
  | { readonly type: 'finished' }
  | { readonly type: 'failed'; readonly error: PlainError }

/** Bytes of a block, and of about one engine transaction: nothing of it counts before the swap. */
const BLOCK = 256 * 1024

/** Gathers a stream in blocks whose memory goes back and forth: what lies outside the heap is collected late. */
async function* filled(
  chunks: AsyncIterable<Uint8Array>,
  spare: ArrayBuffer[],
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let block: Uint8Array<ArrayBuffer> | undefined
  let have = 0
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      block ??= new Uint8Array(spare.pop() ?? new ArrayBuffer(BLOCK))
      const take = Math.min(BLOCK - have, chunk.length - at)
      block.set(chunk.subarray(at, at + take), have)
      have += take
      at += take
      if (have < BLOCK) continue
      yield block
      block = undefined
      have = 0
    }
  }
  if (block && have > 0) yield block.subarray(0, have)
}

/** A database under construction in a thread of its own. */
export class StagedDatabase {
  readonly #worker: Worker
  readonly #directory: string
  #waiting: { resolve(message: FromStaged): void; reject(error: KvidxError): void } | undefined
  #failure: KvidxError | undefined
  readonly #exited: Promise<unknown>

  private constructor(worker: Worker, directory: string) {
    this.#worker = worker
    this.#directory = directory
    worker.on('message', (message: FromStaged) => {
      if (message.type === 'failed') this.#fail(fromPlain(message.error))
      else this.#take()?.resolve(message)
    })
    this.#exited = new Promise(resolve => worker.once('exit', resolve))
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

  /** Feeds the whole stream: one block is filled while the engine works on another, and a fast sender waits. */
  async load(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<FromStaged & { type: 'ended' }> {
    const spare: ArrayBuffer[] = []
    let taken: Promise<void> = Promise.resolve()
    for await (const chunk of filled(chunks, spare)) {
      await taken
      if (signal.aborted) throw new KvidxError('cancelled', 'the import was cancelled')
      taken = this.#ask({ type: 'chunk', chunk }, [chunk.buffer]).then(answer => {
        if (answer.type === 'taken' && answer.buffer) spare.push(answer.buffer)
      })
      // a failure is met at the next block
      taken.catch(() => undefined)
    }
    await taken
    return (await this.#ask({ type: 'end' })) as FromStaged & { type: 'ended' }
  }

  /** Writes position and history, makes everything durable and closes. */
  async finish(position: Position, time: bigint, epochs: readonly EpochRecord[]): Promise<void> {
    await this.#ask({ type: 'finish', position, time, epochs })
    await this.#exited
    // the engine was filled without syncs, and its last checkpoint wrote without one, too
    await syncTree(this.#directory)
  }

  /** Ends the thread behind what it is doing: within a transaction of the engine it would not end at all. What it wrote is the caller's to remove. */
  async abandon(): Promise<void> {
    this.#worker.postMessage({ type: 'abandon' } satisfies ToStaged)
    await this.#exited
  }

  #ask(message: ToStaged, transfer: ArrayBuffer[] = []): Promise<FromStaged> {
    this.#worker.postMessage(message, transfer)
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
