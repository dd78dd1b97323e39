import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import { stepBack } from '../../src/common/priority.ts'
import type { EngineSnapshot } from '../engine/engine.ts'
import { openReader } from '../engine/open.ts'
import type { DatabaseState } from './database.ts'
import { packStretch } from './packed-stream.ts'
import { toPlain } from './plain-error.ts'
import type { FromReader, ReaderCalls, ReaderData, SnapshotCalls, ToReader } from './reader-protocol.ts'
import {
  countStored,
  countVisible,
  expirySlices,
  keySlice,
  recordSlices,
  type Slice,
  storedBounds,
  totalsOf,
} from './record-stream.ts'
import { decodeState, EMPTY_STATE, META } from './state.ts'

/** A reader's thread: scans, exports, counts and checks, beside the thread that answers requests. */

const port = parentPort as MessagePort
stepBack()
const reader = await openReader((workerData as ReaderData).share)
const snapshots = new Map<number, { snapshot: EngineSnapshot; state: DatabaseState; bytes: Uint8Array }>()
const streams = new Map<number, () => Slice>()
/** Long jobs under way, each with the wish that it may end. */
const jobs = new Map<number, { cancelled: boolean }>()

const receive = (message: ToReader) => {
  switch (message.type) {
    case 'snapshot':
      return attempt(message.id, () => {
        const snapshot = reader.snapshot()
        const stored = snapshot.getMeta(META.state)
        const bytes = stored ? new Uint8Array(stored) : new Uint8Array(0)
        snapshots.set(message.id, { snapshot, bytes, state: stored ? decodeState(stored) : EMPTY_STATE })
        post({ type: 'state', id: message.id, state: bytes })
      })
    case 'release': {
      snapshots.get(message.snapshot)?.snapshot.release()
      snapshots.delete(message.snapshot)
      return
    }
    case 'stream':
      return attempt(message.id, () => {
        const { snapshot, state } = snapshotOf(message.snapshot)
        streams.set(
          message.id,
          message.spec.kind === 'records' ? recordSlices(snapshot, state, message.spec) : expirySlices(snapshot, state),
        )
      })
    case 'pull':
      return attempt(message.id, () => {
        const slice = streams.get(message.id)?.()
        if (!slice) return
        if (slice.end) streams.delete(message.id)
        post({ type: 'chunk', id: message.id, chunk: slice.chunk, end: slice.end }, [slice.chunk.buffer])
      })
    case 'cancel':
      streams.delete(message.id)
      cancel(message.id)
      return
    case 'call':
      return attempt(message.id, () => {
        if (message.name === 'pack') pack(message.id, message.snapshot, message.args as SnapshotCalls['pack'][0])
        else if (message.name === 'slice')
          slice(message.id, message.snapshot, message.args as SnapshotCalls['slice'][0])
        else if (message.name === 'totals') sumUp(message.id, snapshotOf(message.snapshot))
        else if (message.name === 'integrity') void check(message.id)
        else post({ type: 'result', id: message.id, value: run(message) })
        if (message.name === 'close') port.close()
      })
  }
}

port.on('message', receive)
post({ type: 'ready' })

type Instant = Exclude<keyof ReaderCalls, 'integrity'>

const calls: { [N in Instant]: (args: ReaderCalls[N][0]) => ReaderCalls[N][1] } = {
  expired: ({ until }) => {
    const snapshot = reader.snapshot()
    try {
      return { count: snapshot.scanExpiries(until, Number.MAX_SAFE_INTEGER, () => true) }
    } finally {
      snapshot.release()
    }
  },
  figures: () => reader.figures(),
  checkpoint: () => {
    failpoint('checkpoint.beside')
    return { walBytes: reader.checkpoint?.() ?? 0 }
  },
  log: readLog,
  close: () => {
    for (const { snapshot } of snapshots.values()) snapshot.release()
    reader.close()
    return {}
  },
}

function run(message: ToReader & { type: 'call' }): unknown {
  if (message.name === 'count') {
    const { range, now } = message.args as SnapshotCalls['count'][0]
    const { snapshot, state } = snapshotOf(message.snapshot)
    return {
      count: now === undefined ? countStored(snapshot, state, range) : countVisible(snapshot, state, range, now),
    }
  }
  if (message.name === 'bounds') return storedBounds(snapshotOf(message.snapshot).snapshot)
  return calls[message.name as Instant](message.args as never)
}

/** One stretch of a parallel stream; the chunk is transferred. */
function pack(id: number, snapshot: number | undefined, { range, visibleAt, buffer }: SnapshotCalls['pack'][0]): void {
  const value = packStretch(snapshotOf(snapshot).snapshot, range, visibleAt, buffer)
  post({ type: 'result', id, value }, [value.chunk.buffer])
}

function slice(id: number, from: number | undefined, { range, bytes }: SnapshotCalls['slice'][0]): void {
  const { snapshot, state } = snapshotOf(from)
  const value = keySlice(snapshot, state, range, bytes)
  post({ type: 'result', id, value }, [value.buffer as ArrayBuffer])
}

/** A slice a turn, so that the other jobs of this thread go on. */
function sumUp(id: number, { snapshot, state }: { snapshot: EngineSnapshot; state: DatabaseState }): void {
  const totals = totalsOf(snapshot)
  const job = { cancelled: false }
  jobs.set(id, job)
  const turn = () =>
    attempt(id, () => {
      if (job.cancelled) throw new KvidxError('cancelled', 'the scan was cancelled')
      const value = totals.step()
      if (value) {
        jobs.delete(id)
        return post({ type: 'result', id, value })
      }
      post({ type: 'progress', id, done: totals.seen, total: Number(state.count) })
      setImmediate(turn)
    })
  turn()
}

/** This thread has nothing else to do, and may see nothing of its port until the check is through: whether it was cancelled is looked for. */
async function check(id: number): Promise<void> {
  const job = { cancelled: false }
  jobs.set(id, job)
  try {
    const value = await reader.checkIntegrity((done, total) => {
      failpoint('check.progress')
      post({ type: 'progress', id, done, total })
      for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port))
        receive(next.message as ToReader)
      return job.cancelled
    })
    failpoint('check.through')
    post({ type: 'result', id, value })
  } catch (error) {
    post({ type: 'failed', id, error: toPlain(error) })
  } finally {
    jobs.delete(id)
  }
}

/** What is through already has nothing to cancel. */
function cancel(id: number): void {
  const job = jobs.get(id)
  if (job) job.cancelled = true
}

function readLog({ afterSeq, untilSeq, maxBytes }: ReaderCalls['log'][0]): ReaderCalls['log'][1] {
  const snapshot = reader.snapshot()
  try {
    const stored = snapshot.getMeta(META.state)
    const base = stored ? decodeState(stored).logBase.seq : 0n
    if (afterSeq < base) return { frames: new Uint8Array(0), lastSeq: afterSeq, base }
    const parts: Buffer[] = []
    let bytes = 0
    let lastSeq = afterSeq
    snapshot.scanLog(afterSeq + 1n, entry => {
      if (entry.lastSeq > untilSeq || (bytes > 0 && bytes + entry.frame.length > maxBytes)) return false
      parts.push(Buffer.from(entry.frame))
      bytes += entry.frame.length
      lastSeq = entry.lastSeq
      return true
    })
    return { frames: new Uint8Array(Buffer.concat(parts)), lastSeq, base }
  } finally {
    snapshot.release()
  }
}

function snapshotOf(id: number | undefined): { snapshot: EngineSnapshot; state: DatabaseState } {
  const found = id === undefined ? undefined : snapshots.get(id)
  if (!found) throw new KvidxError('internal', `snapshot ${id} is not open`)
  return found
}

function attempt(id: number, action: () => void): void {
  try {
    action()
  } catch (error) {
    streams.delete(id)
    jobs.delete(id)
    post({ type: 'failed', id, error: toPlain(error) })
  }
}

function post(message: FromReader, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}
