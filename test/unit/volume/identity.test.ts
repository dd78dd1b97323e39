import { describe, expect, test } from 'vitest'
import { type Identity, type IdentityExpectation, judgeVolume } from '../../../sidecar/volume/identity.ts'

const OLD = '6b0b7b1e-0000-4000-8000-000000000001'
const found: Identity = {
  formatVersion: 1,
  namespace: 'shop',
  name: 'orders',
  lineage: OLD,
  engine: 'SQLite',
  created: 1,
}
const wanted: IdentityExpectation = {
  namespace: 'shop',
  name: 'copy',
  engine: 'SQLite',
  bootstrap: '{"backup":"disk"}',
}
const judge = (identity: Identity | undefined, expected: IdentityExpectation) =>
  judgeVolume(identity, identity === undefined, expected, 1000)

describe('a volume that is a copy', () => {
  test('begins a lineage of its own, which says where it came from', () => {
    const { kind, identity } = judge(found, { ...wanted, clone: OLD })
    expect(kind).toBe('cloned')
    expect(identity).toMatchObject({
      name: 'copy',
      created: 1000,
      bootstrappedFrom: wanted.bootstrap,
      origin: { namespace: 'shop', database: 'orders', lineage: OLD },
    })
    expect(identity.lineage).not.toBe(OLD)
  })

  test('keeps that lineage at later starts, with and without a status that knows it', () => {
    const { identity } = judge(found, { ...wanted, clone: OLD })
    expect(judge(identity, { ...wanted, clone: OLD }).identity).toEqual(identity)
    expect(judge(identity, { ...wanted, clone: OLD, lineage: identity.lineage })).toEqual({ kind: 'known', identity })
  })

  test('is refused when it is one of another lineage, empty, or not announced', () => {
    expect(() => judge(found, { ...wanted, clone: 'another' })).toThrow('belongs to shop/orders')
    expect(() => judge(undefined, { ...wanted, clone: OLD })).toThrow('no identity.json')
    expect(() => judge(found, wanted)).toThrow('belongs to shop/orders')
    expect(() => judge(found, { ...wanted, name: 'orders' })).toThrow('has data already')
  })
})
