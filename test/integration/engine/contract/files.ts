import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openReader, openWriter } from '../../../../sidecar/engine/open.ts'
import { EDGE_KEYS, everything, expiries, kept, keysOf, logOf, noise, record } from '../records.ts'
import type { Bench } from './bench.ts'

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

/** Reopening, sizes, compaction, damage, full disks, settings. */
export function fileContract(bench: Bench): void {
  const { subject } = bench
  const { kind, tuning } = bench.subject
  describe('files', () => {
    test('after a clean close and a new start everything is there', async () => {
      bench.writer.transact(transaction => {
        for (const key of EDGE_KEYS) transaction.insert(record(key, `value ${key}`, key))
        transaction.putMeta('m', noise(10))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 2n, frame: noise(20) })
      })
      bench.close()
      await bench.open()
      expect(everything(bench.writer.view)).toEqual(EDGE_KEYS.map(key => record(key, `value ${key}`, key)))
      expect(expiries(bench.reader.snapshot())).toEqual(EDGE_KEYS.filter(key => key > 0n).map(key => [key, key]))
      expect(Uint8Array.from(bench.reader.getMeta('m')!)).toEqual(noise(10))
      expect(logOf(bench.writer.view)).toEqual([[1n, 2n, 20]])
      bench.writer.transact(transaction => expect(transaction.insert(record(MAX))).toBe(false))
    })

    test('figures grow with the data; freed space is counted and given back or reused', async () => {
      const before = bench.writer.figures()
      for (let round = 0; round < 8; round++)
        bench.writer.transact(transaction => {
          for (let index = 0; index < 64; index++)
            transaction.insert(record(BigInt(round * 64 + index), noise(8000, round * 64 + index + 1)))
        })
      bench.writer.checkpoint('truncate')
      const full = bench.writer.figures()
      expect(full.fileBytes).toBeGreaterThan(before.fileBytes + 8 * 64 * 8000)
      expect(bench.reader.figures().fileBytes).toBeGreaterThan(before.fileBytes + 8 * 64 * 8000)
      for (const figures of [before, full]) {
        expect(figures.fragmentation).toBeGreaterThanOrEqual(0)
        expect(figures.fragmentation).toBeLessThanOrEqual(1)
      }
      bench.writer.transact(transaction => transaction.removeRange({ start: 0n, end: 400n }))
      bench.writer.checkpoint('truncate')
      while (!bench.writer.reclaim(50));
      if (subject.compactsInPlace) await bench.writer.compact(never, bench.root)
      bench.writer.checkpoint('truncate')
      const after = bench.writer.figures()
      expect(after.fileBytes - after.freeBytes).toBeLessThan(full.fileBytes / 2)
      expect(keysOf(bench.writer.view).length).toBe(8 * 64 - 401)
    })

    test('checkpoint and flush may be called at any time and lose nothing', () => {
      bench.fill(EDGE_KEYS)
      bench.writer.flush()
      expect(bench.writer.checkpoint('passive')).toBeGreaterThanOrEqual(0)
      const snapshot = bench.reader.snapshot()
      bench.fill([42n])
      bench.writer.checkpoint('truncate')
      expect(keysOf(snapshot)).toEqual(EDGE_KEYS)
      snapshot.release()
      expect(bench.writer.checkpoint('truncate')).toBe(0)
      expect(keysOf(bench.writer.view).length).toBe(EDGE_KEYS.length + 1)
    })

    test('a compact copy holds everything and opens as a database', async () => {
      bench.fill(EDGE_KEYS)
      bench.writer.transact(transaction => {
        transaction.insert(record(500n, 'x', 7n))
        transaction.putMeta('m', noise(10))
        transaction.appendLog({ firstSeq: 1n, lastSeq: 2n, frame: noise(20) })
        for (let index = 0n; index < 1000n; index++) transaction.insert(record(10_000n + index, noise(1000)))
      })
      bench.writer.transact(transaction => transaction.removeRange({ start: 10_000n, end: 10_999n }))
      const target = join(bench.root, 'copy')
      bench.writer.compactInto(target, never)
      expect(() => bench.writer.compactInto(target, never)).toThrow(expect.objectContaining({ code: 'conflict' }))
      const copy = await openWriter({ kind, directory: target, tuning })
      try {
        expect(everything(copy.view)).toEqual(everything(bench.writer.view))
        expect(expiries(copy.view)).toEqual([[500n, 7n]])
        expect(Uint8Array.from(copy.view.getMeta('m')!)).toEqual(noise(10))
        expect(logOf(copy.view)).toEqual([[1n, 2n, 20]])
        copy.transact(transaction => transaction.insert(record(501n)))
      } finally {
        copy.close()
      }
      expect(bench.writer.view.get(501n)).toBeUndefined()
    })

    test('compacting in place keeps everything, or says that the engine cannot', async () => {
      bench.fill(EDGE_KEYS)
      if (subject.compactsInPlace) await bench.writer.compact(never, bench.root)
      else
        expect(() => bench.writer.compact(never, bench.root)).toThrow(
          expect.objectContaining({ code: 'setting_unsupported' }),
        )
      expect(keysOf(bench.writer.view)).toEqual(EDGE_KEYS)
    })

    test('long work stops when its progress says so', async () => {
      bench.fill(EDGE_KEYS)
      const cancel = (): boolean => true
      await expect(bench.reader.checkIntegrity(cancel)).rejects.toMatchObject({ code: 'cancelled' })
      expect(() => bench.writer.compactInto(join(bench.root, 'copy'), cancel)).toThrow(
        expect.objectContaining({ code: 'cancelled' }),
      )
      expect(keysOf(bench.writer.view)).toEqual(EDGE_KEYS)
    })

    test('the integrity check finds nothing in a sound database and the seeded damage in a damaged one', async () => {
      for (let round = 0; round < 5; round++)
        bench.writer.transact(transaction => {
          for (let index = 0; index < 1000; index++)
            transaction.insert(record(BigInt(round * 1000 + index), noise(100)))
        })
      bench.writer.checkpoint('truncate')
      expect((await bench.reader.checkIntegrity(never)).problems).toEqual([])
      bench.close()
      subject.damage(bench.directory)
      let problems: readonly string[] = []
      try {
        await bench.open()
        problems = (await bench.reader.checkIntegrity(never)).problems
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
      mounted = mountSmallDisk(join(bench.root, 'disk'))
    })

    afterEach(() => {
      if (mounted !== undefined) execFileSync('umount', ['-l', mounted])
    })

    test('gives no_space, loses nothing that was acknowledged, and lets writes go on when there is room again', async context => {
      if (mounted === undefined) return context.skip('a small disk can be mounted by bench.root alone')
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
      expect(bench.writer.version).toMatch(new RegExp(`^${kind} \\d+\\.\\d+`))
    })

    test('a setting of another engine is refused by name', async () => {
      for (const [field, value] of Object.entries(subject.foreign)) {
        const options = { kind, directory: join(bench.root, 'other'), tuning: { ...tuning, [field]: value } }
        await expect(openWriter(options)).rejects.toMatchObject({
          code: 'setting_unsupported',
          message: expect.stringContaining(field),
          details: { field: `tuning.${field}` },
        })
      }
    })

    test('every sync mode stores and reopens', async () => {
      for (const syncMode of ['Full', 'Normal', 'Off'] as const) {
        const other = join(bench.root, `sync-${syncMode}`)
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
