import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'
import { engineContract } from './contract.ts'
import { everything, kept, keysOf, logOf, noise, record } from './records.ts'

const PAGE = 4096

describe('LMDB', () => {
  engineContract({
    kind: 'LMDB',
    tuning: { syncMode: 'Full' },
    foreign: { cacheSize: 1 << 26, compression: 'Zstd', journalMode: 'WAL' },
    compactsInPlace: false,
    damage(directory) {
      // The fullest leaf that the last transaction wrote is in use: flips the offset of its first node.
      const file = join(directory, 'main.lmdb', 'data.mdb')
      const bytes = readFileSync(file)
      let best = { page: 0, transaction: 0n, nodes: 0 }
      for (let page = 2; (page + 1) * PAGE <= bytes.length; page++) {
        const at = page * PAGE
        if (bytes.readUInt16LE(at + 18) !== 2 || Number(bytes.readBigUInt64LE(at)) !== page) continue
        const transaction = bytes.readBigUInt64LE(at + 8)
        const nodes = bytes.readUInt16LE(at + 20)
        if (transaction > best.transaction || (transaction === best.transaction && nodes > best.nodes))
          best = { page, transaction, nodes }
      }
      bytes.writeUInt16LE(bytes.readUInt16LE(best.page * PAGE + 24) ^ 0x4000, best.page * PAGE + 24)
      writeFileSync(file, bytes)
    },
  })
})

describe('the map of LMDB', () => {
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'kvidx-lmdb-'))
  })

  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  test('grows while readers in this and in another thread hold snapshots', async () => {
    const writer = await openWriter({ kind: 'LMDB', directory, tuning: { syncMode: 'Off', mapSize: 1 << 20 } })
    const reader = await openReader(writer.share)
    const text = (value: number): Uint8Array => new TextEncoder().encode(String(value))
    writer.transact(transaction => {
      transaction.insert(record(0n, text(0)))
      transaction.putMeta('state', text(0))
    })
    const early = reader.snapshot()
    const worker = new Worker(new URL('./reader-worker.ts', import.meta.url), { workerData: writer.share })
    const answer = (): Promise<{ ok: { problems: string[]; reads: number } }> =>
      new Promise((resolve, reject) => {
        worker.once('error', reject)
        worker.once('message', resolve)
      })
    await answer()
    const rounds = 100
    const race = answer()
    worker.postMessage({ do: 'race', key: 0n, until: rounds })
    const before = writer.figures().mapBytes!
    for (let round = 1; round <= rounds; round++)
      writer.transact(transaction => {
        transaction.replace(kept(transaction.get(0n)!), record(0n, text(round)))
        transaction.insert(record(BigInt(round), noise(200_000, round)))
        transaction.putMeta('state', text(round))
      })
    const { problems, reads } = (await race).ok
    expect(problems).toEqual([])
    expect(reads).toBeGreaterThan(0)
    expect(before).toBeLessThan(2 << 20)
    expect(writer.figures().mapBytes).toBeGreaterThan(rounds * 200_000)
    expect(everything(early)).toEqual([record(0n, text(0))])
    early.release()
    expect(keysOf(writer.view).length).toBe(rounds + 1)
    expect((await reader.checkIntegrity(() => false)).problems).toEqual([])
    await worker.terminate()
    reader.close()
    writer.close()
  })

  test('at its limit gives no_space; reads and removals go on, and then there is room again', async () => {
    const limit = 16 << 20
    const tuning = { syncMode: 'Off', mapSize: 1 << 20, mapSizeLimit: limit } as const
    const writer = await openWriter({ kind: 'LMDB', directory, tuning })
    const acknowledged: bigint[] = []
    const put = (key: bigint, bytes: number): boolean =>
      writer.transact(transaction => transaction.insert(record(key, noise(bytes, Number(key) + 1))))
    expect(() => {
      for (let key = 0n; key < 100_000n; key++) {
        put(key, Number(key % 7n) * 3000)
        acknowledged.push(key)
      }
    }).toThrow(expect.objectContaining({ code: 'no_space', message: expect.stringContaining('mapSizeLimit') }))
    const figures = writer.figures()
    expect(figures.fileBytes).toBeLessThan(limit * 1.02)
    expect(figures.fileBytes).toBeGreaterThan(limit / 2)
    expect(keysOf(writer.view)).toEqual(acknowledged)
    writer.transact(transaction => transaction.removeRange({ start: 0n, end: 500n }))
    for (let key = 1_000_000n; key < 1_000_100n; key++) put(key, 3000)
    expect(keysOf(writer.view).length).toBe(acknowledged.length - 501 + 100)
    expect(writer.figures().fileBytes).toBeLessThan(limit * 1.05)
    writer.close()
  })

  test('one transaction that is larger than the limit changes nothing', async () => {
    const tuning = { syncMode: 'Off', mapSize: 1 << 20, mapSizeLimit: 4 << 20 } as const
    const writer = await openWriter({ kind: 'LMDB', directory, tuning })
    expect(() =>
      writer.transact(transaction => {
        for (let key = 0n; key < 100n; key++) transaction.insert(record(key, noise(100_000)))
      }),
    ).toThrow(expect.objectContaining({ code: 'no_space' }))
    expect(keysOf(writer.view)).toEqual([])
    writer.transact(transaction => transaction.insert(record(1n)))
    writer.close()
  })

  test('a frame that does not follow the end of the change log is refused, not lost', async () => {
    const writer = await openWriter({ kind: 'LMDB', directory, tuning: { syncMode: 'Off' } })
    const append = (seq: bigint): void =>
      writer.transact(transaction => transaction.appendLog({ firstSeq: seq, lastSeq: seq, frame: noise(3) }))
    append(5n)
    for (const seq of [5n, 4n]) expect(() => append(seq)).toThrow(`does not end before seq ${seq}`)
    append(6n)
    expect(logOf(writer.view).map(([first]) => first)).toEqual([5n, 6n])
    writer.close()
  })

  test('a file of kvidxkit (data format 1), or of something else, is refused and not opened', async () => {
    const path = join(directory, 'main.lmdb')
    mkdirSync(path)
    const header = Buffer.alloc(8192)
    header.writeUInt32LE(0xbeefc0de, 16)
    header.writeUInt32LE(1, 20)
    writeFileSync(join(path, 'data.mdb'), header)
    const options = { kind: 'LMDB', directory, tuning: { syncMode: 'Full' } } as const
    await expect(openWriter(options)).rejects.toMatchObject({
      code: 'engine_corrupt',
      message: expect.stringContaining('data format 1'),
    })
    writeFileSync(join(path, 'data.mdb'), noise(8192))
    await expect(openWriter(options)).rejects.toMatchObject({ code: 'engine_corrupt' })
  })
})
