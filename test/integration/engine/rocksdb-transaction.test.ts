import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EngineWriter, KeyRange, ReadView, StoredRecord } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openRocksWriter } from '../../../sidecar/engine/rocksdb/writer.ts'
import { describeWithRocksdb } from './native.ts'

const MAX = (1n << 64n) - 1n
const key = fc.oneof(fc.bigInt({ min: 0n, max: 150n }), fc.constantFrom(MAX, MAX - 1n, 1n << 63n, (1n << 63n) - 1n))
const expiresAt = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0n) },
  fc.bigInt({ min: 1n, max: 12n }),
  fc.constant(MAX),
)
const range = fc.tuple(key, key).map(([start, end]) => ({ start, end }))
/** Across the sizes where records take other ways: borrowed or fresh memory, shared or own arena chunk. */
const size = fc.oneof(
  { weight: 20, arbitrary: fc.nat(300) },
  { weight: 1, arbitrary: fc.constantFrom(65_511, 65_512, 65_513, 65_536, 1_048_530, 1_048_576, 1_500_000) },
)

type Step =
  | { do: 'put'; key: bigint; size: number; expiresAt: bigint }
  | { do: 'insert'; key: bigint; size: number; expiresAt: bigint }
  | { do: 'remove'; key: bigint }
  | { do: 'removeRange'; range: KeyRange }
  | { do: 'compare'; range: KeyRange; descending: boolean; until: bigint; limit: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), key, size, expiresAt }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('insert' as const), key, size, expiresAt }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('remove' as const), key }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('removeRange' as const), range }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('compare' as const),
      range,
      descending: fc.boolean(),
      until: fc.oneof(fc.bigInt({ min: 0n, max: 13n }), fc.constant(MAX)),
      limit: fc.integer({ min: 0, max: 20 }),
    }),
  },
)
const transaction = fc.record({ steps: fc.array(step, { maxLength: 60 }), fails: fc.boolean() })

let counter = 0
function item(one: { key: bigint; size: number; expiresAt: bigint }): StoredRecord {
  const data = new Uint8Array(one.size).fill(++counter & 255)
  return { key: one.key, term: BigInt(counter), cmd: MAX - one.key, data, expiresAt: one.expiresAt }
}

const plain = ({ key, term, cmd, data, expiresAt }: StoredRecord): unknown => [
  key,
  term,
  cmd,
  expiresAt,
  data.length,
  data[0],
  data.at(-1),
]

type Model = Map<bigint, StoredRecord>

function within(model: Model, { start, end }: KeyRange): StoredRecord[] {
  return [...model.values()].filter(({ key }) => start <= key && key <= end).sort((a, b) => (a.key < b.key ? -1 : 1))
}

function compare(view: ReadView, model: Model, { range, descending, until, limit }: Step & { do: 'compare' }): void {
  const seen: unknown[] = []
  view.scan(range, descending, record => {
    seen.push(plain(record))
  })
  const expected = within(model, range).map(plain)
  expect(seen).toEqual(descending ? expected.reverse() : expected)
  const due: unknown[] = []
  view.scanExpiries(until, limit, entry => {
    due.push([entry.expiresAt, entry.key])
  })
  const expiries = [...model.values()]
    .filter(record => record.expiresAt !== 0n && record.expiresAt <= until)
    .sort((a, b) => (a.expiresAt === b.expiresAt ? (a.key < b.key ? -1 : 1) : a.expiresAt < b.expiresAt ? -1 : 1))
    .slice(0, limit)
  expect(due).toEqual(expiries.map(record => [record.expiresAt, record.key]))
}

const EVERYTHING = { do: 'compare', range: EVERY_KEY, descending: false, until: MAX, limit: 10_000 } as const

describeWithRocksdb('a RocksDB transaction', () => {
  let root: string
  let writer: EngineWriter

  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'kvidx-rocks-'))
  })
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  test('reads its own writes like a map, over what is stored, and leaves what a map would, after every commit and failure', () => {
    let run = 0
    fc.assert(
      fc.property(fc.array(transaction, { minLength: 1, maxLength: 6 }), transactions => {
        const directory = join(root, String(run++))
        mkdirSync(directory)
        writer = openRocksWriter({ kind: 'RocksDB', directory, tuning: { syncMode: 'Off' } })
        let model: Model = new Map()
        try {
          for (const [index, { steps, fails }] of transactions.entries()) {
            const draft: Model = new Map(model)
            const attempt = (): void =>
              writer.transact(view => {
                for (const one of steps) {
                  switch (one.do) {
                    case 'put': {
                      const record = item(one)
                      const old = view.get(one.key)
                      expect(old && plain(old)).toEqual(draft.has(one.key) ? plain(draft.get(one.key)!) : undefined)
                      if (old) view.replace(old, record)
                      else expect(view.insert(record)).toBe(true)
                      draft.set(one.key, record)
                      break
                    }
                    case 'insert': {
                      const record = item(one)
                      expect(view.insert(record)).toBe(!draft.has(one.key))
                      if (!draft.has(one.key)) draft.set(one.key, record)
                      break
                    }
                    case 'remove': {
                      const old = view.get(one.key)
                      expect(old !== undefined).toBe(draft.has(one.key))
                      if (old) view.remove(old)
                      draft.delete(one.key)
                      break
                    }
                    case 'removeRange': {
                      view.removeRange(one.range)
                      for (const { key } of within(draft, one.range)) draft.delete(key)
                      break
                    }
                    case 'compare':
                      compare(view, draft, one)
                  }
                }
                compare(view, draft, EVERYTHING)
                if (fails) throw new Error('on purpose')
              })
            if (fails) expect(attempt).toThrow('on purpose')
            else attempt()
            if (!fails) model = draft
            compare(writer.view, model, EVERYTHING)
            if (index % 2 === 1) writer.checkpoint('passive')
          }
        } finally {
          writer.close()
        }
        // and as much after a new start
        writer = openRocksWriter({ kind: 'RocksDB', directory, tuning: { syncMode: 'Off' } })
        try {
          compare(writer.view, model, EVERYTHING)
        } finally {
          writer.close()
          rmSync(directory, { recursive: true })
        }
      }),
      { numRuns: 15 },
    )
  })

  test('removes large ranges with one tombstone and finds their expiries', () => {
    const directory = join(root, 'large')
    mkdirSync(directory)
    writer = openRocksWriter({ kind: 'RocksDB', directory, tuning: { syncMode: 'Off' } })
    try {
      writer.transact(view => {
        for (let k = 0n; k < 3000n; k++) view.insert(item({ key: k, size: 10, expiresAt: k % 3n === 0n ? k + 1n : 0n }))
      })
      writer.transact(view => {
        view.insert(item({ key: 5000n, size: 10, expiresAt: 7n }))
        view.removeRange({ start: 10n, end: 2989n })
        expect(view.insert(item({ key: 500n, size: 10, expiresAt: 9n }))).toBe(true)
      })
      const keys: bigint[] = []
      writer.view.scan(EVERY_KEY, false, ({ key }) => {
        keys.push(key)
      })
      expect(keys.length).toBe(22)
      const due: bigint[] = []
      writer.view.scanExpiries(MAX, 1000, ({ key }) => {
        due.push(key)
      })
      expect(due.sort((a, b) => Number(a - b))).toEqual([0n, 3n, 6n, 9n, 500n, 2991n, 2994n, 2997n, 5000n])
    } finally {
      writer.close()
    }
  })
})
