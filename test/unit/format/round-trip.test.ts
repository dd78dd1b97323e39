import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { StreamFormat } from '../../../sidecar/database/database.ts'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { createDecoder, decodeStream } from '../../../sidecar/format/decode.ts'
import { createEncoder, type EncodeOptions } from '../../../sidecar/format/encode.ts'
import { ndjsonEnd } from '../../../sidecar/format/ndjson-writer.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { decodeAll } from './golden.ts'

const MAX = 0xffff_ffff_ffff_ffffn

const u64 = fc.oneof(
  fc.bigInt(0n, MAX),
  fc.constantFrom(
    0n,
    1n,
    9n,
    10n,
    99n,
    999_999_999n,
    1_000_000_000n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 63n,
    MAX,
  ),
  fc.bigInt(0n, 2n ** 40n),
  fc.integer({ min: 0, max: 19 }).map(power => 10n ** BigInt(power)),
  fc.integer({ min: 1, max: 19 }).map(power => 10n ** BigInt(power) - 1n),
)

/** Bytes that mean something to a format stand out of the rest. */
const data = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc
    .array(fc.constantFrom(0, 0x0a, 0x0d, 0x22, 0x2c, 0x5c, 0x7f, 0x80, 0xff, 0x41), { maxLength: 60 })
    .map(a => Uint8Array.from(a)),
  fc.string({ unit: 'binary', maxLength: 20 }).map(text => new Uint8Array(Buffer.from(text))),
  fc.integer({ min: 0, max: 70_000 }).map(length => new Uint8Array(length).fill(0x61)),
)

const record = fc.record({ key: u64, term: u64, cmd: u64, data, expiresAt: fc.oneof(fc.constant(0n), u64) })
const records = fc.array(record, { maxLength: 12 })
const sizes = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 })

function encode(format: StreamFormat, list: readonly StoredRecord[], options: EncodeOptions = {}): Uint8Array {
  const encoder = createEncoder(format, { count: list.length, chunkSize: 256, ...options })
  const parts: Uint8Array[] = [encoder.header()]
  for (const item of list) {
    encoder.append(item)
    if (encoder.length >= 256) {
      const part = encoder.take()
      parts.push(part.slice())
      encoder.recycle(part.buffer)
    }
  }
  parts.push(encoder.footer())
  if (format === 'ndjson') parts.push(ndjsonEnd(list.length, '1.7'))
  return Buffer.concat(parts)
}

const plain = (list: readonly StoredRecord[]) => list.map(r => ({ ...r, data: Buffer.from(r.data).toString('hex') }))

describe('what was encoded is decoded again, however the bytes arrive', () => {
  test.each([
    ['binary', {}],
    ['json', {}],
    ['json', { pretty: true }],
    ['csv', {}],
    ['ndjson', {}],
  ] as const)('%s %o', (format, options) => {
    fc.assert(
      fc.property(records, sizes, (list, chunks) => {
        const bytes = encode(format, list, options)
        const expected = format === 'ndjson' ? list : list.map(r => ({ ...r, expiresAt: 0n }))
        expect(plain(decodeAll(format, bytes, chunks))).toEqual(plain(expected))
      }),
      { numRuns: 150 },
    )
  })

  test.each(['json', 'csv'] as const)('%s without metadata keeps key and data', format => {
    fc.assert(
      fc.property(records, sizes, (list, chunks) => {
        const bytes = encode(format, list, { metadata: false })
        const expected = list.map(r => ({ ...r, term: 0n, cmd: 0n, expiresAt: 0n }))
        expect(plain(decodeAll(format, bytes, chunks))).toEqual(plain(expected))
      }),
      { numRuns: 50 },
    )
  })

  test('NDJSON without values keeps the rest', () => {
    fc.assert(
      fc.property(records, list => {
        const bytes = encode('ndjson', list, { values: false })
        const read = decodeAll('ndjson', bytes, undefined, { withoutValues: true })
        expect(plain(read)).toEqual(plain(list.map(r => ({ ...r, data: new Uint8Array(0) }))))
      }),
      { numRuns: 50 },
    )
  })

  test('CSV that another program quoted throughout and ended with CRLF is read the same', () => {
    fc.assert(
      fc.property(records, sizes, (list, chunks) => {
        const rows = list.map(r => {
          const text = Buffer.from(r.data).toString('latin1').replaceAll('"', '""')
          return `"${r.key}","${r.term}","${r.cmd}","${text}"\r\n`
        })
        const bytes = Buffer.from(`key,term,cmd,data\r\n${rows.join('')}`, 'latin1')
        expect(plain(decodeAll('csv', bytes, chunks))).toEqual(plain(list.map(r => ({ ...r, expiresAt: 0n }))))
      }),
      { numRuns: 50 },
    )
  })

  test('JSON that a usual writer made of texts is read as UTF-8', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 30 })
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), fc.boolean(), sizes, (texts, escaped, chunks) => {
        const document = {
          entries: texts.map((data, key) => ({ data, key: `${key}`, term: 5 })),
          version: 1,
          format: 'kvidx-json',
        }
        let json = JSON.stringify(document, null, 2)
        if (escaped) {
          json = json.replace(/[\u0080-\uffff]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
        }
        const read = decodeAll('json', Buffer.from(json), chunks)
        expect(read.map(r => Buffer.from(r.data).toString())).toEqual(texts)
        expect(read.every((r, i) => r.key === BigInt(i) && r.term === 5n && r.cmd === 0n)).toBe(true)
      }),
      { numRuns: 100 },
    )
  })
})

describe('damage to a BINARY file', () => {
  const list: StoredRecord[] = Array.from({ length: 20 }, (_, i) => ({
    key: BigInt(i) * 1_000_003n,
    term: BigInt(i),
    cmd: 7n,
    data: new Uint8Array(i * 3).fill(i),
    expiresAt: 0n,
  }))
  const whole = encode('binary', list)

  test('every truncation is refused with the index of the record that is not whole', () => {
    for (let length = 0; length < whole.length; length++) {
      let seen = 0
      const decoder = createDecoder('binary', { maxDataBytes: 1000 }, () => seen++)
      decoder.push(whole.subarray(0, length))
      try {
        decoder.end()
        expect.unreachable(`a file of ${length} bytes passed`)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(KvidxError)
        const { code, details } = thrown as KvidxError
        expect(code).toBe('invalid_body')
        expect(details.record).toBe(length < 24 ? undefined : seen)
        expect(seen).toBeLessThan(list.length)
      }
    }
  })

  test('1,000 random bit flips end in an error with a place, or in as many records', () => {
    let refused = 0
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length * 8 - 1 }), sizes, (bit, chunks) => {
        const flipped = Buffer.from(whole)
        flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
        try {
          expect(decodeAll('binary', flipped, chunks, { maxDataBytes: 1000 }).length).toBe(list.length)
        } catch (thrown) {
          if (!(thrown instanceof KvidxError)) throw thrown
          expect(['invalid_body', 'too_large']).toContain(thrown.code)
          expect(typeof thrown.details.offset).toBe('number')
          if (bit >= 24 * 8) expect(typeof thrown.details.record).toBe('number')
          refused++
        }
      }),
      { numRuns: 1000 },
    )
    expect(refused).toBeGreaterThan(50)
  })

  test.each(['json', 'csv', 'ndjson'] as const)(
    '500 bit flips and cuts of %s never end in anything but records or a clear error',
    format => {
      const text = encode(format, list)
      fc.assert(
        fc.property(fc.nat(text.length * 8 - 1), fc.nat(text.length), sizes, (bit, length, chunks) => {
          const flipped = Buffer.from(text)
          flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7))
          for (const bytes of [flipped, text.subarray(0, length)]) {
            try {
              expect(decodeAll(format, bytes, chunks, { maxDataBytes: 1000 }).length).toBeLessThanOrEqual(
                list.length + 1,
              )
            } catch (thrown) {
              if (!(thrown instanceof KvidxError)) throw thrown
              expect(['invalid_body', 'too_large']).toContain(thrown.code)
              expect(typeof thrown.details.line).toBe('number')
            }
          }
        }),
        { numRuns: 500 },
      )
    },
  )

  test('random bytes behind a valid beginning never do harm', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.constantFrom('binary', 'json', 'csv', 'ndjson'),
        (noise, format) => {
          const start = encode(format, []).subarray(0, format === 'json' ? 46 : format === 'ndjson' ? 0 : undefined)
          try {
            decodeAll(format, Buffer.concat([start, noise]), [11], { maxDataBytes: 100 })
          } catch (thrown) {
            expect(thrown).toBeInstanceOf(KvidxError)
          }
        },
      ),
      { numRuns: 1000 },
    )
  })
})

describe('decodeStream', () => {
  async function* chunksOf(bytes: Uint8Array, size: number) {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
  }
  const many: StoredRecord[] = Array.from({ length: 100 }, (_, i) => ({
    key: BigInt(i),
    term: 0n,
    cmd: 0n,
    data: new Uint8Array(100),
    expiresAt: 0n,
  }))

  test('gives batches in order, no larger than their chunk', async () => {
    const batches: number[] = []
    for await (const batch of decodeStream(chunksOf(encode('binary', many), 1000), 'binary', { maxDataBytes: 1000 })) {
      batches.push(batch.length)
    }
    expect(batches.reduce((a, b) => a + b)).toBe(100)
    expect(Math.max(...batches)).toBeLessThanOrEqual(8)
  })

  test('ends with `cancelled` when the signal fires', async () => {
    const controller = new AbortController()
    const read = async () => {
      for await (const _ of decodeStream(
        chunksOf(encode('csv', many), 500),
        'csv',
        { maxDataBytes: 1000 },
        controller.signal,
      )) {
        controller.abort()
      }
    }
    await expect(read()).rejects.toMatchObject({ code: 'cancelled' })
  })
})
