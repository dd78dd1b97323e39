import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EngineKind, EngineReader, EngineTuning, EngineWriter } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'
import type { Command } from './reader-worker.ts'
import { EDGE_KEYS, everything, expiries, kept, keysOf, logOf, noise, record } from './records.ts'

/** What the suite must know about an engine beside the contract itself. */
export interface Subject {
  readonly kind: EngineKind
  readonly tuning: EngineTuning
  /** Damages the closed database in `directory` where the engine's own check is bound to see it. */
  damage(directory: string): void
  /** A setting of another engine. */
  readonly foreign: Partial<EngineTuning>
  /** `compact` rewrites in place. */
  readonly compactsInPlace: boolean
}

const MAX = (1n << 64n) - 1n
const never = (): boolean => false

/** A file system of 32 MiB, or undefined where this process may not mount one. */
function mountSmallDisk(path: string): string | undefined {
  mkdirSync(path)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'kvidx-test', path], { stdio: 'pipe' })
    return path
  } catch {
    return undefined
  }
}

/** The contract of sidecar/engine/engine.ts, on a real engine in a real directory. */
export function engineContract(subject: Subject): void {
  const { kind, tuning } = subject
  let root: string
  let directory: string
  let writer: EngineWriter
  let reader: EngineReader
  const workers: Worker[] = []

  const open = async (): Promise<void> => {
    writer = await openWriter({ kind, directory, tuning })
    reader = await openReader(writer.share)
  }
  const close = (): void => {
    reader.close()
    writer.close()
  }
  const fill = (keys: readonly bigint[]): void =>
    writer.transact(transaction => {
      for (const key of keys) transaction.insert(record(key))
    })

  async function startWorker(): Promise<(command: Command) => Promise<unknown>> {
    const worker = new Worker(new URL('./reader-worker.ts', import.meta.url), { workerData: writer.share })
    workers.push(worker)
    const receive = (): Promise<unknown> =>
      new Promise((resolve, reject) => {
        worker.once('error', reject)
        worker.once('message', (message: { ok?: unknown; error?: string }) => {
          worker.off('error', reject)
          if (message.error === undefined) resolve(message.ok)
          else reject(new Error(message.error))
        })
      })
    await receive()
    return command => {
      const answer = receive()
      worker.postMessage(command)
      return answer
    }
  }

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'kvidx-engine-'))
    directory = join(root, 'db')
    mkdirSync(directory)
    await open()
  })

  afterEach(async () => {
    for (const worker of workers.splice(0)) await worker.terminate()
    try {
      close()
    } catch {
      // some tests close or break the database themselves
    }
    rmSync(root, { recursive: true, force: true })
  })

  describe('point operations', () => {
    test('a record comes back as it was stored, at every edge of u64', () => {
      for (const key of EDGE_KEYS)
        writer.transact(transaction => {
          expect(transaction.insert(record(key))).toBe(true)
          const found = transaction.get(key)
          expect(found && kept(found)).toEqual(record(key))
        })
      for (const key of EDGE_KEYS) {
        expect(reader.getWithMeta(key, 'none')).toEqual({ record: expect.anything(), meta: undefined })
        expect(kept(reader.getWithMeta(key, 'none').record!)).toEqual(record(key))
        expect(kept(writer.view.get(key)!)).toEqual(record(key))
      }
    })

    test('term, cmd and expiry hold all of u64', () => {
      const values = [0n, 1n, 1n << 53n, (1n << 63n) - 1n, 1n << 63n, MAX]
      values.forEach((value, index) => {
        const item = { ...record(BigInt(index)), term: value, cmd: MAX - value, expiresAt: value }
        writer.transact(transaction => transaction.insert(item))
        expect(kept(reader.getWithMeta(BigInt(index), '').record!)).toEqual(item)
      })
    })

    test('an absent key is undefined, also beside present ones', () => {
      fill([1n, 3n, 1n << 63n])
      for (const key of [0n, 2n, 4n, (1n << 63n) - 1n, (1n << 63n) + 1n, MAX]) {
        expect(reader.getWithMeta(key, 'x').record).toBeUndefined()
        expect(writer.view.get(key)).toBeUndefined()
      }
    })

    test('insert of a present key is refused and changes nothing', () => {
      fill([5n])
      writer.transact(transaction => {
        expect(transaction.insert(record(5n, 'other', 77n))).toBe(false)
        expect(transaction.insert(record(6n))).toBe(true)
        expect(transaction.insert(record(6n, 'again'))).toBe(false)
        expect(transaction.insert(record(4n))).toBe(true)
        expect(transaction.insert(record(4n, 'again'))).toBe(false)
      })
      expect(everything(writer.view)).toEqual([record(4n), record(5n), record(6n)])
      expect(expiries(writer.view)).toEqual([])
    })

    test('empty data is a present record', () => {
      writer.transact(transaction => transaction.insert(record(1n, new Uint8Array(0))))
      expect(kept(reader.getWithMeta(1n, '').record!)).toEqual(record(1n, new Uint8Array(0)))
      expect(everything(writer.view)).toEqual([record(1n, new Uint8Array(0))])
      expect(writer.transact(transaction => transaction.insert(record(1n)))).toBe(false)
    })

    test('data of 1 MiB and of every length around a page comes back whole, point by point and scanned', () => {
      const lengths = [1, 15, 16, 17, 4079, 4096, 8191, 8192, 16384, 16385, 65536, 1 << 20]
      const items = lengths.map((length, index) => record(BigInt(index), noise(length, length)))
      writer.transact(transaction => {
        for (const item of items) transaction.insert(item)
      })
      for (const item of items) expect(Buffer.compare(reader.getWithMeta(item.key, '').record!.data, item.data)).toBe(0)
      const scanned = everything(writer.view)
      expect(scanned.map(item => Buffer.compare(item.data, items[Number(item.key)]!.data))).toEqual(
        lengths.map(() => 0),
      )
      expect(everything(writer.view, EVERY_KEY, true).map(item => item.data.length)).toEqual(lengths.toReversed())
    })

    test('data taken from a Uint8Array inside a larger buffer is that part alone', () => {
      const whole = noise(1000)
      writer.transact(transaction => transaction.insert(record(1n, whole.subarray(100, 200))))
      expect(kept(reader.getWithMeta(1n, '').record!).data).toEqual(Uint8Array.from(whole.subarray(100, 200)))
    })

    test('replace takes the place of the old record; remove removes', () => {
      fill([1n, 2n, 3n])
      writer.transact(transaction => {
        transaction.replace(kept(transaction.get(2n)!), { ...record(2n, 'new'), term: 9n })
        transaction.remove(kept(transaction.get(3n)!))
        expect(transaction.get(3n)).toBeUndefined()
      })
      expect(everything(writer.view)).toEqual([record(1n), { ...record(2n, 'new'), term: 9n }])
    })
  })

  describe('order and ranges', () => {
    beforeEach(() => fill([...EDGE_KEYS].reverse()))

    test('keys order as unsigned integers in both directions', () => {
      expect(keysOf(writer.view)).toEqual(EDGE_KEYS)
      expect(keysOf(writer.view, EVERY_KEY, true)).toEqual(EDGE_KEYS.toReversed())
    })

    test('bounds are inclusive, wherever they lie', () => {
      const bounds = [...EDGE_KEYS, 2n, 100n, (1n << 62n) + 5n, (1n << 63n) + 2n, MAX - 5n]
      for (const start of bounds)
        for (const end of bounds) {
          const expected = EDGE_KEYS.filter(key => start <= key && key <= end)
          expect(keysOf(writer.view, { start, end })).toEqual(expected)
          expect(keysOf(writer.view, { start, end }, true)).toEqual(expected.toReversed())
        }
    })

    test('half-open ranges are inclusive ones moved by one', () => {
      const half = { start: EDGE_KEYS[3]! + 1n, end: EDGE_KEYS[10]! - 1n }
      expect(keysOf(writer.view, half)).toEqual(EDGE_KEYS.slice(4, 10))
    })

    test('a visitor that answers false ends the walk', () => {
      const seen: bigint[] = []
      const visited = writer.view.scan(EVERY_KEY, false, item => {
        seen.push(item.key)
        return seen.length < 3
      })
      expect([visited, seen]).toEqual([3, EDGE_KEYS.slice(0, 3)])
    })

    test('what a visitor throws comes out, and reads and writes go on', () => {
      expect(() =>
        writer.view.scan(EVERY_KEY, false, () => {
          throw new Error('from the visitor')
        }),
      ).toThrow('from the visitor')
      fill([77n])
      expect(keysOf(writer.view)).toContain(77n)
    })

    test('a snapshot counts ranges exactly', () => {
      const snapshot = reader.snapshot()
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
      fill(many)
      const expected = [...EDGE_KEYS, ...many].sort((a, b) => (a < b ? -1 : 1))
      expect(keysOf(writer.view)).toEqual(expected)
      expect(keysOf(writer.view, EVERY_KEY, true)).toEqual(expected.toReversed())
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
        writer.transact(transaction => {
          transaction.removeRange(EVERY_KEY)
          for (const key of EDGE_KEYS) transaction.insert(record(key, 'x', 50n))
          transaction.removeRange(range)
        })
        const left = EDGE_KEYS.filter(key => key < range.start || key > range.end)
        expect(keysOf(writer.view)).toEqual(left)
        expect(expiries(writer.view)).toEqual(left.map(key => [key, 50n]))
      }
    })
  })

  describe('range removal without expiries', () => {
    test('removes long ranges whole, and what is inserted behind them is new', () => {
      fill(Array.from({ length: 25_000 }, (_, index) => BigInt(index)))
      writer.transact(transaction => transaction.removeRange({ start: 10n, end: 24_990n }))
      expect(keysOf(writer.view)).toEqual(
        [...Array(10).keys(), ...[...Array(9).keys()].map(i => i + 24_991)].map(BigInt),
      )
      writer.transact(transaction => {
        transaction.removeRange(EVERY_KEY)
        expect(keysOf(transaction)).toEqual([])
        expect(transaction.get(5n)).toBeUndefined()
        expect(transaction.insert(record(5n))).toBe(true)
      })
      expect(keysOf(writer.view)).toEqual([5n])
    })
  })

  describe('transactions', () => {
    test('a transaction reads its own writes, in point reads, scans, expiries, metadata and the log', () => {
      fill([1n, 2n])
      writer.transact(transaction => {
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
      expect(keysOf(writer.view)).toEqual([2n, 3n, 10n])
    })

    test('a body that throws changes nothing: records, expiries, metadata, log', () => {
      writer.transact(transaction => {
        transaction.insert(record(1n, 'one', 5n))
        transaction.putMeta('m', Uint8Array.of(1))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 1n, frame: Uint8Array.of(1) })
      })
      expect(() =>
        writer.transact(transaction => {
          transaction.insert(record(2n, 'two', 6n))
          transaction.replace(kept(transaction.get(1n)!), record(1n, 'changed'))
          transaction.putMeta('m', Uint8Array.of(2))
          transaction.putMeta('n', Uint8Array.of(3))
          transaction.appendLog({ firstSeq: 2n, lastSeq: 2n, frame: Uint8Array.of(2) })
          transaction.trimLog(1n)
          throw new Error('stop')
        }),
      ).toThrow('stop')
      expect(everything(writer.view)).toEqual([record(1n, 'one', 5n)])
      expect(expiries(writer.view)).toEqual([[1n, 5n]])
      expect([...writer.view.getMeta('m')!]).toEqual([1])
      expect(writer.view.getMeta('n')).toBeUndefined()
      expect(logOf(writer.view)).toEqual([[1n, 1n, 1]])
    })

    test('after a roll-back appends start where the data ends', () => {
      fill([10n])
      expect(() =>
        writer.transact(transaction => {
          transaction.insert(record(100n))
          throw new Error('stop')
        }),
      ).toThrow('stop')
      writer.transact(transaction => {
        expect(transaction.get(100n)).toBeUndefined()
        expect(transaction.insert(record(50n))).toBe(true)
        expect(transaction.insert(record(100n))).toBe(true)
        expect(transaction.insert(record(100n))).toBe(false)
      })
      expect(keysOf(writer.view)).toEqual([10n, 50n, 100n])
    })

    test('a transaction returns what its body returns and sees the commit before it', () => {
      for (let round = 0; round < 50; round++) {
        const seen = writer.transact(transaction => {
          const before = keysOf(transaction).length
          transaction.insert(record(BigInt(round)))
          return before
        })
        expect(seen).toBe(round)
        expect(reader.getWithMeta(BigInt(round), '').record).toBeDefined()
      }
    })

    test('ten thousand appends, then scattered inserts between them, are all there', () => {
      const appended = Array.from({ length: 10_000 }, (_, index) => BigInt(index) * 2n)
      fill(appended)
      const scattered = Array.from({ length: 5000 }, (_, index) => BigInt((index * 7919) % 10_000) * 2n + 1n)
      fill(scattered)
      const expected = [...new Set([...appended, ...scattered])].sort((a, b) => (a < b ? -1 : 1))
      expect(keysOf(writer.view)).toEqual(expected)
    })
  })

  describe('expiry index', () => {
    test('is kept by insert, replace, remove; ordered by time as unsigned and then by key', () => {
      writer.transact(transaction => {
        transaction.insert(record(3n, 'x', 100n))
        transaction.insert(record(1n, 'x', 100n))
        transaction.insert(record(1n << 63n, 'x', 100n))
        transaction.insert(record(2n, 'x', 50n))
        transaction.insert(record(4n, 'x', 1n << 63n))
        transaction.insert(record(5n, 'x', MAX))
        transaction.insert(record(6n))
      })
      expect(expiries(writer.view)).toEqual([
        [2n, 50n],
        [1n, 100n],
        [3n, 100n],
        [1n << 63n, 100n],
        [4n, 1n << 63n],
        [5n, MAX],
      ])
      expect(expiries(writer.view, 100n, 2)).toEqual([
        [2n, 50n],
        [1n, 100n],
      ])
      expect(expiries(writer.view, 99n)).toEqual([[2n, 50n]])
      expect(expiries(writer.view, 49n)).toEqual([])
      writer.transact(transaction => {
        transaction.replace(kept(transaction.get(2n)!), record(2n, 'y', 200n))
        transaction.replace(kept(transaction.get(3n)!), record(3n, 'y'))
        transaction.replace(kept(transaction.get(6n)!), record(6n, 'y', 10n))
        transaction.remove(kept(transaction.get(1n)!))
      })
      expect(expiries(writer.view, MAX - 1n)).toEqual([
        [6n, 10n],
        [1n << 63n, 100n],
        [2n, 200n],
        [4n, 1n << 63n],
      ])
      expect(everything(writer.view).map(item => item.expiresAt)).toEqual([200n, 0n, 1n << 63n, MAX, 10n, 100n])
    })

    test('a snapshot taken before the first expiry shows none, one taken after shows it', () => {
      fill([1n])
      const before = reader.snapshot()
      writer.transact(transaction => transaction.replace(kept(transaction.get(1n)!), record(1n, 'x', 9n)))
      const after = reader.snapshot()
      try {
        expect(kept(before.get(1n)!)).toEqual(record(1n))
        expect(expiries(before)).toEqual([])
        expect(kept(after.get(1n)!)).toEqual(record(1n, 'x', 9n))
        expect(expiries(after)).toEqual([[1n, 9n]])
        expect(reader.getWithMeta(1n, '').record?.expiresAt).toBe(9n)
      } finally {
        before.release()
        after.release()
      }
    })
  })

  describe('metadata', () => {
    test('is put, replaced and removed by name', () => {
      writer.transact(transaction => {
        transaction.putMeta('a', noise(100))
        transaction.putMeta('empty', new Uint8Array(0))
      })
      writer.transact(transaction => transaction.putMeta('a', noise(50, 2)))
      expect(Uint8Array.from(reader.getMeta('a')!)).toEqual(noise(50, 2))
      expect(reader.getMeta('empty')?.length).toBe(0)
      expect(reader.getMeta('b')).toBeUndefined()
      writer.transact(transaction => transaction.removeMeta('a'))
      expect(reader.getMeta('a')).toBeUndefined()
    })

    test('comes together with a record, present or absent', () => {
      writer.transact(transaction => {
        transaction.insert(record(1n))
        transaction.putMeta('state', Uint8Array.of(7))
      })
      expect([...reader.getWithMeta(1n, 'state').meta!]).toEqual([7])
      const absent = reader.getWithMeta(2n, 'state')
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
        writer.transact(transaction => {
          for (const frame of frames.slice(start, start + 100)) transaction.appendLog(frame)
        })
      const seen: bigint[] = []
      writer.view.scanLog(0n, frame => {
        const expected = frames[seen.length]!
        seen.push(frame.firstSeq)
        expect(frame.lastSeq).toBe(expected.lastSeq)
        expect(Buffer.compare(frame.frame, expected.frame)).toBe(0)
      })
      expect(seen.length).toBe(500)
      expect(logOf(writer.view, 4n)[0]).toEqual([4n, 6n, 2])
      expect(logOf(writer.view, 6n)[0]).toEqual([4n, 6n, 2])
      expect(logOf(writer.view, 7n)[0]).toEqual([7n, 9n, 3])
      expect(logOf(writer.view, 1501n)).toEqual([])
      // seq 300 is the last of frame 99; 301 is inside frame 100, which stays
      const expectedBytes = frames.slice(0, 100).reduce((sum, frame) => sum + frame.frame.length, 0)
      expect(writer.transact(transaction => transaction.trimLog(301n))).toBe(expectedBytes)
      expect(logOf(writer.view)[0]?.[0]).toBe(301n)
      expect(logOf(writer.view).length).toBe(400)
      expect(writer.transact(transaction => transaction.trimLog(301n))).toBe(0)
      let visited = 0
      expect(writer.view.scanLog(0n, () => ++visited < 5)).toBe(5)
    })
  })

  describe('readers beside the writer', () => {
    test('a snapshot stays as it is while writes go on in another thread', async () => {
      writer.transact(transaction => {
        for (const key of EDGE_KEYS) transaction.insert(record(key))
        transaction.putMeta('state', new TextEncoder().encode('one'))
      })
      const ask = await startWorker()
      await ask({ do: 'snapshot' })
      for (let round = 0; round < 20; round++)
        writer.transact(transaction => {
          for (let index = 0n; index < 200n; index++) transaction.insert(record(10_000n + BigInt(round) * 200n + index))
          transaction.removeRange({ start: BigInt(round), end: BigInt(round) })
          transaction.putMeta('state', new TextEncoder().encode(`two ${round}`))
        })
      expect(await ask({ do: 'keys' })).toEqual({ keys: EDGE_KEYS, count: EDGE_KEYS.length, meta: 'one' })
      await ask({ do: 'release' })
      await ask({ do: 'snapshot' })
      const after = (await ask({ do: 'keys' })) as { count: number; meta: string }
      expect([after.count, after.meta]).toEqual([keysOf(writer.view).length, 'two 19'])
      await ask({ do: 'close' })
    })

    test('another thread sees a commit as soon as it is acknowledged', async () => {
      const ask = await startWorker()
      for (let round = 0; round < 50; round++) {
        const text = new TextEncoder().encode(String(round))
        writer.transact(transaction => {
          const old = transaction.get(1n)
          if (old === undefined) transaction.insert(record(1n, text))
          else transaction.replace(kept(old), record(1n, text))
          transaction.putMeta('state', text)
        })
        expect(await ask({ do: 'get', key: 1n, meta: 'state' })).toEqual({ data: String(round), meta: String(round) })
        expect(new TextDecoder().decode(reader.getWithMeta(1n, 'state').record?.data)).toBe(String(round))
      }
      await ask({ do: 'close' })
    })

    test('record and metadata are of one moment while another thread writes as fast as it can', async () => {
      const rounds = 400
      const put = (round: number): void => {
        const text = new TextEncoder().encode(String(round))
        writer.transact(transaction => {
          const old = transaction.get(0n)
          if (old === undefined) transaction.insert(record(0n, text))
          else transaction.replace(kept(old), record(0n, text))
          if (round > 0) transaction.insert(record(BigInt(round), noise(500, round)))
          transaction.putMeta('state', text)
        })
      }
      put(0)
      const ask = await startWorker()
      const race = ask({ do: 'race', key: 0n, until: rounds })
      for (let round = 1; round <= rounds; round++) put(round)
      const { problems, reads } = (await race) as { problems: string[]; reads: number }
      expect(problems).toEqual([])
      expect(reads).toBeGreaterThan(0)
      await ask({ do: 'close' })
    })

    test('several snapshots of different moments stand side by side', () => {
      const snapshots = [0n, 1n, 2n].map(key => {
        fill([key])
        return reader.snapshot()
      })
      fill([3n])
      expect(snapshots.map(snapshot => keysOf(snapshot))).toEqual([[0n], [0n, 1n], [0n, 1n, 2n]])
      for (const snapshot of snapshots) snapshot.release()
      for (const snapshot of snapshots) snapshot.release()
      expect(() => snapshots[0]!.get(0n)).toThrow(expect.objectContaining({ code: 'not_ready' }))
      const again = reader.snapshot()
      expect(keysOf(again)).toEqual([0n, 1n, 2n, 3n])
      again.release()
    })
  })

  describe('files', () => {
    test('after a clean close and a new start everything is there', async () => {
      writer.transact(transaction => {
        for (const key of EDGE_KEYS) transaction.insert(record(key, `value ${key}`, key))
        transaction.putMeta('m', noise(10))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 2n, frame: noise(20) })
      })
      close()
      await open()
      expect(everything(writer.view)).toEqual(EDGE_KEYS.map(key => record(key, `value ${key}`, key)))
      expect(expiries(reader.snapshot())).toEqual(EDGE_KEYS.filter(key => key > 0n).map(key => [key, key]))
      expect(Uint8Array.from(reader.getMeta('m')!)).toEqual(noise(10))
      expect(logOf(writer.view)).toEqual([[1n, 2n, 20]])
      writer.transact(transaction => expect(transaction.insert(record(MAX))).toBe(false))
    })

    test('figures grow with the data; freed space is counted and given back or reused', () => {
      const before = writer.figures()
      for (let round = 0; round < 8; round++)
        writer.transact(transaction => {
          for (let index = 0; index < 64; index++)
            transaction.insert(record(BigInt(round * 64 + index), noise(8000, round * 64 + index + 1)))
        })
      writer.checkpoint('truncate')
      const full = writer.figures()
      expect(full.fileBytes).toBeGreaterThan(before.fileBytes + 8 * 64 * 8000)
      expect(reader.figures().fileBytes).toBeGreaterThan(before.fileBytes + 8 * 64 * 8000)
      for (const figures of [before, full]) {
        expect(figures.fragmentation).toBeGreaterThanOrEqual(0)
        expect(figures.fragmentation).toBeLessThanOrEqual(1)
      }
      writer.transact(transaction => transaction.removeRange({ start: 0n, end: 400n }))
      writer.checkpoint('truncate')
      while (!writer.reclaim(50));
      if (subject.compactsInPlace) writer.compact(never)
      writer.checkpoint('truncate')
      const after = writer.figures()
      expect(after.fileBytes - after.freeBytes).toBeLessThan(full.fileBytes / 2)
      expect(keysOf(writer.view).length).toBe(8 * 64 - 401)
    })

    test('checkpoint and flush may be called at any time and lose nothing', () => {
      fill(EDGE_KEYS)
      writer.flush()
      expect(writer.checkpoint('passive')).toBeGreaterThanOrEqual(0)
      const snapshot = reader.snapshot()
      fill([42n])
      writer.checkpoint('truncate')
      expect(keysOf(snapshot)).toEqual(EDGE_KEYS)
      snapshot.release()
      expect(writer.checkpoint('truncate')).toBe(0)
      expect(keysOf(writer.view).length).toBe(EDGE_KEYS.length + 1)
    })

    test('a compact copy holds everything and opens as a database', async () => {
      fill(EDGE_KEYS)
      writer.transact(transaction => {
        transaction.insert(record(500n, 'x', 7n))
        transaction.putMeta('m', noise(10))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 2n, frame: noise(20) })
        for (let index = 0n; index < 1000n; index++) transaction.insert(record(10_000n + index, noise(1000)))
      })
      writer.transact(transaction => transaction.removeRange({ start: 10_000n, end: 10_999n }))
      const target = join(root, 'copy')
      writer.compactInto(target, never)
      expect(() => writer.compactInto(target, never)).toThrow(expect.objectContaining({ code: 'conflict' }))
      const copy = await openWriter({ kind, directory: target, tuning })
      try {
        expect(everything(copy.view)).toEqual(everything(writer.view))
        expect(expiries(copy.view)).toEqual([[500n, 7n]])
        expect(Uint8Array.from(copy.view.getMeta('m')!)).toEqual(noise(10))
        expect(logOf(copy.view)).toEqual([[1n, 2n, 20]])
        copy.transact(transaction => transaction.insert(record(501n)))
      } finally {
        copy.close()
      }
      expect(writer.view.get(501n)).toBeUndefined()
    })

    test('compacting in place keeps everything, or says that the engine cannot', () => {
      fill(EDGE_KEYS)
      if (subject.compactsInPlace) writer.compact(never)
      else expect(() => writer.compact(never)).toThrow(expect.objectContaining({ code: 'setting_unsupported' }))
      expect(keysOf(writer.view)).toEqual(EDGE_KEYS)
    })

    test('long work stops when its progress says so', () => {
      fill(EDGE_KEYS)
      const cancel = (): boolean => true
      expect(() => reader.checkIntegrity(cancel)).toThrow(expect.objectContaining({ code: 'cancelled' }))
      expect(() => writer.compactInto(join(root, 'copy'), cancel)).toThrow(
        expect.objectContaining({ code: 'cancelled' }),
      )
      expect(keysOf(writer.view)).toEqual(EDGE_KEYS)
    })

    test('the integrity check finds nothing in a sound database and the seeded damage in a damaged one', async () => {
      for (let round = 0; round < 5; round++)
        writer.transact(transaction => {
          for (let index = 0; index < 1000; index++)
            transaction.insert(record(BigInt(round * 1000 + index), noise(100)))
        })
      writer.checkpoint('truncate')
      expect(reader.checkIntegrity(never).problems).toEqual([])
      close()
      subject.damage(directory)
      let problems: readonly string[] = []
      try {
        await open()
        problems = reader.checkIntegrity(never).problems
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: 'engine_corrupt' })
        problems = [String(thrown)]
      }
      expect(problems.length).toBeGreaterThan(0)
    })
  })

  describe('a full disk', () => {
    let mounted: string | undefined

    beforeEach(() => {
      mounted = mountSmallDisk(join(root, 'disk'))
    })

    afterEach(() => {
      if (mounted !== undefined) execFileSync('umount', ['-l', mounted])
    })

    test('gives no_space, loses nothing that was acknowledged, and lets writes go on when there is room again', async context => {
      if (mounted === undefined) return context.skip('a small disk can be mounted by root alone')
      const disk = join(mounted, 'db')
      mkdirSync(disk)
      const ballast = join(mounted, 'ballast')
      writeFileSync(ballast, noise(8 << 20))
      const small = await openWriter({ kind, directory: disk, tuning })
      const beside = await openReader(small.share)
      const acknowledged: bigint[] = []
      let failure: unknown
      for (let key = 0n; key < 2000n && failure === undefined; key++) {
        try {
          small.transact(transaction => {
            transaction.insert(record(key, noise(64 << 10, Number(key) + 1)))
            transaction.appendLog({ firstSeq: key + 1n, lastSeq: key + 1n, frame: noise(100) })
          })
          acknowledged.push(key)
        } catch (thrown) {
          failure = thrown
        }
      }
      expect(failure).toMatchObject({ code: 'no_space' })
      expect(acknowledged.length).toBeGreaterThan(20)
      expect(keysOf(small.view)).toEqual(acknowledged)
      expect(beside.getWithMeta(acknowledged.at(-1)!, '').record?.data.length).toBe(64 << 10)
      rmSync(ballast)
      small.transact(transaction => {
        for (const key of acknowledged.slice(0, 10)) transaction.remove(kept(transaction.get(key)!))
      })
      small.transact(transaction => transaction.insert(record(1_000_000n)))
      const expected = [...acknowledged.slice(10), 1_000_000n]
      expect(keysOf(small.view)).toEqual(expected)
      beside.close()
      small.close()
      const again = await openWriter({ kind, directory: disk, tuning })
      expect(keysOf(again.view)).toEqual(expected)
      again.close()
    })
  })

  describe('settings', () => {
    test('the version names the engine', () => {
      expect(writer.version).toMatch(new RegExp(`^${kind} \\d+\\.\\d+`))
    })

    test('a setting of another engine is refused by name', async () => {
      for (const [field, value] of Object.entries(subject.foreign)) {
        const options = { kind, directory: join(root, 'other'), tuning: { ...tuning, [field]: value } }
        await expect(openWriter(options)).rejects.toMatchObject({
          code: 'setting_unsupported',
          message: expect.stringContaining(field),
          details: { field: `tuning.${field}` },
        })
      }
    })

    test('every sync mode stores and reopens', async () => {
      for (const syncMode of ['Full', 'Normal', 'Off'] as const) {
        const other = join(root, `sync-${syncMode}`)
        mkdirSync(other)
        const options = { kind, directory: other, tuning: { ...tuning, syncMode } }
        const first = await openWriter(options)
        first.transact(transaction => transaction.insert(record(1n)))
        first.flush()
        first.close()
        const second = await openWriter(options)
        expect(keysOf(second.view)).toEqual([1n])
        second.close()
      }
    })
  })
}
