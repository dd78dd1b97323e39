import { describe, expect, test } from 'vitest'
import { exitCodeOf, Unreachable } from '../../../src/cli/exit-code.ts'
import { formatOf } from '../../../src/cli/import.ts'
import { linesOf } from '../../../src/cli/io.ts'
import { picture } from '../../../src/cli/progress.ts'
import { parseServer } from '../../../src/cli/server-address.ts'
import { fields, instant, preview, row } from '../../../src/cli/table.ts'
import { ERRORS, type ErrorCode, KvidxError } from '../../../src/common/errors.ts'

describe('the address of a server', () => {
  test.each([
    ['http://127.0.0.1:7400', { origin: 'http://127.0.0.1:7400' }],
    ['https://db.example/', { origin: 'https://db.example' }],
    ['localhost:7400', { origin: 'http://localhost:7400' }],
    ['[::1]:7400', { origin: 'http://[::1]:7400' }],
    ['unix:///run/kvidx/kvidx.sock', { origin: 'http://localhost', socketPath: '/run/kvidx/kvidx.sock' }],
    ['unix:/run/s', { origin: 'http://localhost', socketPath: '/run/s' }],
  ])('%s is read', (text, expected) => {
    expect(parseServer(text)).toEqual(expected)
  })

  test.each(['', 'ftp://x', 'http://', 'http://x/v1', 'http://user:secret@x', 'unix://relative', 'http://x?y=1'])(
    "'%s' is refused",
    text => {
      expect(() => parseServer(text)).toThrow(/--server: .* is not the address of a server/)
    },
  )
})

describe('exit codes', () => {
  test('every error has one, by what can be done about it', () => {
    const of = (code: ErrorCode) => exitCodeOf(new KvidxError(code, ''))
    expect(of('not_found')).toBe(3)
    expect(of('condition_failed')).toBe(4)
    expect(of('duplicate_key')).toBe(4)
    expect(of('unauthorized')).toBe(6)
    expect(of('overloaded')).toBe(7)
    expect(of('no_space')).toBe(7)
    expect(of('invalid_key')).toBe(2)
    expect(of('engine_corrupt')).toBe(1)
    expect(exitCodeOf(new Unreachable(''))).toBe(5)
    expect(exitCodeOf(new Error('x'))).toBe(1)
    for (const code of Object.keys(ERRORS) as ErrorCode[]) expect(of(code)).toBeGreaterThan(0)
  })
})

describe('text for people', () => {
  test('data is shown as text where it is text, else in hex, and never moves the cursor', () => {
    expect(preview(Buffer.from('héllo'))).toBe('héllo')
    expect(preview(Buffer.from('x'.repeat(100)))).toBe(`${'x'.repeat(47)}…`)
    expect(preview(Buffer.from([0xff, 0x00]))).toBe('0xff00')
    expect(preview(Buffer.from('a\x1b[2J'))).toBe('0x611b5b324a')
    expect(preview(Buffer.alloc(1000, 0xff))).toBe(`0x${'ff'.repeat(22)}…`)
    expect(preview(new Uint8Array(0))).toBe('')
    // cut in the middle of a character
    expect(preview(Buffer.from('é'.repeat(300)))).toBe(`${'é'.repeat(47)}…`)
  })

  test('tables have columns, and leave out what is not known', () => {
    expect(fields({ a: 1, long: 'x', none: undefined })).toBe('a     1\nlong  x\n')
    expect(row(['1', '22', '3'], [3, 3, 3])).toBe('1    22   3\n')
  })

  test('times beyond what a date can be are shown as they are', () => {
    expect(instant('1893456000000')).toBe('2030-01-01T00:00:00.000Z')
    expect(instant('18446744073709551615')).toBe('18446744073709551615 ms')
  })

  test('a bar shows the share where the total is known, else what has passed', () => {
    expect(picture('check', 'share', 0.25, 1, 1000)).toBe(`check [${'#'.repeat(7)}${'.'.repeat(21)}] 25%`)
    expect(picture('import', 'bytes', 2048, 1024, 1000)).toBe(`import [${'#'.repeat(28)}] 100% 2.00 KiB 2.00 KiB/s`)
    expect(picture('export', 'bytes', 1024, undefined, 100)).toBe('export 1.00 KiB')
  })

  test('the name of a file tells its format', () => {
    expect(['a.bin', 'a.KVIDX', 'a.json', 'a.csv', 'a.b.ndjson', 'a', 'a.txt'].map(formatOf)).toEqual([
      'binary',
      'binary',
      'json',
      'csv',
      'ndjson',
      undefined,
      undefined,
    ])
  })

  test('lines come out whole whatever the pieces are', async () => {
    const text = 'ä\n\nlonger line\nlast'
    const bytes = Buffer.from(text)
    for (let size = 1; size <= bytes.length; size++) {
      const chunks = async function* () {
        for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
      }
      const lines: string[] = []
      for await (const line of linesOf(chunks())) lines.push(line)
      expect(lines).toEqual(text.split('\n'))
    }
  })
})
