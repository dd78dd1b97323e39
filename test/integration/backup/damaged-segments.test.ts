import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Segment } from '../../../sidecar/backup/catalog.ts'
import { resolveChain, type Target } from '../../../sidecar/backup/chain.ts'
import { compactSegments, planCompaction } from '../../../sidecar/backup/compaction.ts'
import { stageRestore } from '../../../sidecar/backup/restore.ts'
import { SegmentShipper } from '../../../sidecar/backup/segments.ts'
import type { DatabaseState } from '../../../sidecar/database/database.ts'
import { formatDigest } from '../../../sidecar/database/digest.ts'
import { formatPosition } from '../../../sidecar/database/position.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { runDrill } from '../../../sidecar/job/drill-job.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { expectState, readRestored } from './restored.ts'
import { Random, Source } from './source.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']

describe.each(ENGINES)('a merged segment that the store has damaged, %s', engine => {
  let source: Source
  let parts: readonly Segment[]
  let merged: Segment
  let ledger: readonly DatabaseState[]
  beforeEach(async () => {
    source = await Source.open(engine)
    const random = new Random(ENGINES.indexOf(engine) + 11)
    await source.churn(random, 20)
    await source.full()
    const from = source.database.state.position
    const known = source.ledger.length
    await source.churn(random, 200)
    ledger = source.ledger.slice(known)
    const shipper = new SegmentShipper({ ...source.context, home: source.home, maxBytes: 1500 }, from)
    await shipper.run(source.database.changes(from, false, source.signal), () => source.database.epochs, source.signal)
    parts = (await source.catalog()).segments
    // not the last ones, so that there is something behind it
    const plan = planCompaction(parts.slice(0, -5), { levels: [1 << 20], minFiles: 5, graceMs: 0 }, Date.now())
    expect(plan.merges).toHaveLength(1)
    await compactSegments(source.context, source.home, plan)
    merged = (await source.catalog()).segments.find(({ key }) => !parts.some(part => part.key === key)) as Segment
    expect((await restore({ kind: 'latest' })).sources).toHaveLength(6)
    damage(merged)
  })
  afterEach(() => source.close())

  const fileOf = (segment: Segment) => join(source.root, 'store', segment.key)
  function damage(segment: Segment): void {
    const bytes = readFileSync(fileOf(segment))
    bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1)
    writeFileSync(fileOf(segment), bytes)
  }
  /** One in the middle of the merged one, behind its damage. */
  const part = () => parts[Math.floor(parts.length * 0.7)] as Segment
  const last = () => ledger.at(-1) as DatabaseState
  const before = (seq: bigint) => ledger.findLast(({ position }) => position.seq < seq) as DatabaseState

  async function restore(target: Target) {
    const directory = source.fresh('restored')
    const result = await stageRestore(source.context, resolveChain(await source.catalog(), target), {
      engine,
      directory,
    })
    return { ...result, found: await readRestored(engine, directory) }
  }
  async function drill(time: bigint) {
    const scratch = source.fresh('scratch')
    mkdirSync(scratch)
    const settings = { volume: { directory: join(source.root, 'store') } }
    return runDrill(settings, source.home, { clock: systemClock, scratch, engine, signal: source.signal, time })
  }

  it('is replaced by its parts: every target is met, equal to the ledger, and the damage is told', async () => {
    const latest = await restore({ kind: 'latest' })
    expectState(latest.found, last())
    expect(latest.complete).toBe(true)
    expect(latest.damaged.map(({ message }) => message)).toEqual([expect.stringContaining(merged.key)])
    const used = latest.sources.map(its => (its.type === 'segment' ? its.segment.key : its.backup.name))
    expect(used).toEqual(parts.map(({ key }) => key))
    const random = new Random(3)
    for (let i = 0; i < 5; i++) {
      const wanted = ledger[random.below(ledger.length)] as DatabaseState
      expectState((await restore({ kind: 'position', position: wanted.position })).found, wanted)
      const until = ledger.findLast(({ time }) => time <= wanted.time) as DatabaseState
      expectState((await restore({ kind: 'time', time: wanted.time })).found, until)
    }
  })

  it('is replaced by its parts in a drill, which names it', async () => {
    expect(await drill(last().time)).toMatchObject({
      phase: 'Completed',
      position: formatPosition(last().position),
      digest: formatDigest(last().digest),
      damaged: [expect.stringContaining(merged.key)],
    })
  })

  it('that is gone when it is read is replaced, too', async () => {
    const chain = resolveChain(await source.catalog(), { kind: 'latest' })
    rmSync(fileOf(merged))
    const { reached } = await stageRestore(source.context, chain, { engine, directory: source.fresh('restored') })
    expect(reached.digest).toBe(last().digest)
  })

  it('with a damaged part is named with it and with the last position that can be restored, which can', async () => {
    damage(part())
    const failed = await restore({ kind: 'latest' }).catch((error: unknown) => error)
    expect(failed).toMatchObject({ code: 'backup_corrupt', details: { reached: expect.any(String) } })
    const { message, details } = failed as Error & { details: { reached: string } }
    for (const said of [merged.key, part().key, `last position that can be restored is ${details.reached}`])
      expect(message).toContain(said)
    const reached = ledger.find(({ position }) => formatPosition(position) === details.reached) as DatabaseState
    expect(reached.position.seq).toBeGreaterThanOrEqual(before(part().first).position.seq)
    expect(reached.position.seq).toBeLessThan(part().last)
    expectState((await restore({ kind: 'position', position: reached.position })).found, reached)
    const next = ledger[ledger.indexOf(reached) + 1] as DatabaseState
    for (const target of [
      { kind: 'position', position: next.position },
      { kind: 'time', time: last().time },
    ] as const)
      await expect(restore(target)).rejects.toMatchObject({ message, code: 'backup_corrupt' })
    expect(await drill(last().time)).toMatchObject({ phase: 'Failed', code: 'backup_corrupt', error: message })
    // for who asked for what there is up to a gap, and it is said that this is not all
    const rest = await restore({ kind: 'latest', upToGap: true })
    expectState(rest.found, reached)
    expect(rest.complete).toBe(false)
  })
})
