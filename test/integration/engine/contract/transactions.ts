import { describe, expect, test } from 'vitest'
import { EVERY_KEY } from '../../../../sidecar/engine/engine.ts'
import { everything, expiries, kept, keysOf, logOf, noise, record } from '../records.ts'
import type { Bench } from './bench.ts'

const MAX = (1n << 64n) - 1n

/** Atomicity, the expiry index, metadata and the change log. */
export function transactionContract(bench: Bench): void {
  describe('transactions', () => {
    test('a transaction reads its own writes, in point reads, scans, expiries, metadata and the log', () => {
      bench.fill([1n, 2n])
      bench.writer.transact(transaction => {
        transaction.insert(record(3n, 'x', 9n))
        transaction.insert(record(10n))
        transaction.remove(kept(transaction.get(1n)!))
        transaction.putMeta('a', Uint8Array.of(1))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 4n, frame: Uint8Array.of(1, 2, 3) })
        expect(keysOf(transaction)).toEqual([2n, 3n, 10n])
        expect(keysOf(transaction, EVERY_KEY, true)).toEqual([10n, 3n, 2n])
        expect(kept(transaction.get(10n)!)).toEqual(record(10n))
        expect(transaction.get(11n)).toBeUndefined()
        expect(expiries(transaction)).toEqual([[3n, 9n]])
        expect(transaction.getMeta('a')).toEqual(expect.objectContaining({ length: 1 }))
        expect(logOf(transaction)).toEqual([[1n, 4n, 3]])
        transaction.removeRange({ start: 3n, end: 9n })
        expect(keysOf(transaction)).toEqual([2n, 10n])
        expect(transaction.insert(record(3n, 'back'))).toBe(true)
        expect(keysOf(transaction)).toEqual([2n, 3n, 10n])
      })
      expect(keysOf(bench.writer.view)).toEqual([2n, 3n, 10n])
    })

    test('a body that throws changes nothing: records, expiries, metadata, log', () => {
      bench.writer.transact(transaction => {
        transaction.insert(record(1n, 'one', 5n))
        transaction.putMeta('m', Uint8Array.of(1))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 1n, frame: Uint8Array.of(1) })
      })
      expect(() =>
        bench.writer.transact(transaction => {
          transaction.insert(record(2n, 'two', 6n))
          transaction.replace(kept(transaction.get(1n)!), record(1n, 'changed'))
          transaction.putMeta('m', Uint8Array.of(2))
          transaction.putMeta('n', Uint8Array.of(3))
          transaction.appendLog({ firstSeq: 2n, lastSeq: 2n, frame: Uint8Array.of(2) })
          transaction.trimLog(1n)
          throw new Error('stop')
        }),
      ).toThrow('stop')
      expect(everything(bench.writer.view)).toEqual([record(1n, 'one', 5n)])
      expect(expiries(bench.writer.view)).toEqual([[1n, 5n]])
      expect([...bench.writer.view.getMeta('m')!]).toEqual([1])
      expect(bench.writer.view.getMeta('n')).toBeUndefined()
      expect(logOf(bench.writer.view)).toEqual([[1n, 1n, 1]])
    })

    test('after a roll-back appends start where the data ends', () => {
      bench.fill([10n])
      expect(() =>
        bench.writer.transact(transaction => {
          transaction.insert(record(100n))
          throw new Error('stop')
        }),
      ).toThrow('stop')
      bench.writer.transact(transaction => {
        expect(transaction.get(100n)).toBeUndefined()
        expect(transaction.insert(record(50n))).toBe(true)
        expect(transaction.insert(record(100n))).toBe(true)
        expect(transaction.insert(record(100n))).toBe(false)
      })
      expect(keysOf(bench.writer.view)).toEqual([10n, 50n, 100n])
    })

    test('a transaction returns what its body returns and sees the commit before it', () => {
      for (let round = 0; round < 50; round++) {
        const seen = bench.writer.transact(transaction => {
          const before = keysOf(transaction).length
          transaction.insert(record(BigInt(round)))
          return before
        })
        expect(seen).toBe(round)
        expect(bench.reader.getWithMeta(BigInt(round), '').record).toBeDefined()
      }
    })

    test('ten thousand appends, then scattered inserts between them, are all there', () => {
      const appended = Array.from({ length: 10_000 }, (_, index) => BigInt(index) * 2n)
      bench.fill(appended)
      const scattered = Array.from({ length: 5000 }, (_, index) => BigInt((index * 7919) % 10_000) * 2n + 1n)
      bench.fill(scattered)
      const expected = [...new Set([...appended, ...scattered])].sort((a, b) => (a < b ? -1 : 1))
      expect(keysOf(bench.writer.view)).toEqual(expected)
    })
  })

  describe('expiry index', () => {
    test('is kept by insert, replace, remove; ordered by time as unsigned and then by key', () => {
      bench.writer.transact(transaction => {
        transaction.insert(record(3n, 'x', 100n))
        transaction.insert(record(1n, 'x', 100n))
        transaction.insert(record(1n << 63n, 'x', 100n))
        transaction.insert(record(2n, 'x', 50n))
        transaction.insert(record(4n, 'x', 1n << 63n))
        transaction.insert(record(5n, 'x', MAX))
        transaction.insert(record(6n))
      })
      expect(expiries(bench.writer.view)).toEqual([
        [2n, 50n],
        [1n, 100n],
        [3n, 100n],
        [1n << 63n, 100n],
        [4n, 1n << 63n],
        [5n, MAX],
      ])
      expect(expiries(bench.writer.view, 100n, 2)).toEqual([
        [2n, 50n],
        [1n, 100n],
      ])
      expect(expiries(bench.writer.view, 99n)).toEqual([[2n, 50n]])
      expect(expiries(bench.writer.view, 49n)).toEqual([])
      bench.writer.transact(transaction => {
        transaction.replace(kept(transaction.get(2n)!), record(2n, 'y', 200n))
        transaction.replace(kept(transaction.get(3n)!), record(3n, 'y'))
        transaction.replace(kept(transaction.get(6n)!), record(6n, 'y', 10n))
        transaction.remove(kept(transaction.get(1n)!))
      })
      expect(expiries(bench.writer.view, MAX - 1n)).toEqual([
        [6n, 10n],
        [1n << 63n, 100n],
        [2n, 200n],
        [4n, 1n << 63n],
      ])
      expect(everything(bench.writer.view).map(item => item.expiresAt)).toEqual([200n, 0n, 1n << 63n, MAX, 10n, 100n])
    })

    test('a snapshot taken before the first expiry shows none, one taken after shows it', () => {
      bench.fill([1n])
      const before = bench.reader.snapshot()
      bench.writer.transact(transaction => transaction.replace(kept(transaction.get(1n)!), record(1n, 'x', 9n)))
      const after = bench.reader.snapshot()
      try {
        expect(kept(before.get(1n)!)).toEqual(record(1n))
        expect(expiries(before)).toEqual([])
        expect(kept(after.get(1n)!)).toEqual(record(1n, 'x', 9n))
        expect(expiries(after)).toEqual([[1n, 9n]])
        expect(bench.reader.getWithMeta(1n, '').record?.expiresAt).toBe(9n)
      } finally {
        before.release()
        after.release()
      }
    })
  })

  describe('metadata', () => {
    test('is put, replaced and removed by name', () => {
      bench.writer.transact(transaction => {
        transaction.putMeta('a', noise(100))
        transaction.putMeta('empty', new Uint8Array(0))
      })
      bench.writer.transact(transaction => transaction.putMeta('a', noise(50, 2)))
      expect(Uint8Array.from(bench.reader.getMeta('a')!)).toEqual(noise(50, 2))
      expect(bench.reader.getMeta('empty')?.length).toBe(0)
      expect(bench.reader.getMeta('b')).toBeUndefined()
      bench.writer.transact(transaction => transaction.removeMeta('a'))
      expect(bench.reader.getMeta('a')).toBeUndefined()
    })

    test('comes together with a record, present or absent', () => {
      bench.writer.transact(transaction => {
        transaction.insert(record(1n))
        transaction.putMeta('state', Uint8Array.of(7))
      })
      expect([...bench.reader.getWithMeta(1n, 'state').meta!]).toEqual([7])
      const absent = bench.reader.getWithMeta(2n, 'state')
      expect([absent.record, [...absent.meta!]]).toEqual([undefined, [7]])
    })
  })

  describe('change log', () => {
    test('many frames come back in order from any seq, and trimming takes whole frames', () => {
      const frames = Array.from({ length: 500 }, (_, index) => {
        const firstSeq = BigInt(index) * 3n + 1n
        return { firstSeq, lastSeq: firstSeq + 2n, frame: noise(index % 7 === 0 ? 100_000 : index + 1, index + 1) }
      })
      for (let start = 0; start < frames.length; start += 100)
        bench.writer.transact(transaction => {
          for (const frame of frames.slice(start, start + 100)) transaction.appendLog(frame)
        })
      const seen: bigint[] = []
      bench.writer.view.scanLog(0n, frame => {
        const expected = frames[seen.length]!
        seen.push(frame.firstSeq)
        expect(frame.lastSeq).toBe(expected.lastSeq)
        expect(Buffer.compare(frame.frame, expected.frame)).toBe(0)
      })
      expect(seen.length).toBe(500)
      expect(logOf(bench.writer.view, 4n)[0]).toEqual([4n, 6n, 2])
      expect(logOf(bench.writer.view, 6n)[0]).toEqual([4n, 6n, 2])
      expect(logOf(bench.writer.view, 7n)[0]).toEqual([7n, 9n, 3])
      expect(logOf(bench.writer.view, 1501n)).toEqual([])
      // seq 300 is the last of frame 99; 301 is inside frame 100, which stays
      const expectedBytes = frames.slice(0, 100).reduce((sum, frame) => sum + frame.frame.length, 0)
      expect(bench.writer.transact(transaction => transaction.trimLog(301n))).toBe(expectedBytes)
      expect(logOf(bench.writer.view)[0]?.[0]).toBe(301n)
      expect(logOf(bench.writer.view).length).toBe(400)
      expect(bench.writer.transact(transaction => transaction.trimLog(301n))).toBe(0)
      let visited = 0
      expect(bench.writer.view.scanLog(0n, () => ++visited < 5)).toBe(5)
    })
  })
}
