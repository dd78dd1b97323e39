import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Budget } from '../../../sidecar/server/budget.ts'
import { byteRange } from '../../../sidecar/server/byte-range.ts'
import { matches, readTags } from '../../../sidecar/server/conditions.ts'
import { isLoopback } from '../../../sidecar/server/config.ts'
import { LineSplitter } from '../../../sidecar/server/lines.ts'
import type { Log } from '../../../sidecar/server/log.ts'
import { MountedFiles } from '../../../sidecar/server/mounted-file.ts'
import { negotiate } from '../../../sidecar/server/negotiate.ts'
import { problemDocument, rawProblem } from '../../../sidecar/server/problem.ts'
import { TokenStore } from '../../../sidecar/server/tokens.ts'
import { Watchdog } from '../../../sidecar/server/watchdog.ts'
import { ManualClock } from '../../../src/common/clock.ts'
import { ERRORS, type ErrorCode, KvidxError } from '../../../src/common/errors.ts'

const nothing = (): void => {}
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing } as unknown as Log

describe('problem documents', () => {
  test('have the members of RFC 9457 and a stable code, whatever the details are called', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const document = JSON.parse(
        problemDocument(new KvidxError(code, 'why', { status: 1, code: 'x', title: 'x', position: 5n })),
      )
      expect(document).toEqual({
        type: `urn:kvidx:problem:${code}`,
        title: ERRORS[code].title,
        status: ERRORS[code].status,
        detail: 'why',
        code,
        retryable: 'retryable' in ERRORS[code],
        position: '5',
      })
      expect(document.status).toBeGreaterThanOrEqual(400)
    }
  })

  test('as raw HTTP have the length of their body', () => {
    const [head, body] = rawProblem(new KvidxError('malformed_request', 'é')).split('\r\n\r\n') as [string, string]
    expect(head).toContain(`content-length: ${Buffer.byteLength(body)}`)
    expect(head).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
  })
})

describe('Accept', () => {
  const offers = ['application/octet-stream', 'application/json'] as const
  test.each([
    [undefined, 'application/octet-stream'],
    ['*/*', 'application/octet-stream'],
    ['application/json', 'application/json'],
    ['APPLICATION/JSON; charset=utf-8', 'application/json'],
    ['application/*', 'application/octet-stream'],
    ['application/octet-stream;q=0.1, application/json;q=0.2', 'application/json'],
    ['application/octet-stream;q=0, */*', 'application/json'],
    ['text/html, */*;q=0.1', 'application/octet-stream'],
  ])('%s gives %s', (accept, expected) => {
    expect(negotiate(accept, offers)).toBe(expected)
  })

  test.each(['text/html', 'application/json;q=0', 'nonsense', 'application/json;q=x'])('%s gives nothing', accept => {
    expect(() => negotiate(accept, offers)).toThrow(expect.objectContaining({ code: 'not_acceptable' }))
  })
})

test('a byte range lies inside the data, or is refused', () => {
  fc.assert(
    fc.property(
      fc.option(fc.nat(50), { nil: undefined }),
      fc.option(fc.nat(50), { nil: undefined }),
      fc.nat(40),
      (first, last, length) => {
        const header = `bytes=${first ?? ''}-${last ?? ''}`
        let range: ReturnType<typeof byteRange>
        try {
          range = byteRange(header, length)
        } catch (error) {
          expect(error).toMatchObject({ code: 'range_not_satisfiable', details: { length } })
          expect(first === undefined ? last === 0 || length === 0 : first >= length).toBe(true)
          return
        }
        if (!range) return
        expect(range.start >= 0 && range.start <= range.end && range.end < length).toBe(true)
        if (first !== undefined) expect(range.start).toBe(first)
        else expect(range.end).toBe(length - 1)
      },
    ),
  )
})

test('tags match strongly for changes and weakly for reads', () => {
  const tag = 'a'.repeat(32)
  const digest = BigInt(`0x${tag}`)
  const judge = (value: string, weak: boolean) => matches(readTags(value, 'If-Match', weak), digest)
  expect(judge(`"${tag}"`, false)).toBe(true)
  expect(judge(`"x", "${tag}"`, false)).toBe(true)
  expect(judge(`W/"${tag}"`, false)).toBe(false)
  expect(judge(`W/"${tag}"`, true)).toBe(true)
  expect(judge('"x"', true)).toBe(false)
  expect(matches(readTags('*', 'If-Match', false), undefined)).toBe(false)
  for (const value of ['', 'x', `"${tag}`, `"${tag}" "${tag}"`, '"a",,"b"'])
    expect(() => readTags(value, 'If-Match', false)).toThrow(expect.objectContaining({ code: 'invalid_parameter' }))
})

test('loopback is told from what others reach', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'])
    expect(isLoopback(host)).toBe(true)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.com', '127.0.0.1.example.com', ''])
    expect(isLoopback(host)).toBe(false)
})

test('a budget never goes over its limit', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(60)), amounts => {
      const budget = new Budget('things', 100)
      const held: number[] = []
      for (const amount of amounts) {
        try {
          budget.take(amount)
          held.push(amount)
        } catch (error) {
          expect(error).toMatchObject({ code: 'overloaded' })
          expect(budget.used + amount).toBeGreaterThan(100)
          const back = held.pop()
          if (back !== undefined) budget.give(back)
        }
        expect(budget.used).toBe(held.reduce((sum, one) => sum + one, 0))
        expect(budget.used).toBeLessThanOrEqual(100)
      }
    }),
  )
})

describe('the watchdog', () => {
  test('ends what makes no progress, leaves what does, and rests when nobody waits', async () => {
    const clock = new ManualClock()
    const watchdog = new Watchdog(clock, 1000)
    const ended: string[] = []
    watchdog.watch(() => ended.push('stuck'))
    const slow = watchdog.watch(() => ended.push('slow'))
    watchdog.watch(() => ended.push('done')).end()
    await clock.advance(800)
    slow.progress()
    await clock.advance(500)
    expect(ended).toEqual(['stuck'])
    await clock.advance(1000)
    expect(ended).toEqual(['stuck', 'slow'])
    expect([watchdog.size, clock.pending]).toEqual([0, 0])
    watchdog.watch(() => ended.push('stopped'))
    watchdog.stop()
    await clock.advance(5000)
    expect(ended).toEqual(['stuck', 'slow'])
  })
})

test('lines are cut the same however the bytes come', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: fc.constantFrom('a', 'ä', '\n', ' ') })), parts => {
      const splitter = new LineSplitter(1000)
      const lines = [...parts.flatMap(part => splitter.push(Buffer.from(part))), ...splitter.end()]
      const expected = parts.join('').split('\n')
      if (expected.at(-1) === '') expected.pop()
      expect(lines.map(line => line.bytes.toString())).toEqual(expected)
      expect(lines.map(line => line.number)).toEqual(expected.map((_, index) => index + 1))
    }),
  )
  const splitter = new LineSplitter(10)
  splitter.push(Buffer.from('\n123456'))
  expect(() => splitter.push(Buffer.from('78901'))).toThrow(expect.objectContaining({ code: 'too_large' }))
})

describe('mounted files', () => {
  test('are read again when the kubelet swaps the symlink, and the old content stays when the new one is no good', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'mounted-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const link = join(directory, 'token')
    const swap = (name: string, content: string) => {
      writeFileSync(join(directory, name), content)
      try {
        unlinkSync(link)
      } catch {}
      symlinkSync(join(directory, name), link)
    }
    swap('one', 'first')
    let content = ''
    let usable = ''
    const files = new MountedFiles(
      [link],
      contents => {
        const text = String(contents.get(link))
        if (text === 'bad' && usable !== text) throw new Error('no good')
        content = text
      },
      log,
    )
    await files.open()
    expect(content).toBe('first')
    swap('two', 'other')
    await files.look()
    expect(content).toBe('other')
    swap('three', 'bad')
    await files.look()
    expect(content).toBe('other')
    // what kept it from being used (rights, a disk) went away and left no trace in the file
    usable = 'bad'
    await files.look()
    expect(content).toBe('bad')
    const clock = new ManualClock()
    files.watch(clock, 1000)
    swap('four', 'later')
    await clock.advance(1000)
    await expect.poll(() => content).toBe('later')
    files.stop()
    await clock.advance(0)
    expect(clock.pending).toBe(0)
  })

  test('of tokens give each its rights', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'mounted-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    writeFileSync(join(directory, 'read'), '  read-token-000000 \n read-token-111111\n')
    writeFileSync(join(directory, 'admin'), 'admin-token-00000')
    const tokens = await TokenStore.open(directory, log)
    expect(
      ['read-token-000000', 'read-token-111111', 'admin-token-00000', 'read-token-00000', ''].map(token =>
        tokens.rightsOf(token),
      ),
    ).toEqual(['read', 'read', 'admin', 'none', 'none'])
  })
})
