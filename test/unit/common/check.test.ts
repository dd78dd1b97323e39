import { Type } from '@sinclair/typebox'
import { describe, expect, it } from 'vitest'
import { check, fieldOf, problemsOf } from '../../../src/common/check.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { duration, quantity, strict, u64, words } from '../../../src/common/schema.ts'
import { suggest } from '../../../src/common/suggest.ts'

const schema = strict(
  {
    engine: words(['SQLite', 'LMDB'], { description: 'engine' }),
    size: Type.Optional(quantity({ description: 'size', min: '1Mi', max: '1Ti', words: ['auto'], percent: true })),
    wait: Type.Optional(duration({ description: 'wait', min: '1s', max: '7d' })),
    key: Type.Optional(u64({ description: 'key' })),
    ports: Type.Optional(
      Type.Array(strict({ number: Type.Integer({ minimum: 1, maximum: 9 }) }, { description: 'port' }), {
        maxItems: 2,
      }),
    ),
  },
  { description: 'test' },
)

const messages = (value: unknown): string[] =>
  problemsOf(schema, value).map(({ field, message }) => `${field}: ${message}`)

describe('checking a document', () => {
  it('gives back what fits', () => {
    const value = { engine: 'LMDB', size: '10%', wait: '1d', key: '0', ports: [{ number: 1 }] }
    expect(check(schema, value, 'doc')).toBe(value)
    expect(messages({ engine: 'SQLite', size: 1_048_576 })).toEqual([])
    expect(messages({ engine: 'SQLite', size: 'auto' })).toEqual([])
  })

  it('names each field, its value and what is allowed', () => {
    expect(
      messages({ engine: 'sqlite', size: '1Ki', wait: '500ms', key: '01', ports: [{ number: 1 }, { number: 10 }] }),
    ).toEqual([
      "engine: 'sqlite' is not one of SQLite, LMDB; did you mean 'SQLite'?",
      "size: '1Ki' is not allowed; it must be 'auto' or a percentage such as 10% or a quantity from 1Mi to 1Ti",
      "wait: '500ms' is not allowed; it must be a duration with units, largest first, such as 1500ms, 30s, 1h30m or 7d, from 1s to 7d",
      "key: '01' is not allowed; it must be text that matches ^(0|[1-9][0-9]{0,19})$",
      'ports[1].number: 10 is not allowed; it must be from 1 to 9',
    ])
  })

  it('refuses unknown fields and suggests the one that is meant', () => {
    expect(messages({ engine: 'LMDB', prots: [] })).toEqual([
      "prots: there is no such field; did you mean 'ports'? (known: engine, size, wait, key, ports)",
    ])
    expect(messages({ engine: 'LMDB', somethingElse: 1 })[0]).not.toContain('did you mean')
  })

  it('says what is missing and what has the wrong type', () => {
    expect(messages({})).toEqual(['engine: this field is required'])
    expect(messages({ engine: 'LMDB', size: true, ports: {} })).toEqual([
      'size: true is not allowed; it must be of type integer or string',
      'ports: {} is not allowed; it must be of type array',
    ])
    expect(messages(null)).toEqual([': null is not allowed; it must be of type object'])
  })

  it.each(['0%', '101%', '01%', '5 %', '%', 'AUTO', 1.5])(
    'refuses %j where a quantity, auto or a percentage is meant',
    size => {
      expect(messages({ engine: 'LMDB', size })).toHaveLength(1)
    },
  )

  it('lists at most 20 problems', () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`x${index}`, 1]))
    expect(problemsOf(schema, { engine: 'LMDB', ...many })).toHaveLength(20)
  })

  it('throws one error with all problems in its details', () => {
    try {
      check(schema, { engine: 'X', wait: '1' }, 'config.json', 'invalid_manifest')
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(KvidxError)
      const { code, message, details } = error as KvidxError
      expect(code).toBe('invalid_manifest')
      expect(message).toMatch(/^config\.json: engine: 'X' .*; wait: '1' /)
      expect(details).toMatchObject({ field: 'engine', problems: [{ field: 'engine' }, { field: 'wait' }] })
    }
  })

  it('writes paths as people do', () => {
    expect(fieldOf(['spec', 'a', 0, 'b'])).toBe('spec.a[0].b')
    expect(fieldOf(['metadata', 'labels', 'kvidx.io/x'])).toBe("metadata.labels['kvidx.io/x']")
  })
})

describe('suggestions', () => {
  it.each([
    ['tunning', 'tuning'],
    ['SIZE', 'size'],
    ['storgae', 'storage'],
    ['journal', undefined],
    ['x', undefined],
  ])('for %s: %s', (unknown, expected) => {
    expect(suggest(unknown, ['size', 'tuning', 'storage', 'backup'])).toBe(expected)
  })

  it('stay quick on long words', () => {
    expect(suggest('a'.repeat(100_000), ['size', 'tuning'])).toBeUndefined()
  })
})
