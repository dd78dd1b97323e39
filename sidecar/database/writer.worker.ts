import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import { type EngineWriter, EVERY_KEY, type StoredRecord } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { Committer } from './committer.ts'
import type { EpochRecord } from './database.ts'
import { reduceDigest } from './digest.ts'
import { headerOf } from './frame.ts'
import type { WriteRequest } from './operation.ts'
import { toPlain } from './plain-error.ts'
import { formatPosition, parsePosition } from './position.ts'
import type { ScanTotals } from './reader-protocol.ts'
import { totalsOf } from './record-stream.ts'
import { decodeEpochs, decodeState, EMPTY_STATE, encodeEpochs, encodeState, META } from './state.ts'
import {
  type Consumers,
  type FromWriter,
  packVerdicts,
  type ToWriter,
  unpackRequests,
  type WriterCalls,
  type WriterData,
} from './writer-protocol.ts'

/**
 * The writer's thread: the only place where the database changes. While a commit is on its way to the disk, messages gather
 * in the port; when it is done, all that gathered forms the next group. Reads and probes live in another thread and never wait.
 */

/** A group longer than this is committed before more is taken, so that latency stays bounded. */
const GROUP_REQUESTS = 4096
const GROUP_BYTES = 32 * 1024 * 1024
const TRIM_STEP = 4 * 1024 * 1024

const port = parentPort as MessagePort
const data = workerData as WriterData

const { engine, stored, committer, ...found } = await open()
let { epochs, consumers } = found
let logBounds = data.log
const cancelled = new Set<number>()
let freeze: { token: string; until: number; timer: NodeJS.Timeout } | undefined
/** Writes that arrived during a freeze. */
let held: Array<ToWriter & { type: 'write' }> = []
/** Messages that were taken from the port while a long call looked for its cancellation. */
const backlog: ToWriter[] = []

post({
  type: 'opened',
  share: engine.share,
  version: engine.version,
  ...(stored && { state: stored }),
  epochs,
})

/** Set while another process writes to the files: everything waits. */
let yielded: { readonly id: number; readonly waiting: ToWriter[] } | undefined

port.on('message', receive)

function receive(first: ToWriter): void {
  if (yielded) {
    if (first.type === 'cancel' && first.id === yielded.id) cancelled.add(first.id)
    else yielded.waiting.push(first)
    return
  }
  const group = newGroup()
  for (let message: ToWriter | undefined = first; message; message = backlog.shift() ?? take()) {
    if (message.type === 'write') {
      if (freeze) held.push(message)
      else addTo(group, message)
      if (group.ids.length >= GROUP_REQUESTS || group.bytes >= GROUP_BYTES) commitGroup(group)
    } else {
      commitGroup(group)
      if (message.type === 'cancel') cancelled.add(message.id)
      else call(message.id, message.name, message.args)
      if (yielded) return
    }
  }
  commitGroup(group)
}

interface Group {
  ids: number[]
  requests: WriteRequest[]
  bytes: number
}

function newGroup(): Group {
  return { ids: [], requests: [], bytes: 0 }
}

function addTo(group: Group, message: ToWriter & { type: 'write' }): void {
  for (const request of unpackRequests(message.packed, message.ids.length)) group.requests.push(request)
  for (const id of message.ids) group.ids.push(id)
  group.bytes += message.packed.length
}

function take(): ToWriter | undefined {
  return (receiveMessageOnPort(port) as { message: ToWriter } | undefined)?.message
}

/** The engine, and what it says of itself. A page that is damaged may show only in reading that. */
async function open() {
  let engine: EngineWriter | undefined
  try {
    engine = await openWriter(data.options)
    const meta = (name: string) => {
      const bytes = engine?.view.getMeta(name)
      return bytes && new Uint8Array(bytes)
    }
    const stored = meta(META.state)
    const epochs = meta(META.epochs)
    const consumers = meta(META.consumers)
    return {
      engine,
      stored,
      committer: new Committer(engine, stored ? decodeState(stored) : EMPTY_STATE, data.limits),
      epochs: epochs ? decodeEpochs(epochs) : [],
      consumers: consumers ? (JSON.parse(Buffer.from(consumers).toString()) as Consumers) : {},
    }
  } catch (error) {
    post({ type: 'failed', id: 0, error: toPlain(error instanceof SyntaxError ? unreadable(error) : error) })
    // its locks must not outlive this thread
    try {
      engine?.close()
    } catch {}
    throw error
  }
}

function unreadable(error: SyntaxError): KvidxError {
  return new KvidxError('engine_corrupt', `the metadata of the database cannot be read: ${error.message}`, {}, error)
}

function commitGroup(group: Group): void {
  let { ids, requests } = group
  group.ids = []
  group.requests = []
  group.bytes = 0
  while (ids.length > 0) {
    const done = commitFirst(ids, requests)
    ids = ids.slice(done)
    requests = requests.slice(done)
  }
}

/** One commit, and its answers; returns of how many requests it was. */
function commitFirst(group: readonly number[], requests: readonly WriteRequest[]): number {
  const began = performance.now()
  failpoint('commit.before')
  const verdicts = committer.commit(requests, BigInt(Date.now()))
  failpoint('commit.after')
  const elapsed = performance.now() - began
  const ids = Uint32Array.from(group.length === verdicts.length ? group : group.slice(0, verdicts.length))
  const { state } = committer
  post({
    type: 'committed',
    elapsed,
    ids,
    state: encodeState(state),
    verdicts: packVerdicts(verdicts, state.position),
  })
  trimLog()
  return verdicts.length
}

function call(id: number, name: keyof WriterCalls, args: unknown): void {
  try {
    const value = calls[name](args as never, id)
    if (value instanceof Promise) yieldUntil(id, value)
    else post({ type: 'result', id, value, state: encodeState(committer.state) })
    if (name === 'close') port.close()
  } catch (error) {
    post({ type: 'failed', id, error: toPlain(error) })
  } finally {
    if (yielded?.id !== id) cancelled.delete(id)
  }
}

/** Nothing touches the engine until the work is done. */
function yieldUntil(id: number, work: Promise<unknown>): void {
  yielded = { id, waiting: backlog.splice(0) }
  work
    .then(
      value => post({ type: 'result', id, value, state: encodeState(committer.state) }),
      (error: unknown) => post({ type: 'failed', id, error: toPlain(error) }),
    )
    .finally(() => {
      cancelled.delete(id)
      backlog.push(...(yielded?.waiting ?? []))
      yielded = undefined
      const first = backlog.shift()
      if (first) receive(first)
    })
    .catch((error: unknown) => {
      // a commit whose outcome nobody knows: this thread must not live on
      queueMicrotask(() => {
        throw error
      })
    })
}

const calls: {
  [N in keyof WriterCalls]: (args: WriterCalls[N][0], id: number) => WriterCalls[N][1] | Promise<WriterCalls[N][1]>
} = {
  expire: ({ until, limit, budgetMs }) => {
    failpoint('expire.slice')
    // a snapshot of the volume is being taken, and it is to hold the position that the freeze answered
    if (freeze) return { removed: 0, more: false }
    const end = performance.now() + budgetMs
    const slice = committer.expire(until, limit, BigInt(Date.now()), () => performance.now() < end)
    trimLog()
    return slice
  },
  checkpoint: ({ mode }) => ({ walBytes: engine.checkpoint(mode) }),
  reclaim: ({ budgetMs }) => {
    failpoint('reclaim.slice')
    return { done: engine.reclaim(budgetMs) }
  },
  compact: ({ scratch }, id) => {
    if (freeze) throw new KvidxError('conflict', 'the database is frozen')
    return engine.compact(progressOf(id), scratch)?.then(() => ({})) ?? {}
  },
  compactInto: ({ directory }, id) => {
    engine.compactInto(directory, progressOf(id))
    return {}
  },
  flush: () => {
    engine.flush()
    return {}
  },
  figures: () => engine.figures(),
  freeze: ({ token, ms }) => {
    if (freeze) throw new KvidxError('conflict', 'the database is frozen already')
    engine.flush()
    freeze = { token, until: performance.now() + ms, timer: setTimeout(() => endFreeze(), ms) }
    return { expiresAt: Date.now() + ms }
  },
  thaw: ({ token }) => {
    if (freeze?.token !== token) return { withinLease: false }
    const withinLease = performance.now() < freeze.until
    endFreeze()
    return { withinLease }
  },
  endFreeze: () => {
    endFreeze()
    return {}
  },
  recount: ({ reason, always, time, after }, id) => {
    endFreeze()
    const orphans = dropOrphans()
    const totals = totalsOf(engine.view)
    let found = totals.step()
    const progress = progressOf(id)
    while (!found) {
      if (progress(totals.seen, Number(committer.state.count)))
        throw new KvidxError('cancelled', 'the recount was cancelled')
      found = totals.step()
    }
    const { state } = committer
    const differed =
      found.count !== state.count ||
      found.dataBytes !== state.dataBytes ||
      found.digest !== state.digest ||
      found.expiring !== state.expiring
    if (differed || always) enterEpoch(reason, time, found, after)
    return { differed, orphanExpiries: orphans, epochs }
  },
  adjust: ({ difference, time }) => {
    const { count, dataBytes, digest, expiring } = committer.state
    enterEpoch('foreignWrites', time, {
      count: count + difference.count,
      dataBytes: dataBytes + difference.dataBytes,
      digest: reduceDigest(digest + difference.digest),
      expiring: expiring + difference.expiring,
    })
    return { epochs }
  },
  beginEpoch: ({ reason, time, behind }) => {
    endFreeze()
    enterEpoch(reason, time, undefined, behind)
    return { epochs }
  },
  setConsumer: ({ name, position, ...times }) => {
    const { [name]: _, ...rest } = liveConsumers()
    keepConsumers(position ? { ...rest, [name]: { position: formatPosition(position), ...times } } : rest)
    return {}
  },
  lapseConsumers: ({ seenBefore }) => {
    const live = Object.entries(liveConsumers())
    const due = live.filter(([, { lapsed, seen }]) => !lapsed && seen < seenBefore)
    if (due.length > 0) {
      const gone = due.map(([name, consumer]) => [name, { ...consumer, lapsed: true }])
      keepConsumers({ ...Object.fromEntries(live), ...Object.fromEntries(gone) })
      trimLog()
    }
    return live.filter(([name]) => consumers[name]?.lapsed).map(([name]) => name)
  },
  configure: given => {
    logBounds = given.log
    trimLog()
    return {}
  },
  shrinkLog: ({ bytes }) => {
    dropFrames(Number(committer.state.logBytes) - bytes, true)
    return {}
  },
  consumers: liveConsumers,
  close: () => {
    endFreeze()
    engine.close()
    return {}
  },
}

/** A new epoch at the present seq; with `found` the counters are those of a scan and the log restarts here. */
function enterEpoch(reason: EpochRecord['reason'], time: bigint, found?: ScanTotals, behind = 0n): void {
  const { state } = committer
  const parent = epochs.at(-1)
  const newest = parent?.epoch ?? 0n
  const epoch = (newest > behind ? newest : behind) + 1n
  const next = [
    ...epochs,
    { epoch, ...(parent && { parentEpoch: parent.epoch }), forkSeq: state.position.seq, reason, time },
  ]
  // a change that nobody saw takes a seq of its own, which no file of changes has: a restore sees that one is missing
  const unseen = parent !== undefined && found !== undefined
  const position = { epoch, seq: state.position.seq + (unseen ? 1n : 0n) }
  const after = found ? { ...state, ...found, position, logBase: position, logBytes: 0n } : { ...state, position }
  engine.transact(transaction => {
    if (found) {
      transaction.trimLog(state.position.seq)
      transaction.putMeta(META.consumers, Buffer.from('{}'))
    }
    transaction.putMeta(META.epochs, encodeEpochs(next))
    transaction.putMeta(META.state, encodeState(after))
  })
  if (found) consumers = {}
  epochs = next
  committer.adopt(after)
}

/** Expiries whose record is gone: kvidxkit leaves them behind when it removes a record. */
function dropOrphans(): number {
  const orphans: Array<{ key: bigint; expiresAt: bigint }> = []
  const expiries: Array<{ key: bigint; expiresAt: bigint }> = []
  engine.view.scanExpiries(EVERY_KEY.end, Number.MAX_SAFE_INTEGER, expiry => {
    expiries.push(expiry)
  })
  for (const expiry of expiries) if (!engine.view.get(expiry.key)) orphans.push(expiry)
  // kvidxkit takes an expiry of 0 for a moment long past; for the engines it means none
  const long = expiries.filter(expiry => expiry.expiresAt === 0n)
  if (long.length > 0)
    engine.transact(transaction => {
      for (const { key } of long) {
        const old = transaction.get(key)
        if (old) transaction.replace(copyOf(old), { ...copyOf(old), expiresAt: 1n })
      }
    })
  if (orphans.length > 0)
    engine.transact(transaction => {
      for (const { key, expiresAt } of orphans)
        transaction.remove({ key, expiresAt, term: 0n, cmd: 0n, data: new Uint8Array(0) })
    })
  return orphans.length
}

/** A record's data is borrowed until the next call. */
function copyOf(record: StoredRecord): StoredRecord {
  return { ...record, data: Buffer.from(record.data) }
}

function endFreeze(): void {
  if (!freeze) return
  clearTimeout(freeze.timer)
  freeze = undefined
  const group = newGroup()
  for (const message of held) addTo(group, message)
  held = []
  commitGroup(group)
}

/** Drops the oldest frames when the log is above its bound: what consumers still need only when it is above the larger one. */
function trimLog(): void {
  const { logBytes, logBase } = committer.state
  const bytes = Number(logBytes)
  // trimmed in steps: at every commit it would cost each a little, all at once it would hold one up
  const overMax = bytes > logBounds.maxBytes + TRIM_STEP
  const overIdle = bytes > logBounds.idleBytes + TRIM_STEP && slowestConsumer() > logBase.seq
  if (overIdle || overMax) dropFrames(bytes - (overMax ? logBounds.maxBytes : logBounds.idleBytes), overMax)
}

/** Without those whose lease has run out: what a job left behind that was killed. */
function liveConsumers(): Consumers {
  const now = Date.now()
  return Object.fromEntries(Object.entries(consumers).filter(([, { until }]) => until === undefined || until > now))
}

function keepConsumers(next: Consumers): void {
  engine.transact(transaction => transaction.putMeta(META.consumers, Buffer.from(JSON.stringify(next))))
  consumers = next
}

function slowestConsumer(): bigint {
  return Object.values(liveConsumers())
    .filter(({ lapsed }) => !lapsed)
    .map(consumer => parsePosition(consumer.position, 'consumer').seq)
    .reduce((least, seq) => (seq < least ? seq : least), committer.state.position.seq)
}

/** Drops whole frames of about so many bytes, the newest never; `needed`: also what consumers have not seen. */
function dropFrames(bytes: number, needed: boolean): void {
  const { logBase, position } = committer.state
  const slowest = slowestConsumer()
  let excess = bytes
  let through = logBase
  engine.view.scanLog(logBase.seq + 1n, frame => {
    if (excess <= 0 || (!needed && frame.lastSeq > slowest) || frame.lastSeq >= position.seq) return false
    excess -= frame.frame.length
    through = {
      epoch: headerOf(Buffer.from(frame.frame.buffer, frame.frame.byteOffset, frame.frame.byteLength)).epoch,
      seq: frame.lastSeq,
    }
    return true
  })
  if (through !== logBase) committer.trim(through)
}

function progressOf(id: number): (done: number, total: number) => boolean {
  let last = 0
  return (done, total) => {
    if (performance.now() - last > 200) {
      last = performance.now()
      post({ type: 'progress', id, done, total })
      // cancelling is a message like any other, and this thread is busy: look for it
      for (let next = take(); next; next = take()) {
        if (next.type === 'cancel') cancelled.add(next.id)
        else (yielded?.waiting ?? backlog).push(next)
      }
    }
    return cancelled.has(id)
  }
}

function post(message: FromWriter): void {
  port.postMessage(message)
}
