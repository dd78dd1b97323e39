import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalJson, seal, unseal } from '../../../sidecar/backup/canonical.ts'
import { encodeManifest, type Manifest, parseManifest } from '../../../sidecar/backup/manifest.ts'
import { encodeVerification, parseVerification } from '../../../sidecar/backup/verification.ts'

const MANIFEST: Manifest = {
  formatVersion: 1,
  kind: 'Full',
  name: 'orders-daily-20261123t0200z',
  namespace: 'shop',
  database: 'orders',
  lineage: '0b8f2d0c',
  schedule: 'daily',
  verify: true,
  engine: 'SQLite',
  engineVersion: 'SQLite 3.54.1',
  epochs: [{ epoch: '1', forkSeq: '0', reason: 'created', time: '1764000000000' }],
  position: '1.18446744073709551615',
  commitTime: '1764000000000',
  count: '2',
  dataBytes: '10',
  digest: '00000000000000000000000000000000',
  minKey: '0',
  maxKey: '18446744073709551615',
  files: [
    { name: 'records.kvidx.zst', content: 'records', size: 100, sha256: 'a'.repeat(64), plainSize: 98 },
    { name: 'expiries.bin.zst', content: 'expiries', size: 20, sha256: 'b'.repeat(64), plainSize: 16 },
  ],
  startedAt: '2026-11-23T02:00:00.000Z',
  completedAt: '2026-11-23T02:00:01.000Z',
  software: 'kvidx-operator 0.1.0',
}

describe('a manifest', () => {
  const bytes = encodeManifest(MANIFEST)

  it('comes back as it was, and its last member is the SHA-256 of all bytes before it', () => {
    expect(parseManifest(bytes, 'm')).toEqual(MANIFEST)
    const text = bytes.toString()
    const at = text.lastIndexOf('"sha256":')
    expect(text.slice(at)).toBe(`"sha256":"${createHash('sha256').update(text.slice(0, at)).digest('hex')}"}`)
    expect(text).not.toMatch(/\s(?![0-9])/)
  })

  it('is the same bytes in whatever order its members are given', () => {
    const reversed = Object.fromEntries(Object.entries(MANIFEST).reverse()) as Manifest
    expect(encodeManifest(reversed)).toEqual(bytes)
  })

  it('is refused when any bit is changed, when it is cut off, and when anything follows', () => {
    for (let bit = 0; bit < bytes.length * 8; bit += 7) {
      const broken = Buffer.from(bytes)
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => parseManifest(broken, 'm'), `bit ${bit}`).toThrow(
        expect.objectContaining({ code: 'backup_corrupt' }),
      )
    }
    for (let length = 0; length < bytes.length; length++)
      expect(() => parseManifest(bytes.subarray(0, length), 'm')).toThrow(
        expect.objectContaining({ code: 'backup_corrupt' }),
      )
    for (const tail of ['\n', ' ', '{}', '\0'])
      expect(() => parseManifest(Buffer.concat([bytes, Buffer.from(tail)]), 'm')).toThrow(/something follows/)
  })

  it('is refused, naming the member, when it is sound but not of this format', () => {
    const sealed = (change: object) => seal({ ...MANIFEST, ...change } as never)
    const cases: [object, RegExp][] = [
      [{ formatVersion: 2 }, /formatVersion 2 is not known \(known: 1\)/],
      [{ surprise: 1 }, /surprise/],
      [{ digest: undefined }, /digest.*required/],
      [{ digest: 'xyz' }, /digest/],
      [{ position: '1' }, /position/],
      [{ count: 2 }, /count/],
      [{ epochs: [] }, /epochs/],
      [{ kind: 'Incremental' }, /Incremental/],
      [{ parent: { kind: 'Full', directory: 'x', position: '1.1' } }, /parent/],
      [{ minKey: undefined }, /minKey/],
      [{ files: [MANIFEST.files[1], MANIFEST.files[0]] }, /files/],
      [{ files: [{ ...MANIFEST.files[0], name: '../../etc/passwd' }, MANIFEST.files[1]] }, /files\[0\]\.name/],
    ]
    for (const [change, message] of cases) {
      expect(() => parseManifest(sealed(change), 'm'), JSON.stringify(change)).toThrow(message)
      expect(() => parseManifest(sealed(change), 'm')).toThrow(expect.objectContaining({ code: 'invalid_manifest' }))
    }
    expect(() => encodeManifest({ ...MANIFEST, digest: 'no' })).toThrow(/digest/)
  })

  it('never crashes on arbitrary bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), noise => {
        expect(() => parseManifest(noise, 'm')).toThrow(expect.objectContaining({ code: 'backup_corrupt' }))
      }),
    )
  })
})

describe('canonical JSON', () => {
  it('is JSON with the same value, its members in order at every depth, and survives sealing', () => {
    const number = fc.maxSafeInteger().map(n => (Object.is(n, -0) ? 0 : n))
    const { value } = fc.letrec(tie => ({
      value: fc.oneof(
        { maxDepth: 3, depthSize: 'xsmall' },
        fc.string({ unit: 'binary' }),
        number,
        fc.boolean(),
        fc.array(tie('value')),
        fc.dictionary(fc.string(), tie('value')),
      ),
    }))
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().filter(name => name !== 'sha256' && name !== '__proto__'),
          value,
        ),
        object => {
          const text = canonicalJson(object as never)
          expect(canonicalJson(JSON.parse(text))).toBe(text)
          expect(JSON.stringify(unseal(seal(object as never), 'x'))).toBe(JSON.stringify(JSON.parse(text)))
        },
      ),
    )
  })

  it('refuses numbers that JSON does not keep', () => {
    for (const bad of [1.5, 2 ** 53, Number.NaN]) expect(() => canonicalJson({ bad })).toThrow(/whole number/)
  })
})

describe('a verification', () => {
  it('comes back as it was, and is sealed like a manifest', () => {
    const verification = {
      formatVersion: 1 as const,
      name: 'n',
      directory: 'd',
      result: 'Failed' as const,
      checks: [{ name: 'digest' as const, ok: false, expected: 'a', found: 'b' }],
      chain: ['d'],
      engine: 'LMDB' as const,
      error: { code: 'backup_corrupt', message: 'm' },
      startedAt: MANIFEST.startedAt,
      completedAt: MANIFEST.completedAt,
      software: 's',
    }
    const bytes = encodeVerification(verification)
    expect(parseVerification(bytes, 'v')).toEqual(verification)
    expect(() => parseVerification(Buffer.concat([bytes, Buffer.from('\n')]), 'v')).toThrow(/something follows/)
  })
})
