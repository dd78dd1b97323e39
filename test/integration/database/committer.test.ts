import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { type CommitLimits, Committer, isVisible } from '../../../sidecar/database/committer.ts'
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
const options = fc
  .tuple(condition, fc.boolean())
  .map(([when, optional]) => (when ? { condition: when, ...(optional && { optional: true as const }) } : {}))
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

function judge(model: Model, requests: readonly WriteRequest[], now: bigint): boolean[] {
  return requests.map(request => {
    const draft: Model = new Map(model)
    const applied = request.operations.every(item => applyToModel(draft, item, now))
    if (applied) {
      model.clear()
      for (const [k, record] of draft) model.set(k, record)
    }
    return applied
  })
}

function applyToModel(model: Model, item: Operation, now: bigint): boolean {
  if (item.op === 'removeRange') {
    const keys = [...model.keys()].filter(k => k >= item.range.start && k <= item.range.end)
    if (
      keys.length > LIMITS.atomicRecords ||
      keys.reduce((sum, k) => sum + (model.get(k) as StoredRecord).data.length, 0) > LIMITS.atomicBytes
    )
      return false
    for (const k of keys) model.delete(k)
    return true
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
  const at = 'expiry' in item && item.expiry ? ('at' in item.expiry ? item.expiry.at : now + item.expiry.after) : 0n
  const store = (value: Buffer, base: { term: bigint; cmd: bigint; expiresAt: bigint }) => {
    if (value.length > LIMITS.maxDataBytes) return false
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
      return true
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
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async steps => {
          const writer = await open(kind)
          const committer = new Committer(writer, EMPTY_STATE, LIMITS)
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
              const verdicts = committer.commit(requests, now)
              expect(verdicts.map(verdict => 'applied' in verdict && verdict.applied)).toEqual(
                judge(model, item.requests, now),
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
        { numRuns: 25 },
      )
    },
  )
})
