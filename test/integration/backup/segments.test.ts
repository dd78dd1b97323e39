import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { backupFull } from '../../../sidecar/backup/backup.ts'
import type { Backup, Segment } from '../../../sidecar/backup/catalog.ts'
import { resolveChain } from '../../../sidecar/backup/chain.ts'
import { readSegment } from '../../../sidecar/backup/change-file.ts'
import { compactSegments, planCompaction } from '../../../sidecar/backup/compaction.ts'
import { KeyRing, masterKey } from '../../../sidecar/backup/key-ring.ts'
import { planPrune, prune } from '../../../sidecar/backup/prune.ts'
import { stageRestore } from '../../../sidecar/backup/restore.ts'
import { lastShipped, SegmentShipper, writeEpochs, writeSegment } from '../../../sidecar/backup/segments.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { readAll } from '../../../sidecar/backup/store/body.ts'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { FrameBuilder, FrameSplitter, readFrameHeader } from '../../../sidecar/database/frame.ts'
import type { Position } from '../../../sidecar/database/operation.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { Random, Source } from './source.ts'

const START: Position = { epoch: 1n, seq: 0n }
const DAY = 86_400_000

let source: Source
let random: Random
beforeEach(async () => {
  random = new Random(5)
  source = await Source.open('SQLite', new KeyRing([masterKey(Buffer.alloc(32, 3))]))
})
afterEach(() => source.close())

async function frames(from = START): Promise<Buffer[]> {
  const splitter = new FrameSplitter()
  const list: Buffer[] = []
  for await (const chunk of source.database.changes(from, false, source.signal)) list.push(...splitter.push(chunk))
  return list
}

/** Ships everything there is, and returns how. */
async function ship(from: Position, options: Partial<ConstructorParameters<typeof SegmentShipper>[0]> = {}) {
  const shipper = new SegmentShipper({ ...source.context, home: source.home, maxBytes: 3000, ...options }, from)
  await shipper.run(source.database.changes(from, false, source.signal), () => source.database.epochs, source.signal)
  return shipper.status
}

async function stored(): Promise<readonly Segment[]> {
  return (await source.catalog()).segments
}

describe('shipping', () => {
  it('stores every commit once, in segments that follow each other, and says how far it is', async () => {
    await source.churn(random, 150)
    const shippedTo: Position[] = []
    const status = await ship(START, { onShipped: position => void shippedTo.push(position) })
    const { position } = source.database.state
    expect(status).toMatchObject({ shipped: position, waitingBytes: 0, segments: shippedTo.length })
    expect(shippedTo.at(-1)).toEqual(position)
    const expected = await frames()
    const found: Buffer[] = []
    for (const segment of await stored())
      for await (const batch of readSegment(source.context, segment)) found.push(...batch.map(({ frame }) => frame))
    expect(Buffer.concat(found).equals(Buffer.concat(expected))).toBe(true)
    expect(await lastShipped(source.context, source.home, 1n)).toBe(position.seq)
    expect(await lastShipped(source.context, source.home, 2n)).toBeUndefined()
  })

  it('closes a segment when its oldest commit is as old as the interval', async () => {
    const stop = new AbortController()
    const shipper = new SegmentShipper({ ...source.context, home: source.home, intervalMs: 50 }, START)
    const running = shipper.run(
      source.database.changes(START, true, stop.signal),
      () => source.database.epochs,
      stop.signal,
    )
    for (let i = 1; i <= 3; i++) {
      await source.churn(random, 1)
      const end = source.database.state.position.seq
      const began = performance.now()
      while (shipper.status.shipped.seq < end) await systemClock.sleep(5)
      expect(performance.now() - began).toBeLessThan(2000)
      expect((await stored()).length).toBeGreaterThanOrEqual(i)
    }
    stop.abort()
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
  })

  it('is not harmed by doing the same again, and refuses to overwrite another history', async () => {
    await source.churn(random, 50)
    await ship(START)
    const before = await stored()
    await ship(START)
    expect(await stored()).toEqual(before)
    const [first] = before
    const mine = (await frames()).filter(frame => readFrameHeader(frame).lastSeq <= first!.last)
    const builder = new FrameBuilder()
    const other = mine.map((frame, i) => {
      const { epoch, firstSeq, lastSeq, after } = readFrameHeader(frame)
      if (i !== mine.length - 1) return frame
      builder.reset()
      for (let seq = firstSeq; seq <= lastSeq; seq++) builder.remove(seq)
      return Buffer.from(builder.finish({ epoch, seq: firstSeq }, 1n, after))
    })
    await expect(writeSegment(source.context, source.home, first!, other)).rejects.toMatchObject({
      code: 'history_conflict',
    })
    const forked = [{ ...source.database.epochs[0]!, forkSeq: 7n }]
    await expect(writeEpochs(source.context, source.home, 1n, forked)).rejects.toMatchObject({
      code: 'history_conflict',
    })
    expect(await stored()).toEqual(before)
  })

  it('waits for a store that is down, tells since when, and leaves nothing out', async () => {
    let down = true
    const store = new Proxy(source.store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target)
        if (typeof member !== 'function') return member
        if (name !== 'putIfAbsent') return member.bind(target)
        return (...args: unknown[]) =>
          down ? Promise.reject(new KvidxError('store_unreachable', 'down')) : member.apply(target, args)
      },
    })
    await source.churn(random, 100)
    const shipper = new SegmentShipper({ ...source.context, store, home: source.home, maxBytes: 2000 }, START)
    const running = shipper.run(
      source.database.changes(START, false, source.signal),
      () => source.database.epochs,
      source.signal,
    )
    while (!shipper.status.failing) await systemClock.sleep(5)
    expect(shipper.status).toMatchObject({ shipped: START, failing: { error: { code: 'store_unreachable' } } })
    expect(shipper.status.oldestWaiting).toBe(Number(readFrameHeader((await frames())[0]!).time))
    // what it holds is one segment, not the backlog
    expect(shipper.status.waitingBytes).toBeLessThan(6000)
    down = false
    await running
    expect(shipper.status.shipped).toEqual(source.database.state.position)
    expect(shipper.status.failing).toBeUndefined()
  })

  it('names the gap when the log leaves changes out', async () => {
    await source.churn(random, 20)
    const [first, , ...rest] = await frames()
    async function* holed() {
      yield Buffer.concat([first!, ...rest])
    }
    const shipper = new SegmentShipper({ ...source.context, home: source.home }, START)
    await expect(shipper.run(holed(), () => source.database.epochs, source.signal)).rejects.toMatchObject({
      code: 'backup_gap',
    })
  })

  it('begins another segment with another epoch', async () => {
    await source.churn(random, 5)
    const history = [
      ...source.database.epochs,
      { epoch: 2n, parentEpoch: 1n, forkSeq: 0n, reason: 'promoted' as const, time: 5n },
    ]
    const list = await frames()
    const fork = readFrameHeader(list[1]!).lastSeq
    history[1] = { ...history[1]!, forkSeq: fork }
    const builder = new FrameBuilder()
    const moved = list.slice(2).map(frame => {
      const { firstSeq, changeCount, time, after } = readFrameHeader(frame)
      builder.reset()
      for (let i = 0; i < changeCount; i++) builder.remove(BigInt(i))
      return Buffer.from(builder.finish({ epoch: 2n, seq: firstSeq }, time, after))
    })
    async function* all() {
      yield Buffer.concat([list[0]!, list[1]!, ...moved])
    }
    const shipper = new SegmentShipper({ ...source.context, home: source.home }, START)
    await shipper.run(all(), () => history, source.signal)
    const catalog = await source.catalog()
    expect(catalog.segments.map(({ epoch, first, last }) => [epoch, first, last])).toEqual([
      [1n, 1n, fork],
      [2n, fork + 1n, readFrameHeader(list.at(-1)!).lastSeq],
    ])
    expect(catalog.epochs).toEqual(history)
  })
})

describe('compaction and pruning', () => {
  it('merges segments, deletes what is merged, and a restore gives the same as before', async () => {
    await source.churn(random, 20)
    await source.full()
    await source.churn(random, 200)
    await ship(START, { maxBytes: 500 })
    const before = await source.catalog()
    const policy = { levels: [20_000, 100_000], minFiles: 5, graceMs: 0 }
    const plan = planCompaction(before.segments, policy, Date.now())
    expect(plan.merges.length).toBeGreaterThan(0)
    await compactSegments(source.context, source.home, plan)
    const between = await source.catalog()
    const again = planCompaction(between.segments, policy, Date.now() + 1000)
    expect(await compactSegments(source.context, source.home, { merges: [], obsolete: again.obsolete })).toMatchObject({
      deleted: plan.merges.flat().length,
      kept: 0,
    })
    const after = await source.catalog()
    expect(after.segments.length).toBeLessThan(before.segments.length / 4)
    for (const catalog of [before, between, after]) {
      if (catalog === before) continue
      const chain = resolveChain(catalog, { kind: 'latest' })
      const { reached } = await stageRestore(source.context, chain, {
        engine: 'SQLite',
        directory: source.fresh('restored'),
      })
      expect(reached).toMatchObject({ position: source.database.state.position, digest: source.database.state.digest })
    }
  })

  it('deletes no segment for a merged one that the store has damaged: that one goes', async () => {
    await source.churn(random, 20)
    await source.full()
    await source.churn(random, 200)
    await ship(START, { maxBytes: 500 })
    const policy = { levels: [100_000], minFiles: 5, graceMs: 0 }
    const { segments } = await source.catalog()
    await compactSegments(source.context, source.home, planCompaction(segments, policy, Date.now()))
    const merged = (await stored()).filter(({ key }) => !segments.some(segment => segment.key === key))
    expect(merged.length).toBeGreaterThan(0)
    for (const { key } of merged) {
      const bytes = await readAll((await source.store.get(key)).chunks, 1 << 20, key)
      bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1)
      await source.store.put(key, bytes)
    }
    const again = planCompaction(await stored(), policy, Date.now() + 1000)
    await compactSegments(source.context, source.home, { merges: [], obsolete: again.obsolete })
    expect((await stored()).map(({ key }) => key)).toEqual(segments.map(({ key }) => key))
    const chain = resolveChain(await source.catalog(), { kind: 'latest' })
    const { reached } = await stageRestore(source.context, chain, { engine: 'SQLite', directory: source.fresh('r') })
    expect(reached.digest).toBe(source.database.state.digest)
  })

  /** Of a schedule and not to be verified: good at once, and nobody's to keep. */
  async function scheduled(name: string): Promise<void> {
    const snapshot = await snapshotOf(source.database, source.signal)
    await backupFull(source.context, { home: source.home, name, verify: false, schedule: 'daily' }, snapshot)
    snapshot.release()
  }

  /** The files of a backup that never got its manifest. */
  async function unfinished(age: number): Promise<void> {
    const { path } = (await source.catalog()).backups[0] as Backup
    const key = path.replace(/Z-[^/]+\/$/, 'Z-dead/records.kvidx.zst')
    await source.store.put(key, Buffer.from('half'))
    const seconds = (Date.now() - age) / 1000
    utimesSync(join(source.root, 'store', key), seconds, seconds)
  }

  it('prunes what retention lets go, manifest first, and leaves what is unfinished alone for a day', async () => {
    const policy = { daily: 0, weekly: 0, monthly: 0, last: 1, windowMs: 0, timeZone: 'Etc/UTC' }
    await source.churn(random, 20)
    for (const name of ['one', 'two', 'three']) {
      await scheduled(name)
      await source.churn(random, 5)
    }
    await source.full('by-hand')
    await ship(START)
    await unfinished(DAY / 2)
    const soon = planPrune(await source.catalog(), policy, Date.now())
    expect(soon.catalog.unfinished).toHaveLength(1)
    expect(soon.backups.every(decision => decision.keep)).toBe(true)
    expect(soon.unfinished).toEqual([])
    await unfinished(2 * DAY)
    const plan = planPrune(await source.catalog(), policy, Date.now() + 3 * DAY)
    const result = await prune(source.store, plan)
    expect(result).toMatchObject({ backups: 2, unfinished: 1, denied: 0 })
    const left = await source.catalog()
    // the newest good one by its rule, and the hand-made one for good
    expect(left.backups.map(backup => backup.name)).toEqual(['three', 'by-hand'])
    expect(left.unfinished).toEqual([])
    expect(left.damaged).toEqual([])
  })

  it('keeps the recovery window, and what is being uploaded, whatever a clock says that is years ahead', async () => {
    const policy = { daily: 0, weekly: 0, monthly: 0, last: 1, windowMs: 7 * DAY, timeZone: 'Etc/UTC' }
    await scheduled('first')
    await source.churn(random, 40)
    await ship(START)
    await scheduled('second')
    await unfinished(DAY / 2)
    const plan = planPrune(await source.catalog(), policy, Date.now() + 3000 * DAY)
    expect(plan.segments.length).toBeGreaterThan(0)
    for (const { keep, id } of [...plan.segments, ...plan.backups]) expect([id, keep]).toEqual([id, true])
    expect(await prune(source.store, plan)).toMatchObject({ backups: 0, segments: 0, unfinished: 0, uploads: 0 })
  })

  it('prunes nothing of an empty or missing store', async () => {
    const policy = { daily: 0, weekly: 0, monthly: 0, last: 0, windowMs: 0, timeZone: 'Etc/UTC' }
    const plan = planPrune(await source.catalog(), policy, Date.now())
    expect(await prune(source.store, plan)).toMatchObject({ backups: 0, segments: 0 })
    const { readLineage } = await import('../../../sidecar/backup/catalog.ts')
    await expect(readLineage(new DirectoryStore('/nonexistent-kvidx'), source.home)).rejects.toMatchObject({
      code: 'store_unreachable',
    })
  })
})
