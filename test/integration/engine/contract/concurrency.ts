import { describe, expect, test } from 'vitest'
import { EDGE_KEYS, kept, keysOf, noise, record } from '../records.ts'
import type { Bench } from './bench.ts'

/** Readers beside the writer, in this and in another thread. */
export function concurrencyContract(bench: Bench): void {
  describe('readers beside the writer', () => {
    test('a snapshot stays as it is while writes go on in another thread', async () => {
      bench.writer.transact(transaction => {
        for (const key of EDGE_KEYS) transaction.insert(record(key))
        transaction.putMeta('state', new TextEncoder().encode('one'))
      })
      const ask = await bench.startWorker()
      await ask({ do: 'snapshot' })
      for (let round = 0; round < 20; round++)
        bench.writer.transact(transaction => {
          for (let index = 0n; index < 200n; index++) transaction.insert(record(10_000n + BigInt(round) * 200n + index))
          transaction.removeRange({ start: BigInt(round), end: BigInt(round) })
          transaction.putMeta('state', new TextEncoder().encode(`two ${round}`))
        })
      expect(await ask({ do: 'keys' })).toEqual({ keys: EDGE_KEYS, count: EDGE_KEYS.length, meta: 'one' })
      await ask({ do: 'release' })
      await ask({ do: 'snapshot' })
      const after = (await ask({ do: 'keys' })) as { count: number; meta: string }
      expect([after.count, after.meta]).toEqual([keysOf(bench.writer.view).length, 'two 19'])
      await ask({ do: 'close' })
    })

    test('another thread sees a commit as soon as it is acknowledged', async () => {
      const ask = await bench.startWorker()
      for (let round = 0; round < 50; round++) {
        const text = new TextEncoder().encode(String(round))
        bench.writer.transact(transaction => {
          const old = transaction.get(1n)
          if (old === undefined) transaction.insert(record(1n, text))
          else transaction.replace(kept(old), record(1n, text))
          transaction.putMeta('state', text)
        })
        expect(await ask({ do: 'get', key: 1n, meta: 'state' })).toEqual({ data: String(round), meta: String(round) })
        expect(new TextDecoder().decode(bench.reader.getWithMeta(1n, 'state').record?.data)).toBe(String(round))
      }
      await ask({ do: 'close' })
    })

    test('record and metadata are of one moment while another thread writes as fast as it can', async () => {
      const rounds = 400
      const put = (round: number): void => {
        const text = new TextEncoder().encode(String(round))
        bench.writer.transact(transaction => {
          const old = transaction.get(0n)
          if (old === undefined) transaction.insert(record(0n, text))
          else transaction.replace(kept(old), record(0n, text))
          if (round > 0) transaction.insert(record(BigInt(round), noise(500, round)))
          transaction.putMeta('state', text)
        })
      }
      put(0)
      const ask = await bench.startWorker()
      const race = ask({ do: 'race', key: 0n, until: rounds })
      for (let round = 1; round <= rounds; round++) put(round)
      const { problems, reads } = (await race) as { problems: string[]; reads: number }
      expect(problems).toEqual([])
      expect(reads).toBeGreaterThan(0)
      await ask({ do: 'close' })
    })

    test('several snapshots of different moments stand side by side', () => {
      const snapshots = [0n, 1n, 2n].map(key => {
        bench.fill([key])
        return bench.reader.snapshot()
      })
      bench.fill([3n])
      expect(snapshots.map(snapshot => keysOf(snapshot))).toEqual([[0n], [0n, 1n], [0n, 1n, 2n]])
      for (const snapshot of snapshots) snapshot.release()
      for (const snapshot of snapshots) snapshot.release()
      expect(() => snapshots[0]!.get(0n)).toThrow(expect.objectContaining({ code: 'not_ready' }))
      const again = bench.reader.snapshot()
      expect(keysOf(again)).toEqual([0n, 1n, 2n, 3n])
      again.release()
    })
  })
}
