import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { covers, hashOf } from '../../../../src/controllers/database/covers.ts'

describe('a live object covers what is desired', () => {
  test.each([
    ['what the server added', { a: 1 }, { a: 1, b: 2 }, true],
    ['a changed value', { a: 1 }, { a: 2 }, false],
    ['a missing value', { a: 1 }, {}, false],
    ['a nested change', { a: { b: ['x'] } }, { a: { b: ['y'] } }, false],
    ['an item too many', { a: ['x'] }, { a: ['x', 'y'] }, false],
    ['an item too few', { a: ['x', 'y'] }, { a: ['x'] }, false],
    ['fields of an item that the server added', { a: [{ n: 1 }] }, { a: [{ n: 1, m: 2 }] }, true],
    ['empty and missing', { a: {}, b: [] }, {}, true],
    ['equal quantities', { memory: '1024Mi' }, { memory: '1Gi' }, true],
    ['equal amounts of CPU', { cpu: '1' }, { cpu: 1 }, true],
    ['different quantities', { memory: '1Gi' }, { memory: '2Gi' }, false],
    ['words that are no quantities', { name: 'a' }, { name: 'b' }, false],
    ['a selector with an entry more', { selector: { a: 'x' } }, { selector: { a: 'x', b: 'y' } }, false],
    ['labels with an entry more', { labels: { a: 'x' } }, { labels: { a: 'x', b: 'y' } }, true],
    ['false, which the API server does not store', { readOnly: false }, {}, true],
    ['an empty word, which it does not store', { env: [{ name: 'A', value: '' }] }, { env: [{ name: 'A' }] }, true],
    ['false and true', { readOnly: false }, { readOnly: true }, false],
    ['false, where missing means true', { automountServiceAccountToken: false }, {}, false],
    ['undefined in what is desired', { a: undefined }, { a: 1 }, true],
  ])('%s', (_, desired, live, expected) => expect(covers(desired, live)).toBe(expected))

  test('itself, whatever it is', () => {
    fc.assert(fc.property(fc.jsonValue(), value => covers(value, structuredClone(value))))
  })

  test('not what lacks a field with a value', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.integer({ min: 1 }), { minKeys: 1 }), object => {
        const [name = ''] = Object.keys(object)
        const { [name]: _gone, ...rest } = object
        return !covers(object, rest)
      }),
    )
  })
})

test('the hash tells of every change, also of a field that is gone', () => {
  expect(hashOf({ a: 1 })).toMatch(/^[0-9a-f]{16}$/)
  expect(hashOf({ a: 1 })).toBe(hashOf({ a: 1 }))
  expect(hashOf({ a: 1 })).not.toBe(hashOf({ a: 1, b: {} }))
})
