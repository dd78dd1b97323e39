import { describe, expect, test } from 'vitest'
import type { StreamFormat } from '../../../sidecar/database/database.ts'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { createEncoder, type EncodeOptions } from '../../../sidecar/format/encode.ts'
import { byKey, decodeAll, fixture, golden, goldenDigest, sha256 } from './golden.ts'

function encodeAll(format: StreamFormat, records: readonly StoredRecord[], options: EncodeOptions): Buffer {
  const encoder = createEncoder(format, options)
  const parts: Uint8Array[] = [encoder.header()]
  for (const record of records) {
    encoder.append(record)
    if (encoder.length >= 1000) parts.push(encoder.take())
  }
  parts.push(encoder.footer())
  return Buffer.concat(parts)
}

const records = byKey(decodeAll('binary', fixture('lmdb/export.bin')))

describe('exports that kvidxkit wrote', () => {
  test.each([
    ['binary', 'lmdb/export.bin'],
    ['json', 'lmdb/export.json'],
    ['csv', 'lmdb/export.csv'],
    ['binary', 'sqlite3/export.from2p63.bin'],
  ] as const)('%s of the whole database (%s) gives the 45 records', (format, file) => {
    const read = decodeAll(format, fixture(file), [7, 1, 65536])
    expect(read.length).toBe(golden.count)
    expect(goldenDigest(read)).toBe(golden.digest)
  })

  test.each([
    ['binary', 'sqlite3/export.bin'],
    ['json', 'sqlite3/export.json'],
    ['csv', 'sqlite3/export.csv'],
  ] as const)('%s of the SQLite default export (%s) gives the 41 records that it holds', (format, file) => {
    const read = decodeAll(format, fixture(file))
    expect(read.length).toBe(golden.countBelow2p63)
    expect(goldenDigest(read)).toBe(golden.digestBelow2p63)
  })

  test('CSV without metadata gives the data with term and cmd 0', () => {
    const read = decodeAll('csv', fixture('lmdb/export.nometa.csv'))
    expect(read.map(r => [r.key, sha256(r.data)])).toEqual(golden.records.map(r => [BigInt(r.key), r.sha256]))
    expect(read.every(r => r.term === 0n && r.cmd === 0n)).toBe(true)
  })

  test('a range export of SQLite is whole', () => {
    expect(decodeAll('binary', fixture('sqlite3/export.range10-19.bin')).map(r => r.key)).toEqual(
      [10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(BigInt),
    )
  })

  test('a range export of LMDB announces more records than it holds and is refused', () => {
    expect(() => decodeAll('binary', fixture('lmdb/export.range10-19.bin'))).toThrow(
      /after 10 of the 45 records .* a further record/,
    )
  })
})

describe('what the encoders write of the golden records', () => {
  test.each([
    ['binary', 'export.bin', { count: 45 }],
    ['json', 'export.json', {}],
    ['json', 'export.pretty.json', { pretty: true }],
    ['json', 'export.nometa.json', { metadata: false }],
    ['csv', 'export.csv', {}],
    ['csv', 'export.nometa.csv', { metadata: false }],
  ] as const)("%s is byte for byte the library's %s", (format, name, options) => {
    const bytes = encodeAll(format, records, options)
    expect(bytes.length).toBe(golden.exports.lmdb?.[name]?.bytes)
    expect(sha256(bytes)).toBe(golden.exports.lmdb?.[name]?.sha256)
  })

  test('the BINARY export equals the file that kvidxkit wrote from LMDB', () => {
    expect(encodeAll('binary', records, { count: 45 }).equals(fixture('lmdb/export.bin'))).toBe(true)
  })

  test('the range 10 to 19 equals the file that kvidxkit wrote from SQLite', () => {
    const range = records.filter(r => r.key >= 10n && r.key <= 19n)
    expect(encodeAll('binary', range, { count: 10 }).equals(fixture('sqlite3/export.range10-19.bin'))).toBe(true)
  })

  test.each(['pretty', 'nometa'] as const)('the %s JSON is read back', form => {
    const bytes = encodeAll('json', records, form === 'pretty' ? { pretty: true } : { metadata: false })
    const read = decodeAll('json', bytes, [13])
    expect(read.map(r => sha256(r.data))).toEqual(golden.records.map(r => r.sha256))
    if (form === 'pretty') expect(goldenDigest(read)).toBe(golden.digest)
  })

  test('an empty database gives a header alone', () => {
    expect(encodeAll('binary', [], { count: 0 }).length).toBe(24)
    expect(encodeAll('json', [], {}).toString()).toBe('{"format":"kvidx-json","version":1,"entries":[]}\n')
    expect(encodeAll('json', [], { pretty: true }).toString()).toBe(
      '{"format":"kvidx-json","version":1,"entries":[\n\n]}\n',
    )
    expect(encodeAll('csv', [], {}).toString()).toBe('key,term,cmd,data\n')
  })
})
