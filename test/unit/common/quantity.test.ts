import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KvidxError } from '../../../src/common/errors.ts'
import {
  bytes,
  bytesAsBigint,
  compareQuantities,
  formatBytes,
  formatQuantity,
  parseNano,
} from '../../../src/common/quantity.ts'

const NANO = 1_000_000_000n

describe('quantities', () => {
  it.each([
    ['0', 0n],
    ['1', 1n],
    ['10Gi', 10n * 1024n ** 3n],
    ['1.5Gi', 1536n * 1024n ** 2n],
    ['.5k', 500n],
    ['5.', 5n],
    ['+3k', 3000n],
    ['1e3', 1000n],
    ['1E3', 1000n],
    ['1E', 10n ** 18n],
    ['7Ei', 7n * 1024n ** 6n],
    ['12.5e1', 125n],
    ['1000m', 1n],
    ['9223372036854775807', 2n ** 63n - 1n],
  ])('reads %s exactly', (text, whole) => {
    expect(bytesAsBigint(text, 'f')).toBe(whole)
  })

  it('reads fractions to 10^-9 as Kubernetes does', () => {
    expect(parseNano('100m')).toBe(NANO / 10n)
    expect(parseNano('1n')).toBe(1n)
    expect(parseNano('-250u')).toBe(-250_000n)
  })

  it.each([
    '',
    ' ',
    '1 Gi',
    '1gi',
    '1GI',
    '1GB',
    'Gi',
    '.',
    '-',
    '1e',
    '1e100',
    '1ee3',
    '1Ki3',
    '0x10',
    '1_000',
    '١',
    '8Ei',
    '0.1n',
    'NaN',
  ])('refuses %j', text => {
    expect(parseNano(text)).toBeUndefined()
    expect(() => bytes(text, 'spec.storage.size')).toThrow(KvidxError)
  })

  it('names the field, the value and what is allowed', () => {
    expect(() => bytes('10GB', 'spec.storage.size')).toThrow(
      /^spec\.storage\.size: '10GB' is not allowed; it must be a quantity/,
    )
    expect(() => bytes('1Ki', 'f', { min: '1Mi', max: '1Gi' })).toThrow(
      "f: '1Ki' is not allowed; it must be from 1Mi to 1Gi",
    )
    expect(() => bytes('0.5', 'f')).toThrow(/whole number of bytes/)
    expect(() => bytes('-1', 'f')).toThrow(/whole number of bytes/)
    expect(() => bytes('16Pi', 'f')).toThrow(/at most 8Pi/)
  })

  it('takes bounds as inclusive', () => {
    expect(bytes('1Mi', 'f', { min: '1Mi', max: '1Mi' })).toBe(1_048_576)
    expect(() => bytes(1_048_577, 'f', { max: '1Mi' })).toThrow()
  })

  it('orders by value, not by text', () => {
    expect(compareQuantities('1Gi', '1G')).toBe(1)
    expect(compareQuantities('1024', '1Ki')).toBe(0)
    expect(compareQuantities('999m', 1)).toBe(-1)
  })

  it('writes what it reads back, for every whole number', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), value => {
        expect(bytesAsBigint(formatQuantity(value), 'f')).toBe(value)
      }),
    )
    expect(formatQuantity(10n * 1024n ** 3n)).toBe('10Gi')
    expect(formatQuantity(1000)).toBe('1000')
    expect(formatQuantity(0)).toBe('0')
  })

  it('never throws anything but a KvidxError on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789.eE+-KMGTPiknum ') }), text => {
        const nano = parseNano(text)
        if (nano !== undefined) expect(nano <= (2n ** 63n - 1n) * NANO).toBe(true)
      }),
    )
  })

  it('writes bytes for people', () => {
    expect([0, 1023, 1024, 10_800_000_000].map(value => formatBytes(value))).toEqual([
      '0 B',
      '1023 B',
      '1.00 KiB',
      '10.1 GiB',
    ])
  })
})
