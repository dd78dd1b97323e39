import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { createEncoder } from '../../../sidecar/format/encode.ts'
import { ndjsonEnd } from '../../../sidecar/format/ndjson-writer.ts'
import { decodeAll } from './golden.ts'

const MAX = 2n ** 64n - 1n

const records: StoredRecord[] = [
  { key: 0n, term: 0n, cmd: 0n, data: Buffer.alloc(0), expiresAt: 0n },
  { key: 9n, term: 10n, cmd: 99n, data: Buffer.from('plain text'), expiresAt: 0n },
  { key: 2n ** 53n + 1n, term: 10n ** 9n, cmd: 10n ** 18n, data: Buffer.from('a,"b"\r\n\0\x7f'), expiresAt: 1n },
  { key: 2n ** 63n, term: 2n ** 32n, cmd: 2n ** 32n - 1n, data: Buffer.from('café 😀'), expiresAt: 4102444800000n },
  { key: MAX, term: MAX, cmd: MAX, data: Buffer.from(Array.from({ length: 256 }, (_, i) => i)), expiresAt: MAX },
]

test.each([
  ['binary', 'records.bin', { count: 5 }],
  ['json', 'records.json', {}],
  ['json', 'records.pretty.json', { pretty: true }],
  ['csv', 'records.csv', {}],
  ['ndjson', 'records.ndjson', {}],
] as const)('%s is written as %s and read back from it', (format, name, options) => {
  const vector = readFileSync(new URL(`../../fixtures/formats/${name}`, import.meta.url))
  const encoder = createEncoder(format, options)
  const parts: Uint8Array[] = [encoder.header()]
  for (const record of records) encoder.append(record)
  parts.push(encoder.footer())
  if (format === 'ndjson') parts.push(ndjsonEnd(5, '2.77'))
  expect(Buffer.concat(parts).toString('latin1')).toBe(vector.toString('latin1'))
  const expected = records.map(r => ({
    ...r,
    data: Buffer.from(r.data),
    expiresAt: format === 'ndjson' ? r.expiresAt : 0n,
  }))
  expect(decodeAll(format, vector, [3]).map(r => ({ ...r, data: Buffer.from(r.data) }))).toEqual(expected)
})

test('without values JSON, CSV and NDJSON leave the data out', () => {
  const written = (['json', 'csv', 'ndjson'] as const).map(format => {
    const encoder = createEncoder(format, { values: false })
    const header = encoder.header()
    encoder.append(records[3] as StoredRecord)
    return Buffer.concat([header, encoder.footer()]).toString()
  })
  expect(written).toEqual([
    '{"format":"kvidx-json","version":1,"entries":[{"key":9223372036854775808,"term":4294967296,"cmd":4294967295}]}\n',
    'key,term,cmd\n9223372036854775808,4294967296,4294967295\n',
    '{"key":"9223372036854775808","term":"4294967296","cmd":"4294967295","expiresAt":"4102444800000"}\n',
  ])
})

test('a large record of nothing but escapes is written whole, and small ones behind it go on', () => {
  const encoder = createEncoder('json')
  const header = encoder.header()
  const large = new Uint8Array(1_000_000)
  encoder.append({ key: 1n, term: 0n, cmd: 0n, data: large, expiresAt: 0n })
  encoder.append({ key: 2n, term: 0n, cmd: 0n, data: Buffer.from('x'), expiresAt: 0n })
  expect(encoder.length).toBeGreaterThan(6_000_000)
  const read = decodeAll('json', Buffer.concat([header, encoder.footer()]), [65_536])
  expect(read.map(r => r.data.length)).toEqual([1_000_000, 1])
})

test('a chunk that was taken is not written to any more', () => {
  const encoder = createEncoder('csv', { chunkSize: 64 })
  encoder.header()
  const chunks: Uint8Array[] = []
  for (let i = 0; i < 200; i++) {
    encoder.append({ key: BigInt(i), term: 0n, cmd: 0n, data: Buffer.from(`v${i}`), expiresAt: 0n })
    if (encoder.length >= 64) chunks.push(encoder.take())
  }
  chunks.push(encoder.footer())
  expect(Buffer.concat(chunks).toString()).toBe(Array.from({ length: 200 }, (_, i) => `${i},0,0,v${i}\n`).join(''))
  expect(new Set(chunks.map(chunk => chunk.buffer)).size).toBe(chunks.length)
})
