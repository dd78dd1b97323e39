import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { EngineWriter, KeyRange, StoredRecord, WriteTransaction } from '../engine/engine.ts'
import type { DatabaseState } from './database.ts'
import { digestOfRecord, reduceDigest } from './digest.ts'
import { FrameBuilder, MAX_REQUEST_BYTES, PUT_OVERHEAD } from './frame.ts'
import type {
  Condition,
  ExpiryChange,
  Operation,
  OperationOutcome,
  Position,
  VisibleRecord,
  WriteRequest,
  WriteResult,
} from './operation.ts'
import { encodeState, META } from './state.ts'

export interface CommitLimits {
  /** Largest data of one record, bytes. */
  readonly maxDataBytes: number
  /** What one request may write, what it may remove by ranges or have to put back, and what it may answer of before: each, bytes. */
  readonly atomicBytes: number
  /** Records that the range removals of one request may remove. */
  readonly atomicRecords: number
}

/** What a request came to: a result, or the error that refused it alone. */
export type Verdict = WriteResult | KvidxError

type Changed = Extract<OperationOutcome, { outcome: 'changed' }>

/** Frame and answers of a group; beyond it the rest is a group of its own, so that many small requests on large records fit into memory. Bytes. */
const GROUP_BYTES = 32 * 1024 * 1024

/** An answer of more, as JSON, would be longer than the longest string of V8. Bytes. */
const PREVIOUS_BYTES = 256 * 1024 * 1024

/** Records between two looks at the clock. */
const EXPIRE_CHECK = 16

const NO_DATA = new Uint8Array(0)
const U64_MAX = 0xffff_ffff_ffff_ffffn

/**
 * Judges requests and commits those that hold: one engine transaction, one frame, one position for a group of requests.
 * Synchronous; lives in the writer's thread. Every request is atomic by itself, whatever becomes of its neighbours.
 */
export class Committer {
  readonly #engine: EngineWriter
  readonly #limits: CommitLimits
  readonly #frame = new FrameBuilder()
  #state: DatabaseState

  // the state while a transaction is being judged
  #count = 0n
  #dataBytes = 0n
  #digest = 0n
  #expiring = 0n
  /** How to take back what the current request did; undefined when it cannot fail half-way. */
  #undo: Array<(transaction: WriteTransaction) => void> | undefined
  // what the current request came to, bytes and records: see CommitLimits
  #written = 0
  #mostWritten = 0
  #taken = 0
  #takenRecords = 0
  #previous = 0
  /** Bytes of records that the answers of this transaction carry. */
  #answered = 0

  constructor(engine: EngineWriter, state: DatabaseState, limits: CommitLimits) {
    this.#engine = engine
    this.#state = state
    this.#limits = limits
  }

  /** After the last commit. */
  get state(): DatabaseState {
    return this.#state
  }

  /**
   * Commits a group at wall-clock time `now` (Unix ms). One verdict for each request, in order, from the first on: a group that comes to
   * more than one frame should hold is cut, and the rest is to be given again. When the engine refuses the group (no space, say), each request is tried alone, so that one that cannot be stored does not take the others with it.
   * Throws engine_io, engine_corrupt, internal: the outcome is unknown and this engine must not be used any more.
   */
  commit(requests: readonly WriteRequest[], now: bigint): Verdict[] {
    try {
      return this.#transact(requests, now)
    } catch (error) {
      const failure = refusal(error)
      if (requests.length <= 1) return requests.map(() => failure)
      return requests.map(request => {
        try {
          return this.#transact([request], now)[0] as Verdict
        } catch (single) {
          return refusal(single)
        }
      })
    }
  }

  /**
   * Removes at most `limit` records whose expiry is at or before `until`, as ordinary logged removes, in one commit.
   * Returns how many, and whether more are due. @param within asked now and then: false ends the commit early
   */
  expire(
    until: bigint,
    limit: number,
    now: bigint,
    within: () => boolean = () => true,
  ): { removed: number; more: boolean } {
    let removed = 0
    let more = false
    this.#run(now, transaction => {
      removed = 0
      const due: Array<{ key: bigint; expiresAt: bigint }> = []
      transaction.scanExpiries(until, limit, entry => {
        due.push(entry)
      })
      more = due.length === limit
      for (const [index, { key, expiresAt }] of due.entries()) {
        if (index % EXPIRE_CHECK === EXPIRE_CHECK - 1 && !within()) {
          more = true
          break
        }
        const old = transaction.get(key)
        if (!old) {
          // left behind by another program; it would come up for ever
          transaction.remove({ key, expiresAt, term: 0n, cmd: 0n, data: NO_DATA })
          continue
        }
        this.#forget(old)
        transaction.remove(old)
        this.#frame.remove(key)
        removed++
      }
    })
    return { removed, more }
  }

  /** Trims the log so that every frame up to `through` is gone; the log's base moves there. */
  trim(through: Position): void {
    this.#state = this.#engine.transact(transaction => {
      const freed = transaction.trimLog(through.seq)
      const state = { ...this.#state, logBase: through, logBytes: this.#state.logBytes - BigInt(freed) }
      transaction.putMeta(META.state, encodeState(state))
      return state
    }, true)
  }

  /** Takes over a state that was written by other means (recovery, new epoch). */
  adopt(state: DatabaseState): void {
    this.#state = state
  }

  #transact(requests: readonly WriteRequest[], now: bigint): Verdict[] {
    const verdicts: Array<{ applied: boolean; outcomes: OperationOutcome[] } | KvidxError> = []
    this.#run(now, transaction => {
      verdicts.length = 0
      this.#answered = 0
      const most = Math.min(GROUP_BYTES, this.#limits.atomicBytes)
      for (const request of requests) {
        verdicts.push(this.#judge(transaction, request, now))
        if (this.#frame.byteLength + this.#answered > most) break
      }
    })
    const position = this.#state.position
    return verdicts.map(verdict => (verdict instanceof KvidxError ? verdict : { position, ...verdict }))
  }

  /** One engine transaction: `body` makes changes, then frame and state are written if there were any. */
  #run(now: bigint, body: (transaction: WriteTransaction) => void): void {
    const before = this.#state
    const time = now > before.time ? now : before.time
    let after = before
    this.#engine.transact(transaction => {
      this.#frame.reset()
      this.#count = before.count
      this.#dataBytes = before.dataBytes
      this.#digest = before.digest
      this.#expiring = before.expiring
      body(transaction)
      const changes = BigInt(this.#frame.changeCount)
      if (changes === 0n) return
      const digest = reduceDigest(this.#digest)
      const first = { epoch: before.position.epoch, seq: before.position.seq + 1n }
      const lastSeq = before.position.seq + changes
      const frame = this.#frame.finish(first, time, { count: this.#count, dataBytes: this.#dataBytes, digest })
      after = {
        ...before,
        position: { epoch: before.position.epoch, seq: lastSeq },
        time,
        count: this.#count,
        dataBytes: this.#dataBytes,
        digest,
        expiring: this.#expiring,
        logBytes: before.logBytes + BigInt(frame.length),
      }
      transaction.appendLog({ firstSeq: first.seq, lastSeq, frame })
      transaction.putMeta(META.state, encodeState(after))
      failpoint('commit.within')
    }, true)
    // only now: had the engine thrown, nothing would have changed
    this.#state = after
  }

  #judge(
    transaction: WriteTransaction,
    request: WriteRequest,
    now: bigint,
  ): { applied: boolean; outcomes: OperationOutcome[] } | KvidxError {
    const { operations } = request
    this.#written = 0
    for (const operation of operations) {
      if (operation.op !== 'put') continue
      if (operation.data.length > this.#limits.maxDataBytes) return this.#tooLong(operation.key, operation.data.length)
      this.#written += operation.data.length
    }
    this.#mostWritten = Math.min(this.#limits.atomicBytes, MAX_REQUEST_BYTES - operations.length * PUT_OVERHEAD)
    if (this.#written > this.#mostWritten) return tooMuch('writes', this.#mostWritten)
    this.#taken = 0
    this.#takenRecords = 0
    this.#previous = 0
    // unconditional puts and removes cannot fail, so the usual batch pays nothing for the way back
    this.#undo = operations.length > 1 && operations.some(canFail) ? [] : undefined
    const mark = this.#frame.mark()
    const before = { count: this.#count, dataBytes: this.#dataBytes, digest: this.#digest, expiring: this.#expiring }
    const outcomes: OperationOutcome[] = []
    let refusal: KvidxError | undefined
    let applied = true
    for (const operation of operations) {
      let outcome: OperationOutcome | undefined
      try {
        outcome = this.#apply(transaction, operation, now)
      } catch (error) {
        // what the engine throws ends the transaction; our own refusals concern this request alone
        if (!(error instanceof KvidxError) || error.code !== 'too_large') throw error
        refusal = error
      }
      if (outcome) outcomes.push(outcome)
      if (
        refusal ||
        (outcome?.outcome === 'condition_failed' && !('optional' in operation && operation.optional)) ||
        outcome?.outcome === 'not_found'
      ) {
        applied = false
        break
      }
    }
    if (!applied) {
      for (const step of (this.#undo ?? []).reverse()) step(transaction)
      this.#frame.rewind(mark)
      this.#count = before.count
      this.#dataBytes = before.dataBytes
      this.#digest = before.digest
      this.#expiring = before.expiring
    }
    this.#undo = undefined
    return refusal ?? { applied, outcomes }
  }

  #apply(transaction: WriteTransaction, operation: Operation, now: bigint): OperationOutcome {
    if (operation.op === 'removeRange') return this.#removeRange(transaction, operation.range, now)
    if (operation.op === 'put' && !operation.condition && !operation.returnPrevious) {
      // most puts are new keys: try that before reading what might be there
      const record: StoredRecord = {
        key: operation.key,
        term: operation.term,
        cmd: operation.cmd,
        data: operation.data,
        expiresAt: expiryTime(operation.expiry, now),
      }
      if (transaction.insert(record)) return this.#added(record)
      const old = transaction.get(operation.key)
      if (!old) throw new KvidxError('engine_corrupt', `key ${operation.key} is neither there nor absent`)
      return this.#replace(transaction, old, record, isVisible(old, now))
    }
    const old = transaction.get(operation.key)
    const visible = old && isVisible(old, now) ? old : undefined
    const digest =
      visible && (operation.condition?.digest !== undefined || operation.op === 'expiry')
        ? digestOfRecord(visible)
        : undefined
    if (operation.condition && !holds(operation.condition, visible, digest))
      return { outcome: 'condition_failed', ...(visible && { digest: digest ?? digestOfRecord(visible) }) }
    const previous = operation.returnPrevious && visible ? { previous: this.#previousOf(visible) } : undefined
    switch (operation.op) {
      case 'put': {
        const record = {
          key: operation.key,
          term: operation.term,
          cmd: operation.cmd,
          data: operation.data,
          expiresAt: expiryTime(operation.expiry, now),
        }
        return this.#store(transaction, old, record, visible !== undefined, previous)
      }
      case 'append':
      case 'prepend': {
        const parts = visible
          ? operation.op === 'append'
            ? [visible.data, operation.data]
            : [operation.data, visible.data]
          : [operation.data]
        this.#checkLength(
          operation.key,
          parts.reduce((sum, part) => sum + part.length, 0),
        )
        const base = visible ?? { term: operation.term, cmd: operation.cmd, expiresAt: 0n }
        const record = {
          key: operation.key,
          term: base.term,
          cmd: base.cmd,
          data: Buffer.concat(parts),
          expiresAt: base.expiresAt,
        }
        return this.#store(transaction, old, record, visible !== undefined, { ...previous, length: record.data.length })
      }
      case 'splice': {
        if (!visible) return { outcome: 'not_found' }
        const length = Math.max(visible.data.length, operation.offset + operation.data.length)
        this.#checkLength(operation.key, length)
        const data = Buffer.alloc(length)
        data.set(visible.data)
        data.set(operation.data, operation.offset)
        return this.#store(transaction, old, { ...visible, data }, true, { ...previous, length })
      }
      case 'remove': {
        if (!old) return { outcome: 'unchanged' }
        this.#forget(old)
        if (this.#undo) {
          const kept = this.#keep(old)
          this.#undo.push(t => void t.insert(kept))
        }
        transaction.remove(old)
        this.#frame.remove(operation.key)
        // an expired record is absent to the client, but its removal is a change of what is stored
        return visible ? { outcome: 'changed', removed: 1, ...previous } : { outcome: 'unchanged' }
      }
      case 'expiry': {
        if (!visible) return { outcome: 'not_found' }
        const expiresAt = expiryTime(operation.expiry, now)
        if (expiresAt === visible.expiresAt) return { outcome: 'unchanged', ...(digest !== undefined && { digest }) }
        const kept = copyRecord(visible)
        const record = { ...kept, expiresAt }
        // the data is where it was: read again then, not held until then
        if (this.#undo) this.#undo.push(t => restoreExpiry(t, kept.key, kept.expiresAt))
        this.#forget(kept)
        transaction.replace(kept, record)
        this.#frame.expiry(operation.key, expiresAt)
        return { outcome: 'changed', digest: this.#remember(record, digestOfRecord(record)) }
      }
    }
  }

  #store(
    transaction: WriteTransaction,
    old: StoredRecord | undefined,
    record: StoredRecord,
    wasVisible: boolean,
    extra: Partial<Changed> = {},
  ): Changed {
    if (old) return { ...this.#replace(transaction, old, record, wasVisible), ...extra }
    if (!transaction.insert(record))
      throw new KvidxError('engine_corrupt', `key ${record.key} is neither there nor absent`)
    return { ...this.#added(record), ...extra }
  }

  #added(record: StoredRecord): Changed {
    if (this.#undo) this.#undo.push(t => t.remove(record))
    return { outcome: 'changed', created: true, digest: this.#remember(record, this.#frame.put(record)) }
  }

  #replace(transaction: WriteTransaction, old: StoredRecord, record: StoredRecord, wasVisible: boolean): Changed {
    this.#forget(old)
    if (this.#undo) {
      const kept = this.#keep(old)
      const head = { ...record, data: NO_DATA }
      this.#undo.push(t => t.replace(head, kept))
    }
    transaction.replace(old, record)
    const digest = this.#remember(record, this.#frame.put(record))
    return wasVisible ? { outcome: 'changed', digest } : { outcome: 'changed', created: true, digest }
  }

  #removeRange(transaction: WriteTransaction, range: KeyRange, now: bigint): OperationOutcome {
    const { atomicBytes, atomicRecords } = this.#limits
    let stored = 0
    let visible = 0
    const kept: StoredRecord[] = []
    transaction.scan(range, false, record => {
      stored++
      this.#takenRecords++
      this.#taken += record.data.length
      if (this.#takenRecords > atomicRecords || this.#taken > atomicBytes) return false
      if (isVisible(record, now)) visible++
      this.#forget(record)
      if (this.#undo) kept.push(copyRecord(record))
      return true
    })
    if (this.#takenRecords > atomicRecords || this.#taken > atomicBytes)
      throw new KvidxError(
        'too_large',
        `the range holds more than one commit may remove (allowed: ${atomicRecords} records, ${atomicBytes} bytes); atomic=false removes it in slices`,
        { maxRecords: atomicRecords, maxBytes: atomicBytes },
      )
    if (stored === 0) return { outcome: 'unchanged' }
    if (this.#undo) this.#undo.push(t => kept.forEach(record => void t.insert(record)))
    transaction.removeRange(range)
    this.#frame.removeRange(range, BigInt(stored))
    return { outcome: 'changed', removed: visible }
  }

  /** Takes a stored record out of the counters. */
  #forget(old: StoredRecord): void {
    this.#count--
    this.#dataBytes -= BigInt(old.data.length)
    this.#digest -= digestOfRecord(old)
    if (old.expiresAt !== 0n) this.#expiring--
  }

  /** Takes a record into the counters. */
  #remember(record: StoredRecord, digest: bigint): bigint {
    this.#count++
    this.#dataBytes += BigInt(record.data.length)
    this.#digest += digest
    if (record.expiresAt !== 0n) this.#expiring++
    return digest
  }

  /** Before a record is written that was made of what is there. */
  #checkLength(key: bigint, length: number): void {
    if (length > this.#limits.maxDataBytes) throw this.#tooLong(key, length)
    this.#written += length
    if (this.#written > this.#mostWritten) throw tooMuch('writes', this.#mostWritten)
  }

  /** A copy for the way back. */
  #keep(old: StoredRecord): StoredRecord {
    this.#taken += old.data.length
    if (this.#taken > this.#limits.atomicBytes) throw tooMuch('replaces or removes', this.#limits.atomicBytes)
    return copyRecord(old)
  }

  /** A copy for the answer. */
  #previousOf(visible: StoredRecord): VisibleRecord {
    const most = Math.min(this.#limits.atomicBytes, PREVIOUS_BYTES)
    this.#previous += visible.data.length
    if (this.#previous > most) throw tooMuch('returns', most)
    this.#answered += visible.data.length
    return copyVisible(visible)
  }

  #tooLong(key: bigint, length: number): KvidxError {
    const maxBytes = this.#limits.maxDataBytes
    return new KvidxError('too_large', `key ${key}: the data has ${length} bytes (allowed: ${maxBytes})`, {
      field: 'data',
      maxBytes,
    })
  }
}

/** What a failed transaction means for its requests; rethrown when only a restart, with its recovery, can tell what is on the disk. */
function refusal(error: unknown): KvidxError {
  if (error instanceof KvidxError && !['engine_io', 'engine_corrupt', 'internal'].includes(error.code)) return error
  throw error
}

/** An expired record is gone for every reader from the very millisecond of its expiry. */
export function isVisible(record: { readonly expiresAt: bigint }, now: bigint): boolean {
  return record.expiresAt === 0n || record.expiresAt > now
}

/** Puts were measured before the first of them is done. */
function canFail(operation: Operation): boolean {
  if (operation.op === 'put' || operation.op === 'remove')
    return operation.condition !== undefined || operation.returnPrevious !== undefined
  return true
}

function tooMuch(does: string, most: number): KvidxError {
  return new KvidxError(
    'too_large',
    `the request ${does} more bytes of records than one commit may (allowed: ${most}); nothing of it was done`,
    { maxBytes: most },
  )
}

function restoreExpiry(transaction: WriteTransaction, key: bigint, expiresAt: bigint): void {
  const found = transaction.get(key)
  if (!found) throw new KvidxError('engine_corrupt', `key ${key} is gone within its transaction`)
  const record = copyRecord(found)
  transaction.replace(record, { ...record, expiresAt })
}

function holds(condition: Condition, visible: StoredRecord | undefined, digest: bigint | undefined): boolean {
  if (condition.absent && visible) return false
  if (condition.present && !visible) return false
  if (condition.digest !== undefined && (!visible || digest !== condition.digest)) return false
  return condition.term === undefined || visible?.term === condition.term
}

/** Absolute expiry; a time beyond the range of u64 never comes and is the last representable one. */
function expiryTime(expiry: ExpiryChange | undefined, now: bigint): bigint {
  if (!expiry) return 0n
  if ('at' in expiry) return expiry.at
  const at = now + expiry.after
  return at > U64_MAX ? U64_MAX : at
}

function copyRecord(record: StoredRecord): StoredRecord {
  return {
    key: record.key,
    term: record.term,
    cmd: record.cmd,
    data: Buffer.from(record.data),
    expiresAt: record.expiresAt,
  }
}

function copyVisible(record: StoredRecord): VisibleRecord {
  const { expiresAt, ...rest } = copyRecord(record)
  return expiresAt === 0n ? rest : { ...rest, expiresAt }
}
