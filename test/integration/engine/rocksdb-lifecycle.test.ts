import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { EngineTuning, EngineWriter } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { rocksLibrary } from '../../../sidecar/engine/rocksdb/binding.ts'
import { closeFamilies, openFamilies } from '../../../sidecar/engine/rocksdb/families.ts'
import { OpenOptions } from '../../../sidecar/engine/rocksdb/options.ts'
import { openRocksReader } from '../../../sidecar/engine/rocksdb/reader.ts'
import { openRocksWriter } from '../../../sidecar/engine/rocksdb/writer.ts'
import { describeWithRocksdb } from './native.ts'
import { everything, keysOf, logOf, noise, record } from './records.ts'

const MAX = (1n << 64n) - 1n
const never = (): boolean => false

describeWithRocksdb('the life of a RocksDB database', () => {
  let root: string
  let directory: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'kvidx-rocks-'))
    directory = join(root, 'db')
    mkdirSync(directory)
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  const open = (tuning: Partial<EngineTuning> = {}): EngineWriter =>
    openRocksWriter({ kind: 'RocksDB', directory, tuning: { syncMode: 'Full', ...tuning } })
  const fill = (writer: EngineWriter, from: number, to: number, size = 10): void =>
    writer.transact(transaction => {
      for (let key = from; key < to; key++) transaction.insert(record(BigInt(key), noise(size, key + 1)))
    })

  test('a second open is refused as locked, and the first goes on', () => {
    const writer = open()
    expect(() => open()).toThrow(expect.objectContaining({ code: 'locked' }))
    fill(writer, 0, 3)
    writer.close()
  })

  test('the writer does not close under a reader, of this thread or another, and works on', async () => {
    const writer = open()
    fill(writer, 0, 3)
    const reader = openRocksReader(writer.share)
    const worker = new Worker(new URL('./reader-worker.ts', import.meta.url), { workerData: writer.share })
    await once(worker, 'message')
    expect(() => writer.close()).toThrow(expect.objectContaining({ code: 'conflict', details: { readers: 2 } }))
    reader.close()
    reader.close()
    expect(() => writer.close()).toThrow(expect.objectContaining({ details: { readers: 1 } }))
    fill(writer, 3, 6)
    expect(keysOf(writer.view).length).toBe(6)
    worker.postMessage({ do: 'close' })
    await once(worker, 'exit')
    writer.close()
    writer.close()
  })

  test('whatever is used after its end says so: reader, snapshot, view, transaction, share', () => {
    const writer = open()
    const reader = openRocksReader(writer.share)
    const snapshot = reader.snapshot()
    const kept = writer.transact(transaction => transaction)
    expect(() => kept.get(1n)).toThrow('ended')
    expect(() => writer.transact(() => writer.transact(() => 1))).toThrow('open already')
    snapshot.release()
    snapshot.release()
    expect(() => snapshot.get(1n)).toThrow(expect.objectContaining({ code: 'not_ready' }))
    expect(() => snapshot.count(EVERY_KEY)).toThrow(expect.objectContaining({ code: 'not_ready' }))
    const forgotten = reader.snapshot()
    reader.close()
    expect(() => forgotten.scan(EVERY_KEY, false, () => {})).toThrow(expect.objectContaining({ code: 'not_ready' }))
    expect(() => reader.getMeta('x')).toThrow(expect.objectContaining({ code: 'not_ready' }))
    writer.close()
    expect(() => writer.view.get(1n)).toThrow(expect.objectContaining({ code: 'not_ready' }))
    expect(() => writer.transact(() => 1)).toThrow(expect.objectContaining({ code: 'not_ready' }))
    expect(() => writer.figures()).toThrow(expect.objectContaining({ code: 'not_ready' }))
    expect(() => openRocksReader(writer.share)).toThrow(expect.objectContaining({ code: 'not_ready' }))
  })

  test('nothing closes from inside a scan', () => {
    const writer = open()
    fill(writer, 0, 3)
    const reader = openRocksReader(writer.share)
    const snapshot = reader.snapshot()
    snapshot.scan(EVERY_KEY, false, () => {
      expect(() => reader.close()).toThrow('scan')
      return false
    })
    reader.close()
    writer.view.scan(EVERY_KEY, false, () => {
      expect(() => writer.close()).toThrow('scan')
      return false
    })
    writer.close()
  })

  test('a scan may read by point on the same view, and nest', () => {
    const writer = open()
    fill(writer, 0, 50, 100)
    let seen = 0
    writer.view.scan({ start: 0n, end: 9n }, false, outer => {
      const key = outer.key
      writer.view.scan({ start: key, end: key + 2n }, true, inner => {
        expect(writer.view.get(inner.key)?.term).toBe(inner.term)
        seen++
      })
    })
    expect(seen).toBe(30)
    writer.close()
  })

  test('every compression writes what every other reads', () => {
    const all = ['None', 'Snappy', 'LZ4', 'Zstd'] as const
    all.forEach((compression, index) => {
      const writer = open({ compression, cacheSize: 1 << 20 })
      fill(writer, index * 100, index * 100 + 100, 1000)
      writer.checkpoint('truncate')
      expect(everything(writer.view)).toEqual(
        Array.from({ length: (index + 1) * 100 }, (_, key) => record(BigInt(key), noise(1000, key + 1))),
      )
      writer.close()
    })
  })

  test('a creation that was cut short before its column families is finished', () => {
    const library = rocksLibrary()
    const options = new OpenOptions(library, { syncMode: 'Full' }, 'None', 2 ** 36)
    const path = join(directory, 'main.rocks')
    const [family = 0] = options.families
    closeFamilies(
      library,
      openFamilies(library, { path, names: ['default'], database: options.database, families: [family] }),
    )
    options.free()
    const writer = open()
    fill(writer, 0, 3)
    writer.close()
  })

  test('a trimmed log and a removed range are counted as free and given back without the writer waiting', async () => {
    const writer = open({ compression: 'None' })
    const reader = openRocksReader(writer.share)
    fill(writer, 0, 10_000, 1000)
    writer.transact(transaction => {
      for (let seq = 1n; seq <= 1000n; seq++)
        transaction.appendLog({ firstSeq: seq, lastSeq: seq, frame: noise(10_000, Number(seq)) })
    })
    writer.checkpoint('truncate')
    const full = reader.figures()
    writer.transact(transaction => {
      transaction.removeRange({ start: 1000n, end: MAX })
      expect(transaction.trimLog(900n)).toBe(9_000_000)
    })
    const removed = reader.figures()
    expect(removed.freeBytes).toBeGreaterThan(full.fileBytes * 0.7)
    expect(writer.figures().freeBytes).toBe(removed.freeBytes)
    let longest = 0
    for (let done = false; !done; ) {
      const start = performance.now()
      done = writer.reclaim(50)
      longest = Math.max(longest, performance.now() - start)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    const after = reader.figures()
    expect(after.fileBytes - (after.walBytes ?? 0)).toBeLessThan(full.fileBytes * 0.25)
    expect(after.freeBytes).toBeLessThan(full.fileBytes * 0.05)
    expect(longest).toBeLessThan(500)
    expect(keysOf(writer.view).length).toBe(1000)
    expect(logOf(writer.view).length).toBe(100)
    reader.close()
    writer.close()
  })

  test.each(['Full', 'Normal', 'Off'] as const)(
    'kill -9 under load with syncMode %s loses no acknowledged commit and keeps commits whole',
    async syncMode => {
      for (let round = 0; round < (syncMode === 'Full' ? 3 : 1); round++) {
        const child = spawn(
          process.execPath,
          [join(import.meta.dirname, 'rocksdb-crash-child.ts'), directory, syncMode],
          {
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        )
        let acknowledged = 0
        let rest = ''
        child.stdout.setEncoding('utf8').on('data', (text: string) => {
          const lines = (rest + text).split('\n')
          rest = lines.pop() ?? ''
          acknowledged = Number(lines.at(-1) ?? acknowledged)
          // in the middle of whatever it is doing then
          if (lines.length > 0 && acknowledged % 50 === 0) setTimeout(() => child.kill('SIGKILL'), 100 + round * 40)
        })
        await once(child, 'exit')
        expect(acknowledged).toBeGreaterThan(0)
        const writer = open({ syncMode })
        const count = Number(new TextDecoder().decode(writer.view.getMeta('count')))
        expect(count).toBeGreaterThanOrEqual(acknowledged)
        const keys = keysOf(writer.view)
        expect(keys.length).toBe(count)
        expect(keys.at(-1)).toBe(BigInt(count - 1))
        expect(writer.view.scanExpiries(MAX, Number.MAX_SAFE_INTEGER, () => {})).toBe(count)
        expect(logOf(writer.view).length).toBe(count / 50)
        const reader = openRocksReader(writer.share)
        expect((await reader.checkIntegrity(never)).problems).toEqual([])
        reader.close()
        writer.close()
      }
    },
  )
})
