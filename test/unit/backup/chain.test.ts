import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Backup, LineageCatalog, Segment } from '../../../sidecar/backup/catalog.ts'
import { recoveryWindow, resolveChain } from '../../../sidecar/backup/chain.ts'
import { follow, Line } from '../../../sidecar/backup/line.ts'
import type { Manifest } from '../../../sidecar/backup/manifest.ts'
import type { EpochRecord } from '../../../sidecar/database/database.ts'

/** 1 ran to 150; 2 forked from it at 100 and ran to 180; 3 forked from 2 at 160. */
const EPOCHS: EpochRecord[] = [
  { epoch: 1n, forkSeq: 0n, reason: 'created', time: 0n },
  { epoch: 2n, parentEpoch: 1n, forkSeq: 100n, reason: 'restored', time: 0n },
  { epoch: 3n, parentEpoch: 2n, forkSeq: 160n, reason: 'promoted', time: 0n },
]

function backup(name: string, epoch: number, seq: number, parent?: Backup): Backup {
  return {
    kind: parent ? 'Incremental' : 'Full',
    name,
    directory: name,
    path: `${name}/`,
    time: seq,
    manifest: {} as Manifest,
    position: { epoch: BigInt(epoch), seq: BigInt(seq) },
    commitTime: BigInt(seq * 10),
    ...(parent && { parent: { directory: parent.directory, position: parent.position } }),
    storedBytes: 1,
    verified: true,
    good: true,
  }
}

function segment(epoch: number, first: number, last: number): Segment {
  return {
    key: `${epoch}:${first}-${last}`,
    epoch: BigInt(epoch),
    first: BigInt(first),
    last: BigInt(last),
    size: 1,
    modified: 0,
    encrypted: false,
  }
}

function catalog(backups: Backup[], segments: Segment[], epochs = EPOCHS): LineageCatalog {
  return {
    home: { namespace: 'n', database: 'd', lineage: 'l' },
    lineage: 'l',
    backups,
    segments,
    epochs,
    damaged: [],
    unfinished: [],
  }
}

function names(target: Parameters<typeof resolveChain>[1], from: LineageCatalog): string[] {
  const chain = resolveChain(from, target)
  return [
    chain.base.name,
    ...chain.changes.map(source => (source.type === 'segment' ? source.segment.key : source.backup.name)),
  ]
}

describe('the chain of a restore', () => {
  const base = backup('base', 1, 50)
  const abandoned = backup('abandoned', 1, 140)
  const all = catalog(
    [base, abandoned],
    [
      segment(1, 1, 80),
      segment(1, 81, 120),
      segment(1, 121, 150),
      segment(2, 101, 140),
      segment(2, 141, 180),
      segment(3, 161, 200),
    ],
  )

  it('follows the ancestry of the newest epoch across two forks, and passes other branches by', () => {
    expect(names({ kind: 'latest' }, all)).toEqual([
      'base',
      '1:1-80',
      '1:81-120',
      '2:101-140',
      '2:141-180',
      '3:161-200',
    ])
    const { line } = resolveChain(all, { kind: 'latest' })
    // of epoch 1 only what was there at the fork
    expect([1n, 2n, 3n, 4n].map(epoch => line.limit(epoch))).toEqual([100n, 160n, 2n ** 64n - 1n, undefined])
  })

  it('reaches an abandoned branch by an explicit position', () => {
    expect(names({ kind: 'position', position: { epoch: 1n, seq: 150n } }, all)).toEqual(['abandoned', '1:121-150'])
    expect(names({ kind: 'position', position: { epoch: 1n, seq: 120n } }, all)).toEqual(['base', '1:1-80', '1:81-120'])
    expect(names({ kind: 'position', position: { epoch: 2n, seq: 180n } }, all)).toEqual([
      'base',
      '1:1-80',
      '1:81-120',
      '2:101-140',
      '2:141-180',
    ])
  })

  it('takes the newest Full before the target, never one behind it or proven bad', () => {
    const full2 = backup('full2', 2, 130)
    const bad = {
      ...backup('bad', 2, 150),
      verified: false,
      good: false,
      verification: { result: 'Failed' } as Backup['verification'],
    } as Backup
    const more = catalog([base, full2, bad], [...all.segments])
    expect(names({ kind: 'position', position: { epoch: 2n, seq: 129n } }, more)[0]).toBe('base')
    expect(names({ kind: 'position', position: { epoch: 2n, seq: 155n } }, more)).toEqual([
      'full2',
      '2:101-140',
      '2:141-180',
    ])
    expect(names({ kind: 'time', time: 1300n }, more)[0]).toBe('full2')
    expect(names({ kind: 'time', time: 1299n }, more)[0]).toBe('base')
  })

  it('prefers what leads farthest: merged segments and increments', () => {
    const increment = backup('increment', 1, 90, base)
    const merged = catalog(
      [base, increment],
      [segment(1, 51, 60), segment(1, 51, 70), segment(1, 71, 80), segment(1, 61, 100)],
      EPOCHS.slice(0, 1),
    )
    expect(names({ kind: 'latest' }, merged)).toEqual(['base', 'increment', '1:61-100'])
  })

  it('names what is missing: in the middle, at the end, of a parent, of an epoch', () => {
    const holed = catalog(
      [base],
      all.segments.filter(s => s.key !== '2:101-140'),
    )
    expect(() => names({ kind: 'latest' }, holed)).toThrow(/101 to 140 \(epoch 2\)/)
    expect(() => names({ kind: 'position', position: { epoch: 3n, seq: 250n } }, all)).toThrow(/201 to 250/)
    const orphan = backup('orphan', 1, 90, backup('lost', 1, 70))
    expect(() => names({ kind: 'backup', name: 'orphan' }, catalog([base, orphan], []))).toThrow(
      /continues lost at position 1.70/,
    )
    expect(() => names({ kind: 'position', position: { epoch: 7n, seq: 1n } }, all)).toThrow(
      /epoch 7.*known epochs: 1, 2, 3/,
    )
    expect(() => names({ kind: 'latest' }, catalog([], []))).toThrow(/no Full|none at all/)
  })

  it('notices that the last segments are gone when the database says how far it shipped', () => {
    const cut = catalog(
      [base],
      all.segments.filter(s => s.key !== '3:161-200'),
    )
    expect(resolveChain(cut, { kind: 'latest' }).until).toEqual({ seq: 160n })
    expect(() => resolveChain(cut, { kind: 'latest' }, { epoch: 3n, seq: 200n })).toThrow(/161 to 200/)
    expect(resolveChain(all, { kind: 'latest' }, { epoch: 3n, seq: 200n }).until).toEqual({ seq: 200n })
  })

  it('goes round an increment that was proven not to restore', () => {
    const failed = {
      ...backup('failed', 1, 120, base),
      verification: { result: 'Failed' } as Backup['verification'],
    } as Backup
    const own = catalog([base, failed], [segment(1, 51, 90)], EPOCHS.slice(0, 1))
    expect(names({ kind: 'latest' }, own)).toEqual(['base', '1:51-90'])
  })

  it('ends when parents go round in a circle', () => {
    const a = backup('a', 1, 60, backup('b', 1, 60))
    const b = backup('b', 1, 60, a)
    expect(() => names({ kind: 'backup', name: 'a' }, catalog([a, b], []))).toThrow(/circle/)
  })

  it('leaves a gap behind the target for the replay to judge, when the target is a time', () => {
    const holed = catalog(
      [base],
      all.segments.filter(s => s.key !== '2:141-180'),
    )
    const chain = resolveChain(holed, { kind: 'time', time: 9999n })
    expect(chain.gap).toEqual({ after: 140n, next: 161n })
  })

  it('knows from where every moment can be restored', () => {
    const later = backup('later', 2, 150)
    expect(recoveryWindow(catalog([base, later], [...all.segments]))).toMatchObject({
      from: { name: 'base' },
      reached: 200n,
    })
    const holed = all.segments.filter(s => s.key !== '1:81-120')
    expect(recoveryWindow(catalog([base, later], holed))).toMatchObject({ from: { name: 'later' }, reached: 200n })
    expect(recoveryWindow(catalog([], []))).toBeUndefined()
  })
})

describe('following pieces', () => {
  it('goes as far as any choice of pieces can, with as few as possible', () => {
    const piece = fc
      .tuple(fc.nat(20), fc.integer({ min: 1, max: 6 }))
      .map(([from, length]) => ({ from: BigInt(from), to: BigInt(from + length), source: 0 }))
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.nat(10), (pieces, start) => {
        const { steps, reached } = follow(pieces, BigInt(start), 100n)
        // breadth first: what can be reached with so many pieces
        let seen = new Map([[BigInt(start), 0]])
        for (let round = 0; round < 15; round++) {
          const next = new Map(seen)
          for (const [at, count] of seen)
            for (const { from, to } of pieces)
              if (from <= at && to > at && (next.get(to) ?? 99) > count + 1) next.set(to, count + 1)
          seen = next
        }
        const farthest = [...seen.keys()].reduce((a, b) => (b > a ? b : a))
        expect(reached).toBe(farthest)
        expect(steps.length).toBe(seen.get(farthest))
      }),
    )
  })

  it('is the ancestry, clipped at every fork', () => {
    const line = new Line(EPOCHS, { epoch: 3n, seq: 190n })
    expect(line.spans).toEqual([
      { epoch: 1n, from: 0n, to: 100n },
      { epoch: 2n, from: 100n, to: 160n },
      { epoch: 3n, from: 160n, to: 190n },
    ])
    expect(line.holds({ epoch: 1n, seq: 101n })).toBe(false)
    expect(line.holds({ epoch: 3n, seq: 160n })).toBe(true)
    expect(line.holds({ epoch: 3n, seq: 191n })).toBe(false)
  })
})
