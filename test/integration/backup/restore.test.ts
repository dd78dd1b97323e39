import { mkdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { backupIncremental } from '../../../sidecar/backup/backup.ts'
import { type Backup, type LineageCatalog, readBackup, readCatalog } from '../../../sidecar/backup/catalog.ts'
import { recoveryWindow, resolveChain, type Target } from '../../../sidecar/backup/chain.ts'
import { KeyRing, masterKey } from '../../../sidecar/backup/key-ring.ts'
import { chooseParent } from '../../../sidecar/backup/parent.ts'
import { inNewEpoch, stageRestore } from '../../../sidecar/backup/restore.ts'
import { SegmentShipper } from '../../../sidecar/backup/segments.ts'
import { verifyBackup } from '../../../sidecar/backup/verify.ts'
import type { DatabaseState } from '../../../sidecar/database/database.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { expectState, readRestored } from './restored.ts'
import { Random, Source } from './source.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']
const KEYS = new KeyRing([masterKey(Buffer.alloc(32, 1))])

describe.each(ENGINES)('a database on %s', engine => {
  let source: Source
  let catalog: LineageCatalog
  let increment: Backup
  const random = new Random(ENGINES.indexOf(engine) + 1)
  beforeAll(async () => {
    source = await Source.open(engine, KEYS)
    const shipper = new SegmentShipper(
      { ...source.context, home: source.home, intervalMs: 20, maxBytes: 20_000 },
      source.database.state.position,
    )
    const stop = new AbortController()
    const shipping = shipper.run(
      source.database.changes(source.database.state.position, true, stop.signal),
      () => source.database.epochs,
      stop.signal,
    )
    await source.churn(random, 60)
    const full = await source.full()
    await source.churn(random, 60)
    const parent = await readBackup(source.store, source.home, 'Full', full.directory)
    const first = await source.incremental(parent)
    await source.churn(random, 60)
    increment = await readBackup(source.store, source.home, 'Incremental', first.directory)
    await source.incremental(increment)
    await source.churn(random, 60)
    const end = source.database.state.position.seq
    while (shipper.status.shipped.seq < end) await systemClock.sleep(10)
    expect(shipper.status).toMatchObject({ waitingBytes: 0 })
    stop.abort()
    await expect(shipping).rejects.toMatchObject({ code: 'cancelled' })
    catalog = await source.catalog()
  }, 60_000)
  afterAll(() => source.close())

  async function restore(target: Target, into: EngineKind = engine) {
    const directory = source.fresh('restored')
    const result = await stageRestore(source.context, resolveChain(catalog, target), { engine: into, directory })
    return { result, found: await readRestored(into, directory) }
  }

  it('is in the store as two kinds of backups and gapless segments, and nothing is damaged', () => {
    expect(catalog.damaged).toEqual([])
    expect(catalog.unfinished).toEqual([])
    expect(catalog.backups.map(backup => backup.kind)).toEqual(['Full', 'Incremental', 'Incremental'])
    expect(catalog.segments.length).toBeGreaterThan(3)
    let next = 1n
    for (const segment of catalog.segments) {
      expect(segment.first).toBe(next)
      next = segment.last + 1n
    }
    expect(recoveryWindow(catalog)).toMatchObject({ from: { kind: 'Full' }, reached: next - 1n })
  })

  it('is restored to its latest state into every engine', async () => {
    for (const into of ENGINES) {
      const { result, found } = await restore({ kind: 'latest' }, into)
      expectState(found, source.ledger.at(-1)!)
      expect(result.complete).toBe(true)
      expect(found.epochs).toEqual(source.database.epochs)
    }
  })

  it('is restored to each backup by its name', async () => {
    for (const backup of catalog.backups) {
      const { found } = await restore({ kind: 'backup', name: backup.name })
      expectState(found, source.ledger.find(entry => entry.position.seq === backup.position.seq)!)
    }
  })

  it('is restored to random positions and to random times, each as the ledger has it', async () => {
    const base = catalog.backups[0]!.position.seq
    const later = source.ledger.filter(entry => entry.position.seq >= base)
    for (let i = 0; i < 3; i++) {
      const entry = later[random.below(later.length)]!
      expectState((await restore({ kind: 'position', position: entry.position })).found, entry)
      // of commits in one millisecond the last one counts
      const last = later.findLast(other => other.time <= entry.time)!
      expectState((await restore({ kind: 'time', time: entry.time })).found, last)
    }
  })

  it('refuses what the store does not have: before the first Full, behind the end, inside a commit', async () => {
    await expect(restore({ kind: 'time', time: 1n })).rejects.toMatchObject({ code: 'backup_not_found' })
    await expect(restore({ kind: 'position', position: { epoch: 1n, seq: 1n } })).rejects.toMatchObject({
      code: 'backup_not_found',
    })
    await expect(restore({ kind: 'position', position: { epoch: 9n, seq: 100n } })).rejects.toMatchObject({
      code: 'invalid_parameter',
    })
    await expect(restore({ kind: 'backup', name: 'nothing' })).rejects.toMatchObject({ code: 'backup_not_found' })
    const end = source.ledger.at(-1)!.position
    await expect(restore({ kind: 'position', position: { epoch: 1n, seq: end.seq + 5n } })).rejects.toMatchObject({
      code: 'backup_gap',
      message: expect.stringContaining(String(end.seq + 1n)),
    })
    const [a, b] = pairWithSpace(source.ledger.filter(entry => entry.position.seq > catalog.backups[0]!.position.seq))
    const inside = { epoch: 1n, seq: a.position.seq + 1n }
    await expect(restore({ kind: 'position', position: inside })).rejects.toMatchObject({
      code: 'invalid_parameter',
      message: expect.stringContaining(`${a.position.seq} or ${b.position.seq}`),
    })
    const after = await restore({ kind: 'time', time: source.ledger.at(-1)!.time + 1_000_000n })
    expect(after.result.complete).toBe(false)
    expectState(after.found, source.ledger.at(-1)!)
  })

  it('names the missing range when a segment is gone, and uses an increment where one spans it', async () => {
    const last = catalog.segments.at(-2)!
    const without = { ...catalog, segments: catalog.segments.filter(segment => segment !== last) }
    const wanted = { code: 'backup_gap', message: expect.stringMatching(`changes [0-9]+ to ${last.last} `) }
    expect(() => resolveChain(without, { kind: 'latest' })).toThrow(expect.objectContaining(wanted))
    const spanned = { ...catalog, segments: catalog.segments.filter(segment => segment.first > increment.position.seq) }
    expect(() => resolveChain(spanned, { kind: 'latest' })).not.toThrow()
    const target = { kind: 'time', time: source.ledger.at(-1)!.time } as const
    await expect(
      stageRestore(source.context, resolveChain(without, target), { engine, directory: source.fresh('gap') }),
    ).rejects.toMatchObject(wanted)
  })

  it('starts a new epoch behind an in-place restore', async () => {
    const directory = source.fresh('epoch')
    const { position } = catalog.backups[1]!
    await stageRestore(source.context, resolveChain(catalog, { kind: 'position', position }), {
      engine,
      directory,
      mark: inNewEpoch(123),
    })
    const found = await readRestored(engine, directory)
    expect(found.state.position).toEqual({ epoch: position.epoch + 1n, seq: position.seq })
    expect(found.epochs.at(-1)).toMatchObject({
      epoch: 2n,
      parentEpoch: 1n,
      forkSeq: position.seq,
      reason: 'restored',
      time: 123n,
    })
  })

  it('is verified against what the source recorded, Full and increment', async () => {
    for (const backup of catalog.backups.slice(0, 2)) {
      const scratch = source.fresh('scratch')
      mkdirSync(scratch)
      const entry = source.ledger.find(state => state.position.seq === backup.position.seq)!
      const verification = await verifyBackup(source.context, catalog, backup, { recorded: entry, engine, scratch })
      expect(verification).toMatchObject({ result: 'Verified', count: String(entry.count) })
      expect(verification.checks.every(check => check.ok)).toBe(true)
      const again = await readBackup(source.store, source.home, backup.kind, backup.directory)
      expect(again).toMatchObject({ verified: true, good: true })
      // the source's record is kept, so that a later verification can use it
      const later = await verifyBackup(source.context, catalog, again, { recorded: undefined, engine, scratch })
      expect(later.result).toBe('Verified')
    }
  })

  it('is not verified when the source recorded something else, nor when nobody knows what it recorded', async () => {
    const scratch = source.fresh('scratch')
    mkdirSync(scratch)
    const full = await source.full()
    const [backup, all] = [await readBackup(source.store, source.home, 'Full', full.directory), await source.catalog()]
    const unknown = await verifyBackup(source.context, all, backup, { recorded: undefined, engine, scratch })
    expect(unknown.result).toBe('Consistent')
    expect((await readBackup(source.store, source.home, 'Full', full.directory)).good).toBe(false)
    const other = { ...full.recorded, digest: full.recorded.digest ^ 1n }
    const wrong = await verifyBackup(source.context, all, backup, { recorded: other, engine, scratch })
    expect(wrong.result).toBe('Failed')
    expect(wrong.checks.filter(check => !check.ok).map(check => check.name)).toEqual(['source'])
  })

  it('refuses a name twice, a foreign lineage, and a target that is not empty', async () => {
    await expect(source.full(catalog.backups[0]!.name)).rejects.toMatchObject({ code: 'backup_exists' })
    const { epochs, engineVersion } = source.database
    const foreign = {
      lineage: 'another',
      epochs,
      engine,
      engineVersion,
      frames: () => source.database.changes({ epoch: 1n, seq: 0n }, false, source.signal),
    }
    await expect(
      backupIncremental(source.context, { home: source.home, name: 'x', verify: false }, catalog.backups[0]!, foreign),
    ).rejects.toMatchObject({ code: 'foreign_lineage' })
    const directory = source.fresh('full')
    mkdirSync(`${directory}/something`, { recursive: true })
    await expect(
      stageRestore(source.context, resolveChain(catalog, { kind: 'latest' }), { engine, directory }),
    ).rejects.toMatchObject({
      code: 'volume_not_empty',
    })
  })

  it('chooses the newest backup as the parent of an increment, and a Full when the log does not reach it', () => {
    const head = source.database.state.position
    const newest = catalog.backups.at(-1)!
    const choose = (base: bigint) => chooseParent(catalog, source.database.epochs, head, { epoch: 1n, seq: base })
    expect(choose(0n)).toMatchObject({ kind: 'Incremental', parent: { name: newest.name } })
    expect(choose(newest.position.seq + 1n)).toMatchObject({
      kind: 'Full',
      reason: expect.stringContaining('no longer reaches'),
    })
    expect(
      chooseParent({ ...catalog, backups: [] }, source.database.epochs, head, { epoch: 1n, seq: 0n }),
    ).toMatchObject({ kind: 'Full' })
  })

  it('is found again by the name of the database alone', async () => {
    const [found, ...rest] = await readCatalog(source.store, { namespace: 'default', database: 'orders' })
    expect(rest).toEqual([])
    expect(found?.lineage).toBe(source.database.lineage)
  })
})

function pairWithSpace(entries: readonly DatabaseState[]): [DatabaseState, DatabaseState] {
  for (let i = 1; i < entries.length; i++) {
    const [a, b] = [entries[i - 1]!, entries[i]!]
    if (b.position.seq > a.position.seq + 1n) return [a, b]
  }
  throw new Error('every commit has one change')
}
