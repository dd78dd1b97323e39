import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { type CommitLimits, Committer, isVisible, type Verdict } from '../../../sidecar/database/committer.ts'
import type { DatabaseState } from '../../../sidecar/database/database.ts'
import { digestOfRecord, reduceDigest } from '../../../sidecar/database/digest.ts'
import type { Operation, WriteRequest } from '../../../sidecar/database/operation.ts'
import { replayFrame } from '../../../sidecar/database/replay.ts'
import { decodeState, EMPTY_STATE, META } from '../../../sidecar/database/state.ts'
import { packRequests, unpackRequests } from '../../../sidecar/database/writer-protocol.ts'
import { type EngineKind, type EngineWriter, EVERY_KEY, type StoredRecord } from '../../../sidecar/engine/engine.ts'
import { openWriter } from '../../../sidecar/engine/open.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']
const LIMITS: CommitLimits = { maxDataBytes: 1000, atomicBytes: 5000, atomicRecords: 8 }
/** What four operations of the generated ones come to now and then. */
const TIGHT: CommitLimits = { maxDataBytes: 60, atomicBytes: 40, atomicRecords: 4 }
const root = mkdtempSync(join(tmpdir(), 'kvidx-committer-'))
const opened: EngineWriter[] = []
afterAll(() => {
  for (const writer of opened) writer.close()
  rmSync(root, { recursive: true })
})

let databases = 0
async function open(kind: EngineKind): Promise<EngineWriter> {
  const directory = join(root, `${databases++}`)
  const { mkdirSync } = await import('node:fs')
  mkdirSync(directory)
  // what is compared here does not depend on the disk
  const writer = await openWriter({ kind, directory, tuning: { syncMode: 'Off' } })
  opened.push(writer)
  return writer
}

const key = fc.constantFrom(0n, 1n, 2n, 3n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 2n, 2n ** 64n - 1n)
const data = fc.uint8Array({ maxLength: 40 }).map(bytes => Buffer.from(bytes))
const term = fc.bigInt({ min: 0n, max: 3n })
const expiry = fc.option(
  fc.oneof(
    fc.bigInt({ min: 1n, max: 3000n }).map(at => ({ at })),
    fc.bigInt({ min: 1n, max: 50n }).map(after => ({ after })),
  ),
  { nil: undefined },
)
const condition = fc.option(
  fc.oneof(
    fc.constant({ absent: true } as const),
    fc.constant({ present: true } as const),
    term.map(value => ({ term: value })),
    fc.constant({ digest: 5n }),
  ),
  { nil: undefined },
)
const options = fc.tuple(condition, fc.boolean(), fc.boolean()).map(([when, optional, returnPrevious]) => ({
  ...(when && { condition: when, ...(optional && { optional: true as const }) }),
  ...(returnPrevious && { returnPrevious: true as const }),
}))
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(key, term, data, expiry, options).map(
      ([k, t, d, e, o]): Operation => ({
        op: 'put',
        key: k,
        term: t,
        cmd: 7n,
        data: d,
        ...(e && { expiry: e }),
        ...o,
      }),
    ),
  },
  fc
    .tuple(fc.constantFrom('append' as const, 'prepend' as const), key, data)
    .map(([op, k, d]): Operation => ({ op, key: k, term: 1n, cmd: 1n, data: d })),
  fc
    .tuple(key, fc.integer({ min: 0, max: 30 }), data)
    .map(([k, offset, d]): Operation => ({ op: 'splice', key: k, offset, data: d })),
  fc.tuple(key, options).map(([k, o]): Operation => ({ op: 'remove', key: k, ...o })),
  fc.tuple(key, expiry).map(([k, e]): Operation => ({ op: 'expiry', key: k, ...(e && { expiry: e }) })),
  fc.tuple(key, key).map(([start, end]): Operation => ({ op: 'removeRange', range: { start, end } })),
)
const group = fc.array(fc.record({ operations: fc.array(operation, { minLength: 1, maxLength: 4 }) }), {
  minLength: 1,
  maxLength: 4,
})
const step = fc.oneof(
  { weight: 6, arbitrary: group.map(requests => ({ requests })) },
  { weight: 1, arbitrary: fc.constant({ expire: true as const }) },
)

/** What one record looks like to the simplest possible implementation. */
type Model = Map<bigint, StoredRecord>

/** What a request came to so far. */
interface Sums {
  written: number
  taken: number
  records: number
  previous: number
  readonly mayBeUndone: boolean
}

function judge(model: Model, requests: readonly WriteRequest[], now: bigint, limits: CommitLimits): boolean[] {
  return requests.map(({ operations }) => {
    const draft: Model = new Map(model)
    const mayBeUndone =
      operations.length > 1 &&
      operations.some(
        item =>
          (item.op !== 'put' && item.op !== 'remove') ||
          item.condition !== undefined ||
          item.returnPrevious !== undefined,
      )
    const written = operations.reduce((sum, item) => sum + (item.op === 'put' ? item.data.length : 0), 0)
    const sums: Sums = { written, taken: 0, records: 0, previous: 0, mayBeUndone }
    const applied =
      written <= limits.atomicBytes && operations.every(item => applyToModel(draft, item, now, limits, sums))
    if (applied) {
      model.clear()
      for (const [k, record] of draft) model.set(k, record)
    }
    return applied
  })
}

function applyToModel(model: Model, item: Operation, now: bigint, limits: CommitLimits, sums: Sums): boolean {
  if (item.op === 'removeRange') {
    const keys = [...model.keys()].filter(k => k >= item.range.start && k <= item.range.end)
    sums.records += keys.length
    for (const k of keys) sums.taken += (model.get(k) as StoredRecord).data.length
    for (const k of keys) model.delete(k)
    return sums.records <= limits.atomicRecords && sums.taken <= limits.atomicBytes
  }
  const old = model.get(item.key)
  const visible = old && isVisible(old, now) ? old : undefined
  const { condition: when } = item
  if (when) {
    const holds =
      !(when.absent && visible) &&
      !(when.present && !visible) &&
      !(when.digest !== undefined && (!visible || digestOfRecord(visible) !== when.digest)) &&
      (when.term === undefined || visible?.term === when.term)
    if (!holds) return item.optional === true
  }
  if (item.returnPrevious && visible) sums.previous += visible.data.length
  if (sums.previous > limits.atomicBytes) return false
  const take = () => {
    if (old && sums.mayBeUndone) sums.taken += old.data.length
    return sums.taken <= limits.atomicBytes
  }
  const at = 'expiry' in item && item.expiry ? ('at' in item.expiry ? item.expiry.at : now + item.expiry.after) : 0n
  const store = (value: Buffer, base: { term: bigint; cmd: bigint; expiresAt: bigint }) => {
    if (value.length > limits.maxDataBytes) return false
    if (item.op !== 'put') sums.written += value.length
    if (sums.written > limits.atomicBytes || !take()) return false
    model.set(item.key, { key: item.key, term: base.term, cmd: base.cmd, data: value, expiresAt: base.expiresAt })
    return true
  }
  switch (item.op) {
    case 'put':
      return store(Buffer.from(item.data), { term: item.term, cmd: item.cmd, expiresAt: at })
    case 'append':
    case 'prepend': {
      const base = visible ?? { term: item.term, cmd: item.cmd, expiresAt: 0n }
      const there = visible?.data ?? Buffer.alloc(0)
      return store(Buffer.concat(item.op === 'append' ? [there, item.data] : [item.data, there]), base)
    }
    case 'splice': {
      if (!visible) return false
      const value = Buffer.alloc(Math.max(visible.data.length, item.offset + item.data.length))
      value.set(visible.data)
      value.set(item.data, item.offset)
      return store(value, visible)
    }
    case 'remove':
      model.delete(item.key)
      return take()
    case 'expiry':
      if (!visible) return false
      model.set(item.key, { ...visible, expiresAt: at })
      return true
  }
}

function contentOf(writer: EngineWriter): StoredRecord[] {
  const records: StoredRecord[] = []
  writer.view.scan(EVERY_KEY, false, record => {
    records.push({ ...record, data: Buffer.from(record.data) })
  })
  return records
}

function expectConsistent(writer: EngineWriter, state: DatabaseState): void {
  const records = contentOf(writer)
  expect(state.count).toBe(BigInt(records.length))
  expect(state.dataBytes).toBe(BigInt(records.reduce((sum, record) => sum + record.data.length, 0)))
  expect(state.digest).toBe(reduceDigest(records.reduce((sum, record) => sum + digestOfRecord(record), 0n)))
  expect(state.expiring).toBe(BigInt(records.filter(record => record.expiresAt !== 0n).length))
  const index: bigint[] = []
  writer.view.scanExpiries(2n ** 64n - 1n, 1000, entry => {
    index.push(entry.key)
  })
  expect(index.sort()).toEqual(
    records
      .filter(record => record.expiresAt !== 0n)
      .map(record => record.key)
      .sort(),
  )
}

describe('any sequence of operations', () => {
  test.each(ENGINES)(
    'gives on %s the records of the model, counters that a scan confirms, and a log that replays elsewhere to the same digest',
    async kind => {
      const other = ENGINES[(ENGINES.indexOf(kind) + 1) % ENGINES.length] as EngineKind
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), fc.boolean(), async (steps, tight) => {
          const limits = tight ? TIGHT : LIMITS
          const writer = await open(kind)
          const committer = new Committer(writer, EMPTY_STATE, limits)
          const model: Model = new Map()
          let now = 1000n
          for (const item of steps) {
            now += 40n
            if ('expire' in item) {
              const due = [...model.values()].filter(record => !isVisible(record, now))
              expect(committer.expire(now, 100, now)).toEqual({ removed: due.length, more: false })
              for (const record of due) model.delete(record.key)
            } else {
              // through the encoding that crosses the threads, too
              const requests = unpackRequests(packRequests(item.requests), item.requests.length)
              const verdicts: Verdict[] = []
              while (verdicts.length < requests.length)
                verdicts.push(...committer.commit(requests.slice(verdicts.length), now))
              expect(verdicts.map(verdict => 'applied' in verdict && verdict.applied)).toEqual(
                judge(model, item.requests, now, limits),
              )
            }
          }
          expect(contentOf(writer)).toEqual([...model.values()].sort((a, b) => (a.key < b.key ? -1 : 1)))
          expectConsistent(writer, committer.state)
          if (committer.state.position.seq > 0n)
            expect(decodeState(writer.view.getMeta(META.state) ?? Buffer.alloc(0))).toEqual(committer.state)

          const copy = await open(other)
          let state = EMPTY_STATE
          const frames: Buffer[] = []
          writer.view.scanLog(0n, entry => {
            frames.push(Buffer.from(entry.frame))
          })
          for (const frame of frames) state = copy.transact(transaction => replayFrame(transaction, frame, state))
          expect({ ...state, logBytes: 0n }).toEqual({ ...committer.state, logBytes: 0n })
          expect(contentOf(copy)).toEqual(contentOf(writer))
          for (const engine of [writer, copy]) {
            engine.close()
            opened.splice(opened.indexOf(engine), 1)
          }
        }),
        { numRuns: 50 },
      )
    },
  )
})

describe.each(ENGINES)('what a commit may come to, on %s', kind => {
  const bytes = (length: number) => Buffer.alloc(length, 1)
  const put = (key: bigint, length: number): Operation => ({ op: 'put', key, term: 0n, cmd: 0n, data: bytes(length) })
  const append = (key: bigint): Operation => ({ op: 'append', key, term: 0n, cmd: 0n, data: bytes(1) })
  const expiry = (key: bigint): Operation => ({ op: 'expiry', key, expiry: { at: 9999n } })
  const times = (count: number, operation: (key: bigint) => Operation) =>
    Array.from({ length: count }, (_, index) => operation(BigInt(index)))

  /** Ten records of 900 bytes, written one by one; limits as above: 5,000 bytes, 8 records. */
  async function filled() {
    const writer = await open(kind)
    const committer = new Committer(writer, EMPTY_STATE, LIMITS)
    for (const operation of times(10, key => put(key, 900))) committer.commit([{ operations: [operation] }], 1n)
    return { writer, committer, content: contentOf(writer) }
  }

  test.each<[string, Operation[]]>([
    ['puts', times(6, key => put(key + 50n, 900))],
    ['small appends to one large record', times(6, () => append(1n))],
    ['small splices', times(6, key => ({ op: 'splice', key, offset: 0, data: bytes(1) }))],
    ['range removals that are small each', times(6, key => ({ op: 'removeRange', range: { start: key, end: key } }))],
    [
      'range removals of many records',
      [
        { op: 'removeRange', range: { start: 1n, end: 5n } },
        ...times(5, key => put(key + 50n, 0)),
        { op: 'removeRange', range: { start: 50n, end: 60n } },
      ],
    ],
    ['removals that may have to be undone', [...times(6, key => ({ op: 'remove', key })), append(9n)]],
    ['records that are replaced and may come back', [...times(6, key => put(key, 1)), append(9n)]],
    ['records that are answered', times(6, key => ({ op: 'remove', key, returnPrevious: true }))],
  ])('%s: past the limit nothing of the request is done, and its neighbours are', async (_, operations) => {
    const { writer, committer, content } = await filled()
    const [refused, done] = committer.commit([{ operations }, { operations: [put(99n, 1)] }], 1n)
    expect(refused).toMatchObject({ code: 'too_large' })
    expect(done).toMatchObject({ applied: true })
    expect(contentOf(writer)).toEqual([...content, expect.objectContaining({ key: 99n })])
    expectConsistent(writer, committer.state)
  })

  test('what holds no memory is not bounded by it: removals and expiries of large records', async () => {
    const { writer, committer } = await filled()
    const [expiries] = committer.commit([{ operations: times(10, expiry) }], 1n)
    expect(expiries).toMatchObject({ applied: true })
    const [undone] = committer.commit(
      [{ operations: [...times(10, key => ({ op: 'expiry', key })), { op: 'expiry', key: 77n }] }],
      1n,
    )
    expect(undone).toMatchObject({ applied: false })
    expect(contentOf(writer).map(record => record.expiresAt)).toEqual(Array(10).fill(9999n))
    const [removed] = committer.commit([{ operations: times(10, key => ({ op: 'remove', key })) }], 1n)
    expect(removed).toMatchObject({ applied: true })
    expectConsistent(writer, committer.state)
  })

  test.each<[string, Operation]>([
    ['small changes of large records', append(1n)],
    ['answers', { op: 'put', key: 1n, term: 0n, cmd: 0n, data: bytes(900), returnPrevious: true }],
  ])('a group is cut before its %s fill the memory', async (_, operation) => {
    const { writer, committer } = await filled()
    const before = committer.state.position.seq
    const group = Array.from({ length: 40 }, () => ({ operations: [operation] }))
    const parts: number[] = []
    for (let done = 0; done < group.length; done += parts.at(-1) as number)
      parts.push(committer.commit(group.slice(done), 1n).length)
    expect(parts.length).toBeGreaterThan(5)
    expect(parts[0]).toBeGreaterThan(1)
    const frames: number[] = []
    writer.view.scanLog(before + 1n, ({ frame }) => {
      frames.push(frame.length)
    })
    expect(frames).toHaveLength(parts.length)
    expect(Math.max(...frames)).toBeLessThan(LIMITS.atomicBytes + 1100)
  })
})
