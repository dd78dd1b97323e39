import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DURATION_PATTERN, formatDuration, milliseconds, parseDuration } from '../../../src/common/duration.ts'

describe('durations', () => {
  it.each([
    ['0s', 0],
    ['1500ms', 1500],
    ['30s', 30_000],
    ['1m', 60_000],
    ['1h30m', 5_400_000],
    ['7d', 604_800_000],
    ['36h', 129_600_000],
    ['2h3m4s5ms', 7_384_005],
    ['90m', 5_400_000],
  ])('reads %s', (text, ms) => {
    expect(milliseconds(text, 'f')).toBe(ms)
  })

  it.each([
    '',
    '5',
    '1.5h',
    '-1s',
    '+1s',
    '1h 30m',
    '30m1h',
    '1s1s',
    '1w',
    '1d12h',
    '1d1d',
    '1S',
    's',
    '1e3s',
    '99999999h',
    '1h30',
  ])('refuses %j', text => {
    expect(parseDuration(text)).toBeUndefined()
  })

  it('says that a bare number has no unit, with the field and the value', () => {
    expect(() => milliseconds('30', 'spec.tuning.busyTimeout')).toThrow(
      /^spec\.tuning\.busyTimeout: '30' is not allowed; it must be a duration with units/,
    )
  })

  it('takes bounds as inclusive', () => {
    expect(milliseconds('1s', 'f', { min: '1s', max: '1s' })).toBe(1000)
    expect(() => milliseconds('999ms', 'f', { min: '1s', max: '1h' })).toThrow(
      "f: '999ms' is not allowed; it must be from 1s to 1h",
    )
    expect(() => milliseconds('1h1ms', 'f', { max: '1h' })).toThrow('to 1h')
  })

  it('writes what it reads back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 8_000_000_000_000 }), ms => {
        expect(parseDuration(formatDuration(ms))).toBe(ms)
      }),
    )
  })

  it('agrees with the pattern of the schema on every text but the empty one', () => {
    const pattern = new RegExp(DURATION_PATTERN)
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789dhms.'), minLength: 1, maxLength: 12 }), text => {
        expect(parseDuration(text) !== undefined).toBe(pattern.test(text))
      }),
      { numRuns: 2000 },
    )
  })
})
