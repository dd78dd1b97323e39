import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  backupDirectoryName,
  backupPath,
  changesPath,
  epochsName,
  homePath,
  parseBackupDirectoryName,
  parseEpochsName,
  parseSegmentName,
  segmentName,
} from '../../../sidecar/backup/layout.ts'

const home = { namespace: 'shop', database: 'orders', lineage: '0b8f2d0c-77aa' }
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })

describe('the layout of a store', () => {
  it('is what the documentation says', () => {
    const time = Date.UTC(2026, 10, 23, 2, 0, 0, 7)
    expect(backupPath(home, { kind: 'Full', time, name: 'orders-daily-1' })).toBe(
      'shop/orders/0b8f2d0c-77aa/snapshots/20261123T020000007Z-orders-daily-1/',
    )
    expect(backupPath(home, { kind: 'Incremental', time, name: 'x' })).toBe(
      'shop/orders/0b8f2d0c-77aa/increments/20261123T020000007Z-x/',
    )
    expect(changesPath(home)).toBe('shop/orders/0b8f2d0c-77aa/changes/')
    expect(segmentName({ epoch: 3n, first: 17n, last: 99n }, false)).toBe('0000000003-00000000000000000017-99.kvc.zst')
    expect(segmentName({ epoch: 3n, first: 17n, last: 99n }, true)).toMatch(/-99\.kvc\.zst\.enc$/)
    expect(epochsName(3n)).toBe('0000000003-epochs.json')
  })

  it('reads back every name that it makes', () => {
    fc.assert(
      fc.property(u64, u64, u64, fc.boolean(), (epoch, a, b, encrypted) => {
        const range = { epoch, first: a < b ? a : b, last: a < b ? b : a }
        expect(parseSegmentName(segmentName(range, encrypted))).toEqual({ ...range, encrypted })
        expect(parseEpochsName(epochsName(epoch))).toBe(epoch)
      }),
    )
    const name = fc.stringMatching(/^[a-z0-9]([-.a-z0-9]{0,40}[a-z0-9])?$/)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: Date.UTC(2200, 0) }), name, (time, text) => {
        expect(parseBackupDirectoryName(backupDirectoryName({ time, name: text }))).toEqual({ time, name: text })
      }),
    )
  })

  it('sorts segments by epoch and first seq as text does', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.bigInt({ min: 0n, max: 9_999_999_999n }), u64), { maxLength: 20 }), ranges => {
        const names = ranges.map(([epoch, first]) => segmentName({ epoch, first, last: first }, false)).sort()
        const parsed = names.map(text => parseSegmentName(text)!)
        for (let i = 1; i < parsed.length; i++) {
          const [a, b] = [parsed[i - 1]!, parsed[i]!]
          expect(a.epoch < b.epoch || (a.epoch === b.epoch && a.first <= b.first)).toBe(true)
        }
      }),
    )
  })

  it('takes no other spelling of a name', () => {
    for (const text of [
      '',
      'x',
      '3-17-99.kvc.zst',
      '0000000003-00000000000000000017-099.kvc.zst',
      '0000000003-00000000000000000017-16.kvc.zst',
      '0000000003-00000000000000000017-99.kvc.zst.tmp',
      '0000000003-99999999999999999999-99999999999999999999.kvc.zst',
      '00000000003-00000000000000000017-99.kvc.zst',
    ])
      expect(parseSegmentName(text), text).toBeUndefined()
    for (const text of [
      '20260231T000000000Z-x',
      '20261123T250000000Z-x',
      '20261123T020000Z-x',
      '20261123T020000000Z-',
      '20261123T020000000Z-X',
    ])
      expect(parseBackupDirectoryName(text), text).toBeUndefined()
  })

  it('refuses parts that would change the path', () => {
    for (const bad of ['', '..', 'a/b', '/', '.hidden', 'x'.repeat(200)])
      expect(() => homePath({ ...home, lineage: bad }), bad).toThrow(/lineage/)
    for (const bad of ['', '../x', 'A', 'a_b', '-a'])
      expect(() => backupDirectoryName({ time: 0, name: bad }), bad).toThrow(/name/)
  })
})
