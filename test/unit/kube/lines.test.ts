import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LineSplitter } from '../../../src/kube/lines.ts'

describe('the line splitter', () => {
  it('gives the same lines wherever the stream is cut, also inside a character of several bytes', () => {
    const line = fc.string({ unit: 'grapheme', minLength: 1 }).filter(text => !text.includes('\n'))
    void fc.assert(
      fc.property(fc.array(line), fc.infiniteStream(fc.integer({ min: 1, max: 7 })), (lines, sizes) => {
        const bytes = Buffer.from(lines.map(text => `${text}\n`).join(''))
        const splitter = new LineSplitter(1 << 20)
        const seen: string[] = []
        for (let at = 0; at < bytes.length; ) {
          const size = sizes.next().value ?? 1
          seen.push(...splitter.push(bytes.subarray(at, at + size)))
          at += size
        }
        expect(seen).toEqual(lines)
        expect(splitter.pending).toBe(0)
      }),
    )
  })

  it('keeps an unfinished line back', () => {
    const splitter = new LineSplitter(100)
    expect([...splitter.push(Buffer.from('{"a":1}\n\n{"b"'))]).toEqual(['{"a":1}'])
    expect(splitter.pending).toBe(4)
    expect([...splitter.push(Buffer.from(':2}\n'))]).toEqual(['{"b":2}'])
  })

  it('refuses a line above the limit instead of collecting it', () => {
    const splitter = new LineSplitter(10)
    expect(() => [...splitter.push(Buffer.from('0123456789\n01234567890'))]).toThrow(/longer than 10 bytes/)
  })
})
