import { describe, expect, test } from 'vitest'
import { type EngineSnapshot, EVERY_KEY, type KeyRange, type StoredRecord } from '../../../../sidecar/engine/engine.ts'
import { EDGE_KEYS, everything, noise, record } from '../records.ts'
import type { Bench } from './bench.ts'

const MAX = (1n << 64n) - 1n

/** Packed records say what a scan says. */
export function packingContract(bench: Bench): void {
  const snapshotOf = (use: (snapshot: EngineSnapshot) => void): void => {
    const snapshot = bench.reader.snapshot()
    try {
      use(snapshot)
    } finally {
      snapshot.release()
    }
  }
  const store = (items: readonly StoredRecord[]): void => {
    bench.writer.transact(transaction => {
      for (const item of items) transaction.insert(item)
    })
  }
  const expectSame = (snapshot: EngineSnapshot, range: KeyRange, visibleAt: bigint | undefined, room: number): void => {
    const expected = everything(snapshot, range).filter(
      ({ expiresAt }) => visibleAt === undefined || expiresAt === 0n || expiresAt > visibleAt,
    )
    expect(Buffer.compare(packed(snapshot, range, visibleAt, room), encoded(expected))).toBe(0)
  }

  describe('packed records', () => {
    test('are those of a scan, for every range and at every edge of u64', () => {
      store(EDGE_KEYS.map((key, index) => record(key, `value ${key}`, index % 3 === 0 ? 50n : 0n)))
      snapshotOf(snapshot => {
        for (const start of [...EDGE_KEYS, 2n, 1n << 40n, (1n << 63n) + 2n])
          for (const end of [...EDGE_KEYS, 2n, 1n << 40n, (1n << 63n) + 2n])
            expectSame(snapshot, { start, end }, undefined, 4096)
        expect(snapshot.pack({ start: 9n, end: 3n }, undefined, new Uint8Array(100))).toMatchObject({
          bytes: 0,
          records: 0,
          next: undefined,
        })
      })
    })

    test('hold all of u64 in term and cmd, and leave out what has expired', () => {
      const values = [0n, 1n, 127n, 128n, 1n << 31n, 1n << 47n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, MAX - 1n, MAX]
      store(
        values.flatMap((value, index) => [
          { ...record(BigInt(index)), term: value, cmd: MAX - value },
          { ...record(BigInt(100 + index)), cmd: value, expiresAt: value },
        ]),
      )
      snapshotOf(snapshot => {
        for (const visibleAt of [undefined, ...values]) expectSame(snapshot, EVERY_KEY, visibleAt, 300)
      })
    })

    test('have data of every length around a page whole, whatever the room of the target', () => {
      const lengths = [
        0, 1, 15, 2000, 2013, 2014, 2040, 4070, 4096, 8148, 8149, 8150, 8192, 16385, 65535, 65536, 300_000,
      ]
      store(
        lengths.flatMap((length, index) => [
          record(BigInt(index * 2), noise(length, length)),
          record(BigInt(index * 2 + 1)),
        ]),
      )
      snapshotOf(snapshot => {
        for (const room of [40, 500, 9000, 1 << 20]) expectSame(snapshot, EVERY_KEY, undefined, room)
      })
    })

    test('follow updates, removals and commits that are still in the log, and stay while others write', () => {
      const keys = Array.from({ length: 4000 }, (_, index) => (BigInt(index) * 0x9e37_79b9_7f4a_7c15n) & MAX)
      for (let from = 0; from < keys.length; from += 500)
        store(
          keys
            .slice(from, from + 500)
            .map((key, index) => record(key, noise((index * 7) % 300), index % 11 === 0 ? 9n : 0n)),
        )
      bench.writer.checkpoint('passive')
      const change = (round: number): void =>
        bench.writer.transact(transaction => {
          for (let index = round; index < keys.length; index += 13) {
            const key = keys[index] as bigint
            const old = transaction.get(key)
            if (!old) transaction.insert(record(key, noise(round)))
            else if (index % 2 === 0) transaction.remove({ ...old, data: Buffer.from(old.data) })
            else transaction.replace({ ...old, data: Buffer.from(old.data) }, record(key, noise(200 + round, index)))
          }
        })
      for (let round = 0; round < 6; round++) {
        change(round)
        snapshotOf(snapshot => {
          const before = packed(snapshot, EVERY_KEY, undefined, 3000)
          expectSame(snapshot, EVERY_KEY, undefined, 3000)
          expectSame(snapshot, { start: 1n << 62n, end: 3n << 62n }, 8n, 3000)
          for (let more = 0; more < 3; more++) {
            change(round + more + 6)
            bench.writer.checkpoint('passive')
          }
          expect(Buffer.compare(packed(snapshot, EVERY_KEY, undefined, 70_000), before)).toBe(0)
        })
        if (round === 3) bench.writer.checkpoint('truncate')
      }
    })

    test('of an empty database are none', () => {
      snapshotOf(snapshot => expect(packed(snapshot, EVERY_KEY, undefined, 64).length).toBe(0))
    })
  })
}

/** Everything, in as many calls as it takes. */
function packed(snapshot: EngineSnapshot, range: KeyRange, visibleAt: bigint | undefined, room: number): Buffer {
  const parts: Buffer[] = []
  let target = new Uint8Array(room)
  for (let next: bigint | undefined = range.start; next !== undefined; ) {
    const result = snapshot.pack({ start: next, end: range.end }, visibleAt, target)
    parts.push(Buffer.from(target.subarray(0, result.bytes)))
    if (result.bytes === 0 && result.next !== undefined && result.needed > target.length)
      target = new Uint8Array(result.needed)
    next = result.next
  }
  return Buffer.concat(parts)
}

function encoded(items: readonly StoredRecord[]): Buffer {
  return Buffer.concat(
    items.map(({ key, term, cmd, data }) => {
      const head = Buffer.alloc(32)
      head.writeBigUInt64LE(key, 0)
      head.writeBigUInt64LE(term, 8)
      head.writeBigUInt64LE(cmd, 16)
      head.writeBigUInt64LE(BigInt(data.length), 24)
      return Buffer.concat([head, data])
    }),
  )
}
