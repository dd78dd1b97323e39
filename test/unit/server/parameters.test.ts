import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  parseKey,
  parseQuery,
  parseTime,
  RANGE,
  rangeOf,
  readU64,
  required,
  u64,
} from '../../../sidecar/server/parameters.ts'
import { ROUTES } from '../../../sidecar/server/routes.ts'

const MAX = (1n << 64n) - 1n
const anyU64 = fc.bigInt({ min: 0n, max: MAX })

describe('keys and numbers', () => {
  test('every u64 is read back from decimal and from hex', () => {
    fc.assert(
      fc.property(anyU64, value => {
        expect(readU64(String(value))).toBe(value)
        expect(readU64(`0x${value.toString(16)}`)).toBe(value)
        expect(readU64(`0x${value.toString(16).toUpperCase()}`)).toBe(value)
      }),
    )
  })

  test('what is above 2^64-1, and every text of another form, is none', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: MAX + 1n, max: MAX * 20n }), value => {
        expect(readU64(String(value))).toBeUndefined()
        expect(readU64(`0x${value.toString(16)}`)).toBeUndefined()
      }),
    )
    fc.assert(
      fc.property(fc.string(), text => {
        fc.pre(!/^(0|[1-9]\d*|0x[0-9a-fA-F]+)$/.test(text))
        expect(readU64(text)).toBeUndefined()
        expect(() => parseKey(text)).toThrow(/is not a key/)
      }),
    )
  })
})

describe('times', () => {
  test('every millisecond is read back from its RFC 3339 text', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 253402300799999 }), ms => {
        expect(parseTime(new Date(ms).toISOString(), 't')).toBe(BigInt(ms))
        expect(parseTime(String(ms), 't')).toBe(BigInt(ms))
      }),
    )
  })

  test.each([
    '2030-13-01T00:00:00Z',
    '2030-02-29T00:00:00Z',
    '2030-01-01T00:00:00',
    '2030-01-01 00:00:00Z',
    '1969-12-31T00:00:00Z',
    '',
    '1.5',
    '-1',
  ])("'%s' is refused", text => {
    expect(() => parseTime(text, 'expiresAt')).toThrow(/expiresAt: .* is not allowed/)
  })
})

describe('a query', () => {
  test('is read name by name, whatever the order and the escapes', () => {
    fc.assert(
      fc.property(anyU64, anyU64, fc.boolean(), (start, end, swap) => {
        const pairs = [`st%61rt=${start}`, `end=0x${end.toString(16)}`]
        const values = parseQuery((swap ? pairs.reverse() : pairs).join('&'), RANGE)
        expect(values).toEqual({ start, end })
      }),
    )
  })

  test('never reads what was not asked for, and never breaks', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', 'start', 'end', '=', '&', '%', '2', '+', '1') }), query => {
        let values: Record<string, unknown>
        try {
          values = parseQuery(query, RANGE)
        } catch (error) {
          expect(['invalid_key', 'invalid_parameter', 'unknown_parameter']).toContain((error as { code: string }).code)
          return
        }
        for (const name of Object.keys(values)) expect(Object.keys(RANGE)).toContain(name)
      }),
    )
  })

  test('without a required parameter is refused', () => {
    expect(() => parseQuery('', { n: required(u64('a number')) })).toThrow('n is missing (a number)')
  })
})

describe('bounds', () => {
  test('mean the same keys whether they are exclusive or the next key inclusive', () => {
    const near = fc.oneof(anyU64, fc.constantFrom(0n, 1n, MAX - 1n, MAX))
    fc.assert(
      fc.property(near, near, near, fc.boolean(), fc.boolean(), (start, end, key, startExclusive, endExclusive) => {
        const range = rangeOf({ start, end, startExclusive, endExclusive })
        const inside = (startExclusive ? key > start : key >= start) && (endExclusive ? key < end : key <= end)
        expect(key >= range.start && key <= range.end).toBe(inside)
        expect(range.start >= 0n && range.start <= MAX && range.end >= 0n && range.end <= MAX).toBe(true)
      }),
    )
  })
})

test('each parameter reads every example of its schema', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  let read = 0
  for (const route of ROUTES)
    for (const [name, parameter] of Object.entries(route.query)) {
      const examples: unknown[] =
        parameter.schema.examples ?? parameter.schema.anyOf?.map((one: { const: unknown }) => one.const) ?? []
      for (const example of examples) {
        expect([name, ajv.validate(parameter.schema, example)]).toEqual([name, true])
        expect(() => parameter.parse(String(example), name)).not.toThrow()
        read++
      }
    }
  expect(read).toBeGreaterThan(20)
})
