import { Worker } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { workerUrl } from '../../src/common/worker-url.ts'
import type { EngineShare } from '../engine/engine.ts'
import type { DatabaseState } from './database.ts'
import { isPacked, type PackLane, packedStream } from './packed-stream.ts'
import { fromPlain } from './plain-error.ts'
import type { FromReader, ReaderCalls, SnapshotCalls, StreamSpec, ToReader } from './reader-protocol.ts'
import { decodeState, EMPTY_STATE } from './state.ts'

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
  #ending = false
  /** Snapshots open in it. */
  load = 0

  constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', (message: FromReader) => {
      if (message.type !== 'ready') this.#listeners.get(message.id)?.(message)
    })
    const fail = (what: string) => {
      // an error of the engine raises an alarm: whoever closes the database or replaces its files ends what reads them without one
      this.#failure ??= this.#ending
        ? new KvidxError('not_ready', 'the database was closed, or its files replaced, while they were read')
        : new KvidxError('engine_io', `a reader's thread ended: ${what}`)
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

  post(message: ToReader, transfer: ArrayBuffer[] = []): void {
    if (!this.#failure) this.#worker.postMessage(message, transfer)
  }

  /** Sends and waits for the one answer that belongs to `id`. */
  ask(
    id: number,
    message: ToReader,
    signal?: AbortSignal,
    progress?: ProgressListener,
    transfer: ArrayBuffer[] = [],
  ): Promise<FromReader> {
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
      this.post(message, transfer)
      if (signal?.aborted) cancel()
    })
  }

  /** Opens a snapshot under this id and says what state it holds. */
  async openSnapshot(id: number): Promise<Uint8Array> {
    return ((await this.ask(id, { type: 'snapshot', id })) as FromReader & { type: 'state' }).state
  }

  /** Ends a job with an error, here and in the thread. */
  fail(id: number, error: KvidxError): void {
    this.#listeners.get(id)?.(error)
    this.post({ type: 'cancel', id })
  }

  async end(): Promise<void> {
    if (!this.alive) return
    this.#ending = true
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

/** A snapshot in a thread; `id` names it there. */
interface Lane {
  readonly thread: ReaderThread
  readonly id: number
}

/** Calls that are through before another thread would be there. */
const QUICK: ReadonlySet<keyof ReaderCalls> = new Set(['figures', 'log'])

/** Attempts to find several threads at the same commit. */
const ATTEMPTS = 8

/** The threads for everything that takes longer than a point read. Each is started when there is work for it: it costs some 13 MiB. */
export class Readers {
  readonly #threads: (ReaderThread | Promise<ReaderThread>)[] = []
  readonly #share: EngineShare
  readonly #most: number
  /** Oldest first. */
  readonly #held = new Set<HeldSnapshot>()
  /** Integrity checks under way, each in a thread of its own. */
  readonly #checks = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()

  /** @param most threads at most */
  constructor(share: EngineShare, most: number) {
    this.#share = share
    this.#most = most
  }

  /** Open snapshots, oldest first. */
  get held(): readonly HeldSnapshot[] {
    return [...this.#held]
  }

  /** @param parallel every thread shall read it, because most of the database will be read */
  async snapshot(signal?: AbortSignal, parallel = false): Promise<ReaderSnapshot> {
    signal?.throwIfAborted()
    const { state, lanes } = parallel ? await this.#openOnAll() : await this.#openOn(await this.#leastLoaded())
    let released = false
    let cutBy: KvidxError | undefined
    const jobs = new Map<number, ReaderThread>()
    const held: HeldSnapshot = {
      baseline: undefined,
      cut: error => {
        cutBy = error
        for (const [job, thread] of jobs) thread.fail(job, error)
        release()
      },
    }
    const release = () => {
      if (released) return
      released = true
      this.#held.delete(held)
      for (const lane of lanes) letGo(lane)
    }
    this.#held.add(held)
    const [first] = lanes as [Lane, ...Lane[]]
    const ask = async <N extends keyof SnapshotCalls>(
      { thread, id }: Lane,
      name: N,
      args: SnapshotCalls[N][0],
      callSignal?: AbortSignal,
      progress?: ProgressListener,
      transfer: ArrayBuffer[] = [],
    ): Promise<SnapshotCalls[N][1]> => {
      if (cutBy) throw cutBy
      const callId = thread.newId()
      const message = { type: 'call', id: callId, snapshot: id, name, args } as const
      jobs.set(callId, thread)
      try {
        const result = await thread.ask(callId, message, callSignal, progress, transfer)
        return (result as FromReader & { type: 'result' }).value as never
      } finally {
        jobs.delete(callId)
      }
    }
    return {
      state: state.length === 0 ? EMPTY_STATE : decodeState(state),
      stream: (spec, streamSignal) =>
        spec.kind === 'records' && isPacked(spec.options)
          ? packed(lanes, spec, ask, streamSignal)
          : streamOf(first.thread, first.id, spec, jobs, () => cutBy, streamSignal),
      call: (name, args, callSignal, progress) => ask(first, name, args, callSignal, progress),
      release,
    }
  }

  async call<N extends keyof ReaderCalls>(
    name: N,
    args: ReaderCalls[N][0],
    signal?: AbortSignal,
    progress?: ProgressListener,
  ): Promise<ReaderCalls[N][1]> {
    if (name === 'integrity') return (await this.#check(signal, progress)) as never
    const thread = await this.#leastLoaded()
    const id = thread.newId()
    const load = QUICK.has(name) ? 0 : 1
    thread.load += load
    try {
      const result = await thread.ask(id, { type: 'call', id, name, args }, signal, progress)
      return (result as FromReader & { type: 'result' }).value as never
    } finally {
      thread.load -= load
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.allSettled(this.#checks)
    const threads = await Promise.allSettled(this.#threads)
    await Promise.all(threads.map(thread => thread.status === 'fulfilled' && thread.value.end()))
  }

  /** It has its thread to itself for minutes: one that nobody else waits for, and that ends with it. */
  async #check(signal?: AbortSignal, progress?: ProgressListener): Promise<unknown> {
    this.#ensureOpen()
    const stop = AbortSignal.any([this.#closing.signal, ...(signal ? [signal] : [])])
    const check = startThread(this.#share).then(async thread => {
      const id = thread.newId()
      try {
        const answer = await thread.ask(id, { type: 'call', id, name: 'integrity', args: {} }, stop, progress)
        return (answer as FromReader & { type: 'result' }).value
      } finally {
        await thread.end()
      }
    })
    this.#checks.add(check)
    try {
      return await check
    } finally {
      this.#checks.delete(check)
    }
  }

  async #openOn(thread: ReaderThread): Promise<{ state: Uint8Array; lanes: readonly Lane[] }> {
    const lane = { thread, id: thread.newId() }
    thread.load++
    try {
      return { state: await thread.openSnapshot(lane.id), lanes: [lane] }
    } catch (error) {
      letGo(lane)
      throw error
    }
  }

  /** The same moment in every thread. Under a storm of commits they may never meet: then one of them reads alone. */
  async #openOnAll(): Promise<{ state: Uint8Array; lanes: readonly Lane[] }> {
    const threads = await this.#all()
    for (let attempt = 0; ; attempt++) {
      const opened = await Promise.allSettled(threads.map(thread => this.#openOn(thread)))
      const lanes = opened.flatMap(result => (result.status === 'fulfilled' ? result.value.lanes : []))
      const failed = opened.find(result => result.status === 'rejected')
      if (failed) {
        lanes.forEach(letGo)
        throw failed.reason
      }
      const states = opened.flatMap(result => (result.status === 'fulfilled' ? [result.value.state] : []))
      const [state] = states as [Uint8Array, ...Uint8Array[]]
      if (states.every(other => Buffer.compare(other, state) === 0)) return { state, lanes }
      if (attempt < ATTEMPTS) lanes.forEach(letGo)
      else {
        lanes.slice(1).forEach(letGo)
        return { state, lanes: lanes.slice(0, 1) }
      }
    }
  }

  async #all(): Promise<readonly ReaderThread[]> {
    this.#ensureOpen()
    while (this.#threads.length < this.#most) void this.#start(this.#threads.length)
    await Promise.all(this.#threads)
    this.#replaceDead()
    return Promise.all(this.#threads)
  }

  /** An idle thread, else one that is just starting, else a new one, else that with the least to do. */
  async #leastLoaded(): Promise<ReaderThread> {
    this.#ensureOpen()
    this.#replaceDead()
    for (;;) {
      const starting = this.#threads.find(thread => thread instanceof Promise)
      if (!starting) break
      await starting
    }
    const idle = this.#threads.find(thread => thread instanceof ReaderThread && thread.load === 0)
    if (idle) return idle
    if (this.#threads.length < this.#most) return this.#start(this.#threads.length)
    const threads = await Promise.all(this.#threads)
    return threads.reduce((best, thread) => (thread.load < best.load ? thread : best))
  }

  /** A thread that died (a corrupt page, say) is replaced when it is next needed. */
  #replaceDead(): void {
    for (const [index, thread] of this.#threads.entries())
      if (thread instanceof ReaderThread && !thread.alive) void this.#start(index)
  }

  #start(index: number): Promise<ReaderThread> {
    const starting = startThread(this.#share)
    this.#threads[index] = starting
    starting.then(
      thread => {
        this.#threads[index] = thread
      },
      // whoever waits for it is told; the next one tries again
      () => {
        const at = this.#threads.indexOf(starting)
        if (at >= 0) this.#threads.splice(at, 1)
      },
    )
    return starting
  }

  #ensureOpen(): void {
    if (this.#closing.signal.aborted) throw new KvidxError('not_ready', 'the database is closed')
  }
}

function letGo({ thread, id }: Lane): void {
  thread.load--
  thread.post({ type: 'release', snapshot: id })
}

async function* packed(
  lanes: readonly Lane[],
  { options, now }: StreamSpec & { kind: 'records' },
  ask: <N extends keyof SnapshotCalls>(
    lane: Lane,
    name: N,
    args: SnapshotCalls[N][0],
    signal?: AbortSignal,
    progress?: ProgressListener,
    transfer?: ArrayBuffer[],
  ) => Promise<SnapshotCalls[N][1]>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { range, stored } = options
  const visibleAt = stored ? undefined : now
  const { count } = await ask(lanes[0] as Lane, 'count', { range, now: visibleAt }, signal)
  const packers = lanes.map(
    (lane): PackLane =>
      (stretch, buffer) =>
        ask(lane, 'pack', { range: stretch, visibleAt, buffer }, undefined, undefined, buffer ? [buffer] : []),
  )
  yield* packedStream(packers, range, count, signal)
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
  jobs: Map<number, ReaderThread>,
  cutBy: () => KvidxError | undefined,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const cut = cutBy()
  if (cut) throw cut
  const id = thread.newId()
  jobs.set(id, thread)
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
