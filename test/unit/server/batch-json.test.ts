import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readBatch, readOperation, readOperationLine } from '../../../sidecar/server/batch-json.ts'
import { openApiDocument } from '../../../sidecar/server/openapi.ts'
import { ROUTES } from '../../../sidecar/server/routes.ts'

const u64 = fc.oneof(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(String), fc.nat(), fc.constant('0x10'))
const conditions = {
  ifMatch: fc.constantFrom('*', '0'.repeat(32), `"${'f'.repeat(32)}"`),
  ifNoneMatch: fc.constant('*'),
  ifTerm: u64,
  return: fc.constant('previous'),
}
const owners = { term: u64, cmd: u64 }
const data = { data: fc.uint8Array().map(bytes => Buffer.from(bytes).toString('base64')) }
const ttl = { ttl: fc.constantFrom('1h', '90s', '1500ms', '1d12h') }
const shapes: Array<[string[], Record<string, fc.Arbitrary<unknown>>]> = [
  [['put', 'insert', 'update'], { key: u64, ...owners, ...data, ...ttl, ...conditions }],
  [['delete'], { key: u64, ...conditions }],
  [['append', 'prepend'], { key: u64, ...owners, ...data, ...conditions }],
  [['splice'], { key: u64, offset: fc.nat(), ...data, ...conditions }],
  [['expiry'], { key: u64, ...ttl, ...conditions }],
  [['deleteRange'], { start: u64, end: u64 }],
]
const sound = fc.oneof(
  ...shapes.map(([ops, members]) =>
    fc.record(
      { op: fc.constantFrom(...ops), ...members },
      {
        requiredKeys: [
          'op',
          ...Object.keys(members).filter(name => ['key', 'offset', 'start', 'end'].includes(name)),
        ] as never,
      },
    ),
  ),
)
const odd = fc.constantFrom<unknown>(
  '-1',
  '01',
  1.5,
  -1,
  2 ** 53,
  true,
  null,
  '18446744073709551616',
  '',
  'a===',
  'ab-_',
  '1y',
  '60',
  'x',
  [],
  {},
)
const names = [
  'op',
  'key',
  'term',
  'cmd',
  'data',
  'text',
  'ttl',
  'ifMatch',
  'ifNoneMatch',
  'ifTerm',
  'return',
  'offset',
  'start',
  'end',
  'other',
]
/** Sound, or with one member that is odd, missing or of another operation. */
const member = fc.oneof(
  sound,
  fc.tuple(sound, fc.constantFrom(...names), odd).map(([operation, name, value]) => ({ ...operation, [name]: value })),
  fc.tuple(sound, fc.constantFrom(...names)).map(([operation, name]) => {
    const { [name]: _, ...rest } = operation as Record<string, unknown>
    return rest
  }),
)

test('what is read is what the schema allows, apart from values that a schema cannot judge', () => {
  const document = JSON.parse(JSON.stringify(openApiDocument(ROUTES)))
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const allowed = ajv.compile({ $ref: '#/components/schemas/BatchOperation', components: document.components })
  let [read, refused] = [0, 0]
  fc.assert(
    fc.property(member, operation => {
      try {
        readOperation(operation, 'ops[0]')
      } catch (error) {
        const { code, message } = error as { code: string; message: string }
        expect(['invalid_body', 'invalid_key', 'invalid_parameter']).toContain(code)
        expect(message).toContain('ops[0]')
        refused++
        // 0-length durations and numbers of 20 digits above 2^64-1 have the right form
        if (allowed(operation)) expect(message).toMatch(/18446744073709551616|ttl|both given/)
        return
      }
      read++
      expect([operation, allowed(operation), allowed.errors]).toEqual([operation, true, null])
    }),
    { numRuns: 2000 },
  )
  expect(read).toBeGreaterThan(500)
  expect(refused).toBeGreaterThan(500)
})

describe('a batch', () => {
  test.each([
    ['not JSON', 'ops', 'invalid_body'],
    ['a list', '[]', 'invalid_body'],
    ['without ops', '{}', 'invalid_body'],
    ['with another member', '{"ops":[],"atomic":true}', 'invalid_body'],
    ['with an operation that is none', '{"ops":[1]}', 'invalid_body'],
    ['with too many', '{"ops":[{},{},{}]}', 'too_large'],
    ['with a key that lost digits', '{"ops":[{"op":"delete","key":9007199254740993}]}', 'invalid_key'],
    ['with two data', '{"ops":[{"op":"put","key":"1","data":"","text":""}]}', 'invalid_body'],
    ['with two expiries', '{"ops":[{"op":"put","key":"1","ttl":"1h","expiresAt":5}]}', 'invalid_body'],
    ['with a ttl in a list', '{"ops":[{"op":"put","key":"1","ttl":["5s"]}]}', 'invalid_parameter'],
    ['with an expiry in a list', '{"ops":[{"op":"put","key":"1","expiresAt":[5]}]}', 'invalid_parameter'],
    ['with half a character', '{"ops":[{"op":"put","key":"1","text":"\\ud800"}]}', 'invalid_body'],
    ['with members of another operation', '{"ops":[{"op":"delete","key":"1","data":""}]}', 'invalid_body'],
  ])('%s is refused', (_, text, code) => {
    expect(() => readBatch(text, 2)).toThrow(expect.objectContaining({ code }))
  })

  test('with megabytes of base64 is read, and refused where one character is wrong', () => {
    const data = Buffer.alloc(6_000_000, 3).toString('base64')
    const batch = (text: string) => readBatch(JSON.stringify({ ops: [{ op: 'put', key: '1', data: text }] }), 1)
    expect(batch(data)[0]).toMatchObject({ op: 'put', data: { byteLength: 6_000_000 } })
    for (const wrong of [
      `${data}=`,
      `${data.slice(0, -1)}-`,
      `=${data.slice(1)}`,
      // would be read as eA== is
      'eB==',
      'eHl=',
      `${data.slice(0, 4_000_000)} ${data.slice(4_000_001)}`,
    ])
      expect(() => batch(wrong)).toThrow(expect.objectContaining({ code: 'invalid_body' }))
  })

  test('an expiry that is no safe number is named as it was sent', () => {
    for (const expiresAt of ['9007199254740993', '1e300', '1.5'])
      expect(() => readBatch(`{"ops":[{"op":"put","key":"1","expiresAt":${expiresAt}}]}`, 1)).toThrow(
        `ops[0].expiresAt: ${JSON.stringify(Number(expiresAt))} is not allowed (allowed: Unix milliseconds from 1 to 18446744073709551615 as a string, up to 2^53-1`,
      )
  })

  test('a misspelt member is named with the one that was meant', () => {
    expect(() => readOperation({ op: 'put', key: '1', trem: '1' }, 'ops[3]')).toThrow(
      /ops\[3\]\.trem .*did you mean term\?/,
    )
  })

  test('a wrong line is named by its number', () => {
    expect(() => readOperationLine(Buffer.from('{"op":"put"}'), 17)).toThrow(
      expect.objectContaining({
        code: 'invalid_key',
        message: expect.stringContaining('line 17: '),
        details: expect.objectContaining({ line: 17 }),
      }),
    )
  })
})
