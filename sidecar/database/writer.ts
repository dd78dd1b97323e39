import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import type { EngineShare } from '../engine/engine.ts'
import { holdEngine } from '../engine/open.ts'
import type { DatabaseState, EpochRecord } from './database.ts'
import type { WriteRequest, WriteResult, WriteTiming } from './operation.ts'
import { operationSize } from './operation-codec.ts'
import { fromPlain } from './plain-error.ts'
import { decodeState, EMPTY_STATE } from './state.ts'
import {
  type CallName,
  type FromWriter,
  packRequests,
  type ToWriter,
  unpackVerdicts,
  type WriterCalls,
  type WriterData,
} from './writer-protocol.ts'

interface Pending {
  readonly resolve: (result: WriteResult) => void
  readonly reject: (error: KvidxError) => void
  readonly bytes: number
  readonly at: number
  readonly timing: WriteTiming | undefined
}

interface PendingCall {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: KvidxError) => void
  readonly progress: ((done: number, total: number) => void) | undefined
}

/** Requests and bytes that may wait for the writer; past either the answer is `overloaded`. */
const QUEUE_REQUESTS = 16_384
const QUEUE_BYTES = 256 * 1024 * 1024

/** The servers' side of the writer's thread: queues requests, bounded, and hands out their results. */
export class Writer {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #calls = new Map<number, PendingCall>()
  #queue: WriteRequest[] = []
  #queueIds: number[] = []
  #scheduled = false
  #nextId = 1
  #pendingBytes = 0
  #state: DatabaseState = EMPTY_STATE
  #failure: KvidxError | undefined
  readonly share: EngineShare
  readonly version: string
  /** False: the engine held no state of ours. */
  readonly hadState: boolean
  epochs: readonly EpochRecord[]
  /** Called with the state after each commit. */
  onCommit: (state: DatabaseState) => void = () => {}
  /** Called when the engine says that only a new process can go on. */
  onStuck: (error: KvidxError) => void = () => {}
  /** Called once, when the thread died. */
  onFailure: (error: KvidxError) => void = () => {}

  private constructor(worker: Worker, opened: FromWriter & { type: 'opened' }) {
    this.#worker = worker
    this.share = opened.share
    this.version = opened.version
    this.hadState = opened.state !== undefined
    this.epochs = opened.epochs
    if (opened.state) this.#state = decodeState(opened.state)
    worker.on('message', (message: FromWriter) => this.#receive(message))
    worker.on('error', error => this.#fail(error))
    worker.on('exit', code => {
      if (this.#pending.size > 0 || this.#calls.size > 0 || code !== 0)
        this.#fail(new Error(`the writer's thread ended with code ${code}`))
    })
  }

  /** Opens the engine in a thread of its own. Rejects with the engine's error. */
  static async open(data: WriterData): Promise<Writer> {
    await holdEngine(data.options.kind)
    const worker = new Worker(workerUrl('sidecar/database/writer.worker'), { workerData: data, name: 'writer' })
    return new Promise((resolve, reject) => {
      let refused: KvidxError | undefined
      worker.once('message', (message: FromWriter) => {
        if (message.type === 'opened') {
          // only our own: Worker listens to itself, too
          for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event)
          resolve(new Writer(worker, message))
        } else if (message.type === 'failed') refused = fromPlain(message.error)
      })
      // the thread's own account of the failure may still be on its way when it dies: its end comes last
      let died: Error | undefined
      worker.on('error', error => {
        died = error
      })
      worker.on('exit', () =>
        reject(
          refused ??
            new KvidxError(
              'engine_io',
              `the engine cannot be opened: ${died?.message ?? 'its thread ended'}`,
              {},
              died,
            ),
        ),
      )
    })
  }

  /** After the last commit that this thread heard of. */
  get state(): DatabaseState {
    return this.#state
  }

  /** The thread died; nothing can be written any more. */
  get failed(): boolean {
    return this.#failure !== undefined
  }

  get queued(): number {
    return this.#pending.size
  }

  /** Age of the oldest request that has no answer yet, in ms. */
  oldestWait(now: number): number {
    const first = this.#pending.values().next()
    return first.done ? 0 : now - first.value.at
  }

  /** Resolves when the commit is durable. Rejects: overloaded, unknown_outcome, and what the committer refuses. */
  write(request: WriteRequest): Promise<WriteResult> {
    if (this.#failure) return Promise.reject(this.#failure)
    let bytes = 0
    for (const operation of request.operations) bytes += operationSize(operation)
    if (this.#pending.size >= QUEUE_REQUESTS || (this.#pendingBytes + bytes > QUEUE_BYTES && this.#pending.size > 0))
      return Promise.reject(
        new KvidxError(
          'overloaded',
          `${this.#pending.size} writes with ${this.#pendingBytes} bytes are waiting (allowed: ${QUEUE_REQUESTS}, ${QUEUE_BYTES})`,
        ),
      )
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      if (this.#nextId > 0xffff_fff0) this.#nextId = 1
      this.#pending.set(id, { resolve, reject, bytes, at: performance.now(), timing: request.timing })
      this.#pendingBytes += bytes
      this.#queue.push(request)
      this.#queueIds.push(id)
      if (!this.#scheduled) {
        this.#scheduled = true
        // everything that this turn of the event loop reads from its sockets goes in one message
        setImmediate(() => this.#send())
      }
    })
  }

  /** Runs something else in the writer's thread, between commits. An aborted signal asks long work to stop. */
  call<N extends CallName>(
    name: N,
    args: WriterCalls[N][0],
    signal?: AbortSignal,
    progress?: (done: number, total: number) => void,
  ): Promise<WriterCalls[N][1]> {
    if (this.#failure) return Promise.reject(this.#failure)
    // order is kept: what was written before this call is committed before it
    this.#send()
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      const cancel = () => this.#post({ type: 'cancel', id })
      signal?.addEventListener('abort', cancel, { once: true })
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          signal?.removeEventListener('abort', cancel)
          then(value)
        }
      this.#calls.set(id, {
        resolve: settle(value => resolve(value as WriterCalls[N][1])),
        reject: settle(reject),
        progress,
      })
      this.#post({ type: 'call', id, name, args })
    })
  }

  /** Commits what is queued, closes the engine and ends the thread. */
  async close(): Promise<void> {
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    await this.call('close', {})
    await ended
  }

  #send(): void {
    this.#scheduled = false
    if (this.#queue.length === 0) return
    const packed = packRequests(this.#queue)
    const ids = Uint32Array.from(this.#queueIds)
    this.#queue = []
    this.#queueIds = []
    this.#post({ type: 'write', ids, packed }, [packed.buffer, ids.buffer])
  }

  #post(message: ToWriter, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer)
  }

  #receive(message: FromWriter): void {
    switch (message.type) {
      case 'committed':
        this.#setState(message.state)
        this.#answer(message)
        break
      case 'state':
        this.#setState(message.state)
        break
      case 'progress':
        this.#calls.get(message.id)?.progress?.(message.done, message.total)
        break
      case 'result':
        this.#setState(message.state)
        this.#take(message.id)?.resolve(message.value)
        break
      case 'failed':
        this.#take(message.id)?.reject(this.#noticed(fromPlain(message.error)))
        break
      case 'opened':
        break
    }
  }

  #setState(bytes: Uint8Array): void {
    this.#state = decodeState(bytes)
    this.onCommit(this.#state)
  }

  #take(id: number): PendingCall | undefined {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    return call
  }

  #answer(message: FromWriter & { type: 'committed' }): void {
    const { position } = this.#state
    for (const [index, verdict] of unpackVerdicts(message.verdicts, position)) {
      const id = message.ids[index] as number
      const pending = this.#pending.get(id)
      if (!pending) continue
      this.#pending.delete(id)
      this.#pendingBytes -= pending.bytes
      if (pending.timing) pending.timing.commit = message.elapsed
      if (verdict instanceof KvidxError) pending.reject(this.#noticed(verdict))
      else pending.resolve(verdict)
    }
  }

  #noticed(error: KvidxError): KvidxError {
    if (error.details.restart === true) this.onStuck(error)
    return error
  }

  /** The thread is gone: nobody can say which of the waiting writes are on the disk. */
  #fail(cause: Error): void {
    if (this.#failure) return
    this.#failure = new KvidxError('unknown_outcome', `the writer died: ${cause.message}`, {}, cause)
    for (const pending of this.#pending.values()) pending.reject(this.#failure)
    for (const call of this.#calls.values()) call.reject(this.#failure)
    this.#pending.clear()
    this.#calls.clear()
    this.onFailure(this.#failure)
  }
}
