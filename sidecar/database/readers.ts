import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import type { EngineShare } from '../engine/engine.ts'
import type { DatabaseState } from './database.ts'
import type { FromReader, ReaderCalls, SnapshotCalls, StreamSpec, ToReader } from './reader-protocol.ts'
import { decodeState, EMPTY_STATE } from './state.ts'
import { fromPlain } from './writer-protocol.ts'

type Listener = (message: FromReader | KvidxError) => void
type ProgressListener = (done: number, total: number) => void

/** Chunks that a stream reads ahead of its consumer. */
const READ_AHEAD = 3

/** One reader's thread, seen from the servers' thread. */
class ReaderThread {
  readonly #worker: Worker
  readonly #listeners = new Map<number, Listener>()
  #nextId = 1
  #failure: KvidxError | undefined
  /** Snapshots open in it. */
  load = 0

  constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', (message: FromReader) => {
      if (message.type !== 'ready') this.#listeners.get(message.id)?.(message)
    })
    const fail = (what: string) => {
      this.#failure ??= new KvidxError('engine_io', `a reader's thread ended: ${what}`)
      for (const listener of this.#listeners.values()) listener(this.#failure)
      this.#listeners.clear()
    }
    worker.on('error', error => fail(error.message))
    worker.on('exit', code => fail(`code ${code}`))
  }

  get alive(): boolean {
    return this.#failure === undefined
  }

  newId(): number {
    return this.#nextId++
  }

  listen(id: number, listener: Listener): void {
    if (this.#failure) listener(this.#failure)
    else this.#listeners.set(id, listener)
  }

  unlisten(id: number): void {
    this.#listeners.delete(id)
  }

  post(message: ToReader): void {
    if (!this.#failure) this.#worker.postMessage(message)
  }

  /** Sends and waits for the one answer that belongs to `id`. */
  ask(id: number, message: ToReader, signal?: AbortSignal, progress?: ProgressListener): Promise<FromReader> {
    return new Promise((resolve, reject) => {
      const cancel = () => this.post({ type: 'cancel', id })
      const settle = (then: () => void) => {
        this.unlisten(id)
        signal?.removeEventListener('abort', cancel)
        then()
      }
      this.listen(id, answer => {
        if (answer instanceof KvidxError) settle(() => reject(answer))
        else if (answer.type === 'progress') progress?.(answer.done, answer.total)
        else if (answer.type === 'failed') settle(() => reject(fromPlain(answer.error)))
        else settle(() => resolve(answer))
      })
      signal?.addEventListener('abort', cancel, { once: true })
      this.post(message)
    })
  }

  /** Ends a job with an error, here and in the thread. */
  fail(id: number, error: KvidxError): void {
    this.#listeners.get(id)?.(error)
    this.post({ type: 'cancel', id })
  }

  async end(): Promise<void> {
    if (!this.alive) return
    const id = this.newId()
    const ended = new Promise(resolve => this.#worker.once('exit', resolve))
    await this.ask(id, { type: 'call', id, name: 'close', args: {} })
    await ended
  }
}

/** A consistent view in a reader's thread. Release it; a forgotten one would hold up the WAL. */
export interface ReaderSnapshot {
  readonly state: DatabaseState
  stream(spec: StreamSpec, signal?: AbortSignal): AsyncIterable<Uint8Array>
  call<N extends keyof SnapshotCalls>(
    name: N,
    args: SnapshotCalls[N][0],
    signal?: AbortSignal,
    progress?: ProgressListener,
  ): Promise<SnapshotCalls[N][1]>
  release(): void
}

/** A snapshot that is open, for those who watch what it holds up. */
export interface HeldSnapshot {
  /** Size of what grows, when it was first looked at; the watcher's. */
  baseline: number | undefined
  /** Ends it and everything that reads from it with this error. */
  cut(error: KvidxError): void
}

/** The threads for everything that takes longer than a point read. */
export class Readers {
  readonly #threads: ReaderThread[]
  readonly #share: EngineShare
  /** Oldest first. */
  readonly #held = new Set<HeldSnapshot>()
  #closed = false

  private constructor(share: EngineShare, threads: ReaderThread[]) {
    this.#share = share
    this.#threads = threads
  }

  static async open(share: EngineShare, count: number): Promise<Readers> {
    return new Readers(share, await Promise.all(Array.from({ length: count }, () => startThread(share))))
  }

  /** Open snapshots, oldest first. */
  get held(): readonly HeldSnapshot[] {
    return [...this.#held]
  }

  async snapshot(signal?: AbortSignal): Promise<ReaderSnapshot> {
    signal?.throwIfAborted()
    const thread = await this.#leastLoaded()
    thread.load++
    const id = thread.newId()
    let released = false
    let cutBy: KvidxError | undefined
    const jobs = new Set<number>()
    const held: HeldSnapshot = {
      baseline: undefined,
      cut: error => {
        cutBy = error
        for (const job of jobs) thread.fail(job, error)
        release()
      },
    }
    const release = () => {
      if (released) return
      released = true
      this.#held.delete(held)
      thread.load--
      thread.post({ type: 'release', snapshot: id })
    }
    try {
      const answer = await thread.ask(id, { type: 'snapshot', id })
      const bytes = (answer as FromReader & { type: 'state' }).state
      this.#held.add(held)
      return {
        state: bytes.length === 0 ? EMPTY_STATE : decodeState(bytes),
        stream: (spec, streamSignal) => streamOf(thread, id, spec, jobs, () => cutBy, streamSignal),
        call: async (name, args, callSignal, progress) => {
          if (cutBy) throw cutBy
          const callId = thread.newId()
          const message = { type: 'call', id: callId, snapshot: id, name, args } as const
          jobs.add(callId)
          try {
            const result = await thread.ask(callId, message, callSignal, progress)
            return (result as FromReader & { type: 'result' }).value as never
          } finally {
            jobs.delete(callId)
          }
        },
        release,
      }
    } catch (error) {
      release()
      throw error
    }
  }

  async call<N extends keyof ReaderCalls>(
    name: N,
    args: ReaderCalls[N][0],
    signal?: AbortSignal,
    progress?: ProgressListener,
  ): Promise<ReaderCalls[N][1]> {
    const thread = await this.#leastLoaded()
    const id = thread.newId()
    // an integrity check has its thread to itself for minutes: quick calls shall go to another
    thread.load++
    try {
      const result = await thread.ask(id, { type: 'call', id, name, args }, signal, progress)
      return (result as FromReader & { type: 'result' }).value as never
    } finally {
      thread.load--
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#threads.map(thread => thread.end()))
  }

  /** A thread that died (a corrupt page, say) is replaced when it is next needed. */
  async #leastLoaded(): Promise<ReaderThread> {
    if (this.#closed) throw new KvidxError('not_ready', 'the database is closed')
    const dead = this.#threads.findIndex(thread => !thread.alive)
    if (dead >= 0) this.#threads[dead] = await startThread(this.#share)
    return this.#threads.reduce((best, thread) => (thread.load < best.load ? thread : best))
  }
}

function startThread(share: EngineShare): Promise<ReaderThread> {
  const worker = new Worker(workerUrl('sidecar/database/reader.worker'), { workerData: { share }, name: 'reader' })
  return new Promise((resolve, reject) => {
    worker.once('error', error =>
      reject(new KvidxError('engine_io', `a reader cannot be opened: ${error.message}`, {}, error)),
    )
    worker.once('message', () => {
      // only our own: Worker listens to itself, too
      for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event)
      resolve(new ReaderThread(worker))
    })
  })
}

async function* streamOf(
  thread: ReaderThread,
  snapshot: number,
  spec: StreamSpec,
  jobs: Set<number>,
  cutBy: () => KvidxError | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const cut = cutBy()
  if (cut) throw cut
  const id = thread.newId()
  jobs.add(id)
  const arrived: Array<FromReader | KvidxError> = []
  let wake: (() => void) | undefined
  const stop = () => wake?.()
  thread.listen(id, message => {
    arrived.push(message)
    wake?.()
  })
  signal?.addEventListener('abort', stop, { once: true })
  try {
    thread.post({ type: 'stream', id, snapshot, spec })
    for (let i = 0; i < READ_AHEAD; i++) thread.post({ type: 'pull', id })
    for (;;) {
      if (signal?.aborted) throw new KvidxError('cancelled', 'the stream was cancelled')
      const message = arrived.shift()
      if (!message) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
        wake = undefined
        continue
      }
      if (message instanceof KvidxError) throw message
      if (message.type === 'failed') throw fromPlain(message.error)
      if (message.type !== 'chunk') continue
      if (!message.end) thread.post({ type: 'pull', id })
      if (message.chunk.length > 0) yield message.chunk
      if (message.end) return
    }
  } finally {
    signal?.removeEventListener('abort', stop)
    jobs.delete(id)
    thread.unlisten(id)
    thread.post({ type: 'cancel', id })
  }
}
