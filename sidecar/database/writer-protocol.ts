import { KvidxError } from '../../src/common/errors.ts'
import type { EngineOptions, EngineShare } from '../engine/engine.ts'
import { Bytes } from './bytes.ts'
import type { CommitLimits, Verdict } from './committer.ts'
import type { EpochRecord } from './database.ts'
import { readDigest, writeDigest } from './digest.ts'
import type { OperationOutcome, Position, WriteRequest } from './operation.ts'
import { operationSize, readOperations, writeOperation } from './operation-codec.ts'
import { fromPlain, type PlainError, toPlain } from './plain-error.ts'
import type { ScanTotals } from './reader-protocol.ts'

/** What goes between the servers' thread and the writer's thread. */

export interface WriterData {
  readonly options: EngineOptions
  readonly limits: CommitLimits
  /** Bytes of log frames kept: with consumers, and without. */
  readonly log: { readonly maxBytes: number; readonly idleBytes: number }
}

export interface WriterOpened {
  readonly type: 'opened'
  readonly share: EngineShare
  readonly version: string
  /** Absent: the engine holds no state of ours, so the database is new or another's. */
  readonly state?: Uint8Array
  readonly epochs: readonly EpochRecord[]
}

/** Consumers of the change log by name. One with `until` (Unix ms) is forgotten then; one that is `lapsed` pins nothing until it comes back. */
export type Consumers = Readonly<
  Record<
    string,
    { readonly position: string; readonly seen: number; readonly until?: number; readonly lapsed?: boolean }
  >
>

/** What a scan found less what the counters said, at one position. Whatever was committed since, the counters are off by just this. */
export type CounterDifference = ScanTotals

/** What a recount found. */
export interface Recount {
  readonly differed: boolean
  readonly orphanExpiries: number
  readonly epochs: readonly EpochRecord[]
}

/** Everything that is not a write: name, arguments, result. */
export interface WriterCalls {
  /** One commit, of about `budgetMs` before it goes to the disk. */
  expire: [{ until: bigint; limit: number; budgetMs: number }, { removed: number; more: boolean }]
  checkpoint: [{ mode: 'passive' | 'truncate' }, { walBytes: number }]
  reclaim: [{ budgetMs: number }, { done: boolean }]
  /** `scratch`: a directory on the volume for what is needed meanwhile. */
  compact: [{ scratch: string }, Record<string, never>]
  compactInto: [{ directory: string }, Record<string, never>]
  flush: [Record<string, never>, Record<string, never>]
  figures: [Record<string, never>, import('../engine/engine.ts').EngineFigures]
  freeze: [{ token: string; ms: number }, { expiresAt: number }]
  /** Ends a freeze, whoever has it: what waits for it is committed before anything that comes next. */
  endFreeze: [Record<string, never>, Record<string, never>]
  thaw: [{ token: string }, { withinLease: boolean }]
  /**
   * Scans everything and compares with the counters. Where they differ, or with `always`, writes what was found and begins the epoch `reason`;
   * the log restarts here. The epoch is behind `after`, too. Expiries without a record are dropped.
   */
  recount: [{ reason: EpochRecord['reason']; always: boolean; time: bigint; after?: bigint }, Recount]
  /** Corrects the counters, and begins the epoch `foreignWrites`; the log restarts there. */
  adjust: [{ difference: CounterDifference; time: bigint }, { epochs: readonly EpochRecord[] }]
  /** Begins an epoch at the present seq; it is behind `behind`, too. */
  beginEpoch: [{ reason: EpochRecord['reason']; time: bigint; behind?: bigint }, { epochs: readonly EpochRecord[] }]
  /** New bounds of the log. */
  configure: [{ log: WriterData['log'] }, Record<string, never>]
  /** Drops the oldest frames, whoever needs them, until the log has about `bytes`. */
  shrinkLog: [{ bytes: number }, Record<string, never>]
  setConsumer: [{ name: string; position?: Position; seen: number; until?: number }, Record<string, never>]
  /** Consumers last seen before `seenBefore` (Unix ms) pin the log no longer. Answers who does not. */
  lapseConsumers: [{ seenBefore: number }, readonly string[]]
  consumers: [Record<string, never>, Consumers]
  close: [Record<string, never>, Record<string, never>]
}

export type CallName = keyof WriterCalls

export type ToWriter =
  /** `packed`: for each id opCount u32, byteLength u32, the operations. */
  | { readonly type: 'write'; readonly ids: Uint32Array; readonly packed: Uint8Array }
  | { readonly type: 'call'; readonly id: number; readonly name: CallName; readonly args: unknown }
  | { readonly type: 'cancel'; readonly id: number }

export type FromWriter =
  | WriterOpened
  /** One group, and the state after it. */
  | {
      readonly type: 'committed'
      /** What the group took in the writer's thread, ms. */
      readonly elapsed: number
      readonly ids: Uint32Array
      readonly state: Uint8Array
      readonly verdicts: PackedVerdicts
    }
  | { readonly type: 'state'; readonly state: Uint8Array }
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown; readonly state: Uint8Array }
  | { readonly type: 'failed'; readonly id: number; readonly error: PlainError }

export function packRequests(requests: readonly WriteRequest[]): Uint8Array<ArrayBuffer> {
  let size = 0
  for (const request of requests) {
    size += 8
    for (const operation of request.operations) size += operationSize(operation)
  }
  const packed = new Bytes(size)
  let at = 0
  for (const request of requests) {
    const start = at
    at += 8
    for (const operation of request.operations) at = writeOperation(packed, at, operation)
    packed.view.setUint32(start, request.operations.length, true)
    packed.view.setUint32(start + 4, at - start - 8, true)
  }
  return new Uint8Array(packed.buffer.buffer as ArrayBuffer, 0, at)
}

export function unpackRequests(packed: Uint8Array, count: number): WriteRequest[] {
  const source = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength)
  const requests: WriteRequest[] = []
  let at = 0
  for (let i = 0; i < count; i++) {
    const operations = source.readUInt32LE(at)
    const end = at + 8 + source.readUInt32LE(at + 4)
    requests.push({ operations: readOperations(source, at + 8, end, operations, true) })
    at = end
  }
  return requests
}

/**
 * Verdicts of a group. The usual ones, whose operations all wrote a record, travel as bytes: cloning nested objects would cost more than a
 * request's share of the commit.
 */
export interface PackedVerdicts {
  /** Outcomes of each request; 0: its verdict stands in `others`. */
  readonly counts: Uint32Array
  /** Of each outcome 1 where the record is new. */
  readonly created: Uint8Array
  /** Of each outcome the record's digest, u128 little-endian. */
  readonly digests: Uint8Array
  readonly others: ReadonlyArray<readonly [index: number, verdict: Exclude<Verdict, KvidxError> | PlainError]>
}

/** @param position after the group: with another one a verdict travels whole, of requests that were committed one by one each has its own */
export function packVerdicts(verdicts: readonly Verdict[], position: Position): PackedVerdicts {
  const counts = new Uint32Array(verdicts.length)
  const others: Array<PackedVerdicts['others'][number]> = []
  let total = 0
  for (const [index, verdict] of verdicts.entries()) {
    if (verdict instanceof KvidxError) others.push([index, toPlain(verdict)])
    else if (
      verdict.applied &&
      verdict.position.seq === position.seq &&
      verdict.outcomes.length > 0 &&
      verdict.outcomes.every(wroteRecord)
    ) {
      counts[index] = verdict.outcomes.length
      total += verdict.outcomes.length
    } else others.push([index, verdict])
  }
  const created = new Uint8Array(total)
  const digests = new Bytes(total * 16)
  let at = 0
  for (const [index, verdict] of verdicts.entries()) {
    if (counts[index] === 0 || verdict instanceof KvidxError) continue
    for (const outcome of verdict.outcomes as readonly WroteRecord[]) {
      if (outcome.created) created[at] = 1
      writeDigest(digests.view, at * 16, outcome.digest)
      at++
    }
  }
  return { counts, created, digests: digests.buffer, others }
}

/** The verdicts by their index, those of `others` last. */
export function* unpackVerdicts(
  packed: PackedVerdicts,
  position: Position,
): Generator<readonly [index: number, verdict: Verdict]> {
  const { counts, created } = packed
  const digests = Buffer.from(packed.digests.buffer, packed.digests.byteOffset, packed.digests.byteLength)
  let at = 0
  for (const [index, count] of counts.entries()) {
    if (count === 0) continue
    const outcomes: OperationOutcome[] = []
    for (let i = 0; i < count; i++, at++) {
      const digest = readDigest(digests, at * 16)
      outcomes.push(created[at] ? { outcome: 'changed', created: true, digest } : { outcome: 'changed', digest })
    }
    yield [index, { position, applied: true, outcomes }]
  }
  for (const [index, verdict] of packed.others) yield [index, 'code' in verdict ? fromPlain(verdict) : verdict]
}

type WroteRecord = Extract<OperationOutcome, { outcome: 'changed' }> & { readonly digest: bigint }

/** Changed or created a record, and there is nothing else to tell. */
function wroteRecord(outcome: OperationOutcome): outcome is WroteRecord {
  return (
    outcome.outcome === 'changed' &&
    outcome.digest !== undefined &&
    outcome.previous === undefined &&
    outcome.length === undefined
  )
}
