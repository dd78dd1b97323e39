import { beforeEach, describe, expect, test } from 'vitest'
import { EVERY_KEY } from '../../../../sidecar/engine/engine.ts'
import { EDGE_KEYS, everything, expiries, kept, keysOf, noise, record } from '../records.ts'
import type { Bench } from './bench.ts'

const MAX = (1n << 64n) - 1n

/** Point reads and writes, order, ranges. */
export function recordContract(bench: Bench): void {
  describe('point operations', () => {
    test('a record comes back as it was stored, at every edge of u64', () => {
      for (const key of EDGE_KEYS)
        bench.writer.transact(transaction => {
          expect(transaction.insert(record(key))).toBe(true)
          const found = transaction.get(key)
          expect(found && kept(found)).toEqual(record(key))
        })
      for (const key of EDGE_KEYS) {
        expect(bench.reader.getWithMeta(key, 'none')).toEqual({ record: expect.anything(), meta: undefined })
        expect(kept(bench.reader.getWithMeta(key, 'none').record!)).toEqual(record(key))
        expect(kept(bench.writer.view.get(key)!)).toEqual(record(key))
      }
    })

    test('term, cmd and expiry hold all of u64', () => {
      const values = [0n, 1n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, MAX]
      values.forEach((value, index) => {
        const item = { ...record(BigInt(index)), term: value, cmd: MAX - value, expiresAt: value }
        bench.writer.transact(transaction => transaction.insert(item))
        expect(kept(bench.reader.getWithMeta(BigInt(index), '').record!)).toEqual(item)
      })
    })

    test('an absent key is undefined, also beside present ones', () => {
      bench.fill([1n, 3n, 1n << 63n])
      for (const key of [0n, 2n, 4n, (1n << 63n) - 1n, (1n << 63n) + 1n, MAX]) {
        expect(bench.reader.getWithMeta(key, 'x').record).toBeUndefined()
        expect(bench.writer.view.get(key)).toBeUndefined()
      }
    })

    test('insert of a present key is refused and changes nothing', () => {
      bench.fill([5n])
      bench.writer.transact(transaction => {
        expect(transaction.insert(record(5n, 'other', 77n))).toBe(false)
        expect(transaction.insert(record(6n))).toBe(true)
        expect(transaction.insert(record(6n, 'again'))).toBe(false)
        expect(transaction.insert(record(4n))).toBe(true)
        expect(transaction.insert(record(4n, 'again'))).toBe(false)
      })
      expect(everything(bench.writer.view)).toEqual([record(4n), record(5n), record(6n)])
      expect(expiries(bench.writer.view)).toEqual([])
    })

    test('empty data is a present record', () => {
      bench.writer.transact(transaction => transaction.insert(record(1n, new Uint8Array(0))))
      expect(kept(bench.reader.getWithMeta(1n, '').record!)).toEqual(record(1n, new Uint8Array(0)))
      expect(everything(bench.writer.view)).toEqual([record(1n, new Uint8Array(0))])
      expect(bench.writer.transact(transaction => transaction.insert(record(1n)))).toBe(false)
    })

    test('data of 1 MiB and of every length around a page comes back whole, point by point and scanned', () => {
      const lengths = [1, 15, 16, 17, 4079, 4096, 8191, 8192, 16384, 16385, 65536, 1 << 20]
      const items = lengths.map((length, index) => record(BigInt(index), noise(length, length)))
      bench.writer.transact(transaction => {
        for (const item of items) transaction.insert(item)
      })
      for (const item of items)
        expect(Buffer.compare(bench.reader.getWithMeta(item.key, '').record!.data, item.data)).toBe(0)
      const scanned = everything(bench.writer.view)
      expect(scanned.map(item => Buffer.compare(item.data, items[Number(item.key)]!.data))).toEqual(
        lengths.map(() => 0),
      )
      expect(everything(bench.writer.view, EVERY_KEY, true).map(item => item.data.length)).toEqual(lengths.toReversed())
    })

    test('data taken from a Uint8Array inside a larger buffer is that part alone', () => {
      const whole = noise(1000)
      bench.writer.transact(transaction => transaction.insert(record(1n, whole.subarray(100, 200))))
      expect(kept(bench.reader.getWithMeta(1n, '').record!).data).toEqual(Uint8Array.from(whole.subarray(100, 200)))
    })

    test('replace takes the place of the old record; remove removes', () => {
      bench.fill([1n, 2n, 3n])
      bench.writer.transact(transaction => {
        transaction.replace(kept(transaction.get(2n)!), { ...record(2n, 'new'), term: 9n })
        transaction.remove(kept(transaction.get(3n)!))
        expect(transaction.get(3n)).toBeUndefined()
      })
      expect(everything(bench.writer.view)).toEqual([record(1n), { ...record(2n, 'new'), term: 9n }])
    })
  })

  describe('order and ranges', () => {
    beforeEach(() => bench.fill([...EDGE_KEYS].reverse()))

    test('keys order as unsigned integers in both directions', () => {
      expect(keysOf(bench.writer.view)).toEqual(EDGE_KEYS)
      expect(keysOf(bench.writer.view, EVERY_KEY, true)).toEqual(EDGE_KEYS.toReversed())
    })

    test('bounds are inclusive, wherever they lie', () => {
      const bounds = [...EDGE_KEYS, 2n, 100n, (1n << 62n) + 5n, (1n << 63n) + 2n, MAX - 5n]
      for (const start of bounds)
        for (const end of bounds) {
          const expected = EDGE_KEYS.filter(key => start <= key && key <= end)
          expect(keysOf(bench.writer.view, { start, end })).toEqual(expected)
          expect(keysOf(bench.writer.view, { start, end }, true)).toEqual(expected.toReversed())
        }
    })

    test('half-open ranges are inclusive ones moved by one', () => {
      const half = { start: EDGE_KEYS[3]! + 1n, end: EDGE_KEYS[10]! - 1n }
      expect(keysOf(bench.writer.view, half)).toEqual(EDGE_KEYS.slice(4, 10))
    })

    test('a visitor that answers false ends the walk', () => {
      const seen: bigint[] = []
      const visited = bench.writer.view.scan(EVERY_KEY, false, item => {
        seen.push(item.key)
        return seen.length < 3
      })
      expect([visited, seen]).toEqual([3, EDGE_KEYS.slice(0, 3)])
    })

    test('what a visitor throws comes out, and reads and writes go on', () => {
      expect(() =>
        bench.writer.view.scan(EVERY_KEY, false, () => {
          throw new Error('from the visitor')
        }),
      ).toThrow('from the visitor')
      bench.fill([77n])
      expect(keysOf(bench.writer.view)).toContain(77n)
    })

    test('a snapshot counts ranges exactly', () => {
      const snapshot = bench.reader.snapshot()
      try {
        for (const start of EDGE_KEYS)
          for (const end of EDGE_KEYS)
            expect(snapshot.count({ start, end })).toBe(EDGE_KEYS.filter(key => start <= key && key <= end).length)
        expect(snapshot.count(EVERY_KEY)).toBe(EDGE_KEYS.length)
      } finally {
        snapshot.release()
      }
    })

    test('a scan longer than any page visits each record once, in order', () => {
      const many = Array.from({ length: 3000 }, (_, index) => 1000n + BigInt(index) * 3n)
      bench.fill(many)
      const expected = [...EDGE_KEYS, ...many].sort((a, b) => (a < b ? -1 : 1))
      expect(keysOf(bench.writer.view)).toEqual(expected)
      expect(keysOf(bench.writer.view, EVERY_KEY, true)).toEqual(expected.toReversed())
    })
  })

  describe('range removal', () => {
    test('removes the range, its expiries and nothing else, at the edges too', () => {
      const ranges = [
        { start: 0n, end: 0n },
        { start: MAX, end: MAX },
        { start: (1n << 63n) - 1n, end: 1n << 63n },
        { start: 256n, end: MAX },
        { start: 5n, end: 4n },
        EVERY_KEY,
      ]
      for (const range of ranges) {
        bench.writer.transact(transaction => {
          transaction.removeRange(EVERY_KEY)
          for (const key of EDGE_KEYS) transaction.insert(record(key, 'x', 50n))
          transaction.removeRange(range)
        })
        const left = EDGE_KEYS.filter(key => key < range.start || key > range.end)
        expect(keysOf(bench.writer.view)).toEqual(left)
        expect(expiries(bench.writer.view)).toEqual(left.map(key => [key, 50n]))
      }
    })
  })

  describe('range removal without expiries', () => {
    test('removes long ranges whole, and what is inserted behind them is new', () => {
      bench.fill(Array.from({ length: 25_000 }, (_, index) => BigInt(index)))
      bench.writer.transact(transaction => transaction.removeRange({ start: 10n, end: 24_990n }))
      expect(keysOf(bench.writer.view)).toEqual(
        [...Array(10).keys(), ...[...Array(9).keys()].map(i => i + 24_991)].map(BigInt),
      )
      bench.writer.transact(transaction => {
        transaction.removeRange(EVERY_KEY)
        expect(keysOf(transaction)).toEqual([])
        expect(transaction.get(5n)).toBeUndefined()
        expect(transaction.insert(record(5n))).toBe(true)
      })
      expect(keysOf(bench.writer.view)).toEqual([5n])
    })
  })
}
