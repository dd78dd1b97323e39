import { describe, expect, test } from 'vitest'
import type { StreamFormat } from '../../../sidecar/database/database.ts'
import { createDecoder } from '../../../sidecar/format/decode.ts'
import { createEncoder } from '../../../sidecar/format/encode.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { decodeAll } from './golden.ts'

/** The error of reading `text` (Latin-1), the same for one chunk and for single bytes. */
function problem(format: StreamFormat, text: string | Uint8Array, maxDataBytes = 100): KvidxError {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text
  const errors = [[bytes.length || 1], [1]].map(sizes => {
    try {
      decodeAll(format, bytes, sizes, { maxDataBytes })
    } catch (thrown) {
      if (thrown instanceof KvidxError) return thrown
      throw thrown
    }
    return expect.unreachable('it was accepted')
  })
  const [whole, single] = errors as [KvidxError, KvidxError]
  expect({ code: single.code, record: single.details.record }).toEqual({
    code: whole.code,
    record: whole.details.record,
  })
  return whole
}

function binary(version: number, count: bigint, ...records: { length: bigint; data: Uint8Array }[]): Uint8Array {
  const header = Buffer.alloc(24)
  header.write('004b564556494458', 'hex')
  header.writeUInt32LE(version, 8)
  header.writeUInt32LE(77, 12)
  header.writeBigUInt64LE(count, 16)
  const parts = records.flatMap(({ length, data }) => {
    const head = Buffer.alloc(32)
    head.writeBigUInt64LE(length, 24)
    return [head, data]
  })
  return Buffer.concat([header, ...parts])
}

describe('BINARY', () => {
  const ten = { length: 10n, data: new Uint8Array(10) }

  test('the reserved field is ignored', () => {
    expect(decodeAll('binary', binary(1, 1n, ten)).length).toBe(1)
  })

  test.each([
    ['nothing at all', new Uint8Array(0), /ends after 0 bytes; expected a header of 24 bytes/],
    [
      'another kind of file',
      Buffer.from('SQLite format 3\0'),
      /begins with the bytes 53; expected 004b564556494458|53514c/,
    ],
    ['a later version', binary(2, 0n), /version is 2; expected 1/],
    ['too few records', binary(1, 3n, ten, ten), /record index 2, offset 108: .* after 2 of the 3 records/],
    [
      'too many records',
      binary(1, 1n, ten, ten),
      /record index 1, offset 66: .* further bytes behind the last of 1 records/,
    ],
    ['one byte too many', Buffer.concat([binary(1, 1n, ten), Buffer.alloc(1)]), /further bytes/],
    [
      'a count that cannot be',
      binary(1, 2n ** 64n - 1n, ten),
      /record index 1, .* after 1 of the 18446744073709551615/,
    ],
    [
      'data that is cut off',
      binary(1, 1n, { length: 20n, data: new Uint8Array(5) }),
      /record index 0, offset 24: .* 5 of 20 bytes/,
    ],
  ])('%s', (_, bytes, message) => {
    const error = problem('binary', bytes)
    expect(error.code).toBe('invalid_body')
    expect(error.message).toMatch(message)
  })

  test('a length above the limit is found before memory is taken for it', () => {
    const before = process.memoryUsage().arrayBuffers
    const error = problem('binary', binary(1, 2n, ten, { length: 2n ** 60n, data: new Uint8Array(0) }))
    expect(error.code).toBe('too_large')
    expect(error.details).toMatchObject({ record: 1, offset: 66, limit: 100 })
    expect(error.message).toContain('1152921504606846976')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
  })

  test('data of exactly the limit passes', () => {
    expect(decodeAll('binary', binary(1, 1n, ten), [5], { maxDataBytes: 10 }).length).toBe(1)
  })
})

describe('JSON', () => {
  const doc = (entries: string) => `{"format":"kvidx-json","version":1,"entries":[${entries}]}`
  const entry = '{"key":1,"data":"x"}'

  test.each([
    ['nothing at all', '', /ends after 0 records; expected \{"format"/],
    ['an array', '[]', /'\[' stands here/],
    ['another format', '{"format":"other"}', /format has another value; expected "kvidx-json"/],
    ['another version', '{"format":"kvidx-json","version":2}', /version has another value; expected 1/],
    ['no entries', '{"format":"kvidx-json","version":1}', /no member 'entries'/],
    ['no format', '{"version":1,"entries":[]}', /no member 'format'/],
    ['an unknown member', '{"formats":1}', /'formats' is not known/],
    ['entries twice', `{"entries":[],"entries":[]}`, /'entries' stands twice/],
    ['an unknown member of an entry', doc('{"key":1,"value":"x"}'), /record index 0, .*'value' is not known/],
    ['a key twice', doc('{"key":1,"key":2,"data":""}'), /'key' stands twice/],
    ['an entry without data', doc(`${entry},{"key":1}`), /record index 1, .* no data/],
    ['an entry without key', doc('{"data":""}'), /no key/],
    ['a missing comma', doc(entry + entry), /record index 1, .*'\{' stands here; expected ',' or '\]'/],
    ['a trailing comma', doc(`${entry},`), /'\]' stands here; expected '\{'/],
    ['a negative key', doc('{"key":-1,"data":""}'), /'-' stands where/],
    ['a fraction', doc('{"key":1.5,"data":""}'), /fraction or an exponent/],
    ['a leading zero', doc('{"key":01,"data":""}'), /key is 01/],
    [
      '2^64',
      doc('{"key":18446744073709551616,"data":""}'),
      /key is 18446744073709551616; expected 0 to 18446744073709551615/,
    ],
    ['21 digits', doc('{"key":100000000000000000000,"data":""}'), /more than 20 digits/],
    ['data that is a number', doc('{"key":1,"data":5}'), /a number stands here/],
    ['data that is null', doc('{"key":1,"data":null}'), /'n' stands where/],
    ['a raw line end in data', doc('{"key":1,"data":"a\nb"}'), /control byte 0x0a/],
    ['an unknown escape', doc('{"key":1,"data":"\\x41"}'), /backslash is followed by an unknown letter/],
    ['a bad hex digit', doc('{"key":1,"data":"\\u00g0"}'), /four hex digits/],
    ['half a surrogate pair', doc('{"key":1,"data":"\\ud83dx"}'), /half of a surrogate pair/],
    ['the other half', doc('{"key":1,"data":"\\ude00"}'), /half of a surrogate pair/],
    [
      'a cut inside a string',
      '{"format":"kvidx-json","version":1,"entries":[{"key":1,"data":"ab',
      /ends inside a string/,
    ],
    [
      'a cut between entries',
      '{"format":"kvidx-json","version":1,"entries":[{"key":1,"data":""}',
      /ends after 1 records; expected ',' or '\]'/,
    ],
    ['something behind the end', `${doc('')} 1`, /a number stands here; expected the end of the file/],
    ['a key of a kilobyte', doc(`{"key":"${'1'.repeat(1000)}","data":""}`), /more than 32 bytes/],
  ])('%s', (_, text, message) => {
    const error = problem('json', text)
    expect(error.code).toBe('invalid_body')
    expect(error.message).toMatch(message)
  })

  test('the line is named', () => {
    expect(problem('json', doc('\n\n{"key":1,\n"data":5}')).details).toMatchObject({ line: 4, record: 0 })
  })

  test('data above the limit is too_large', () => {
    const error = problem('json', doc(`${entry},{"key":2,"data":"${'x'.repeat(101)}"}`))
    expect(error.code).toBe('too_large')
    expect(error.details.record).toBe(1)
  })

  test('integers beyond 2^53 are exact, escapes become UTF-8, and a byte order mark is passed over', () => {
    const text = doc(
      '{"key":18446744073709551615,"term":9007199254740993,"data":"\\u00e9\\ud83d\\ude00\\u0041\\u007f\\/"}',
    )
    const [read] = decodeAll('json', Buffer.from(`\uFEFF${text}`), [3])
    expect(read).toMatchObject({ key: 2n ** 64n - 1n, term: 9007199254740993n, cmd: 0n })
    expect(Buffer.from(read?.data ?? []).toString()).toBe('é😀A\x7f/')
  })
})

describe('CSV', () => {
  const header = 'key,term,cmd,data\n'

  test.each([
    ['nothing at all', '', /has no header line; expected key,term,cmd,data or key,data/],
    ['another header', 'id,value\n1,x\n', /the header is 'id,value'; expected/],
    ['a header that is too long', `${'x'.repeat(100)}\n`, /not a header/],
    ['too few fields', `${header}1,2,x\n`, /line 2, record index 0, .* has 3 fields; expected 4/],
    ['too many fields', `${header}1,2,3,x\n1,2,3,x,y\n`, /line 3, record index 1, .* more than 4 fields/],
    ['an empty line', `${header}\n`, /has 1 fields/],
    ['a key that is not a number', `${header}one,2,3,x\n`, /key is 'one'/],
    ['a term below 0', `${header}1,-2,3,x\n`, /term is '-2'/],
    ['a key of 2^64', `${header}18446744073709551616,2,3,x\n`, /key is '18446744073709551616'/],
    ['a quote inside a field', `${header}1,2,3,a"b\n`, /a quote stands inside a field without quotes/],
    ['something behind a quote', `${header}1,2,3,"a"b\n`, /'b' follows a closing quote/],
    ['a CR alone', `${header}1,2,3,a\rb\n`, /'b' follows CR/],
    ['an open quote at the end', `${header}1,2,3,"ab\n`, /ends inside quotes/],
    ['no line end at the end', `${header}1,2,3,ab`, /ends inside a line; expected a line end/],
    ['no line end behind an empty field', `${header}1,2,3,`, /ends inside a line/],
    ['an endless key', `${header}${'1'.repeat(50)},2,3,x\n`, /field 1 has more than 32 bytes/],
  ])('%s', (_, text, message) => {
    const error = problem('csv', text)
    expect(error.code).toBe('invalid_body')
    expect(error.message).toMatch(message)
  })

  test('the line is that where the record begins, after quoted line ends too', () => {
    expect(problem('csv', `${header}1,2,3,"a\nb\nc"\n2,2,x,"a\nb"\n`).details).toMatchObject({ line: 5, record: 1 })
  })

  test('data above the limit is too_large', () => {
    const error = problem('csv', `${header}1,2,3,${'x'.repeat(101)}\n`)
    expect(error.code).toBe('too_large')
    expect(error.details).toMatchObject({ record: 0, line: 2, limit: 100 })
  })

  test('a byte order mark is passed over', () => {
    expect(decodeAll('csv', Buffer.from('\uFEFFkey,data\n1,x\n'), [1]).length).toBe(1)
  })
})

describe('NDJSON', () => {
  const line = '{"key":"1","term":"2","cmd":"3","data":"eA=="}\n'
  const end = (count: number) => `{"end":true,"count":"${count}","position":"1.9"}\n`

  test.each([
    ['a stream without its closing line', line, /ends after 1 records without its closing line/],
    ['another count', line + end(2), /counts 2 records, but 1 came/],
    ['a line behind the end', line + end(1) + line, /follows the closing line/],
    ['a line that is not JSON', `${line}{"key"\n`, /line 2, record index 1, .* is not JSON/],
    ['a list', '[1]\n', /not an object/],
    ['a key that is a number', '{"key":1,"data":""}\n', /key is 1; expected .* decimal string/],
    ['a key above the limit', '{"key":"18446744073709551616","data":""}\n', /key is "18446744073709551616"/],
    ['data that is not base64', '{"key":"1","data":"eA="}\n', /data is not base64/],
    ['base64 with bits behind its data', '{"key":"1","data":"eB=="}\n', /not canonical base64: its last character/],
    ['base64 with stray letters', '{"key":"1","data":"e-A="}\n', /data is not base64/],
    ['no data', '{"key":"1"}\n', /data is missing/],
    ['an unknown member', '{"key":"1","data":"","ttl":"1s"}\n', /'ttl' is not known/],
    ['an expiry of 0', '{"key":"1","data":"","expiresAt":"0"}\n', /expiresAt is 0/],
    ['bytes that are not UTF-8', '{"key":"1","data":"\xff"}\n', /not valid UTF-8/],
  ])('%s', (_, text, message) => {
    const error = problem('ndjson', text)
    expect(error.code).toBe('invalid_body')
    expect(error.message).toMatch(message)
  })

  test('the closing line gives the position', () => {
    const decoder = createDecoder('ndjson', { maxDataBytes: 10 }, () => {})
    decoder.push(Buffer.from(`${line}\n${end(1)}`))
    decoder.end()
    expect(decoder.position).toBe('1.9')
  })

  test('an endless line is too_large and never gathered', () => {
    const decoder = createDecoder('ndjson', { maxDataBytes: 100 }, () => {})
    expect(() => {
      for (let i = 0; i < 1000; i++) decoder.push(Buffer.alloc(100, 'x'))
    }).toThrow(/above the limit of 100/)
  })
})

test('an error is thrown again by every later call', () => {
  const decoder = createDecoder('csv', { maxDataBytes: 10 }, () => {})
  expect(() => decoder.push(Buffer.from('nonsense\n'))).toThrow(/header/)
  expect(() => decoder.push(Buffer.from('key,data\n'))).toThrow(/nonsense/)
  expect(() => decoder.end()).toThrow(/nonsense/)
})

test.each([
  ['pretty', 'csv', { pretty: true }],
  ['metadata', 'binary', { metadata: false, count: 0 }],
  ['values', 'binary', { values: false, count: 0 }],
] as const)('an encoder refuses %s for %s', (field, format, options) => {
  expect(() => createEncoder(format, options)).toThrow(expect.objectContaining({ code: 'invalid_parameter' }))
  expect(() => createEncoder(format, options)).toThrow(field)
})

test('an encoder does not finish a BINARY file whose count is wrong', () => {
  const encoder = createEncoder('binary', { count: 2 })
  encoder.header()
  encoder.append({ key: 1n, term: 1n, cmd: 1n, data: new Uint8Array(1), expiresAt: 0n })
  expect(() => encoder.footer()).toThrow(/announced 2 records, but 1/)
})
