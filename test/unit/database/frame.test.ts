import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { digestOfRecord, formatDigest, parseDigest } from '../../../sidecar/database/digest.ts'
import {
  type Change,
  changesOf,
  FrameBuilder,
  FrameSplitter,
  readFrameHeader,
} from '../../../sidecar/database/frame.ts'

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const record = fc.record({
  key: u64,
  term: u64,
  cmd: u64,
  expiresAt: u64,
  data: fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)),
})
const change: fc.Arbitrary<Change> = fc.oneof(
  record.map(value => ({ kind: 'put', record: value }) as const),
  u64.map(key => ({ kind: 'remove', key }) as const),
  fc
    .tuple(u64, u64, u64)
    .map(([start, end, removed]) => ({ kind: 'removeRange', range: { start, end }, removed }) as const),
  fc.tuple(u64, u64).map(([key, expiresAt]) => ({ kind: 'expiry', key, expiresAt }) as const),
)
// made by xxhsum 0.8 and a few lines of Python, not by this code
const VECTORS = {
  empty: '9a026d96b3c0f0fca057271c9071c99d',
  hello: '0ed4fc98b98a777423ec814ff487b2e7',
  frame:
    '6a000000b5dfcd28030000000000000011000000000000000068e5cf8b010000010000000000000001050000002a00000000000000010000000000000002000000000000000068e5cf8b01000068656c6c6f01000000000000000500000000000000e7b287f44f81ec2374778ab998fcd40e',
}
const after = fc.record({ count: u64, dataBytes: u64, digest: fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }) })

function build(changes: readonly Change[], state: { count: bigint; dataBytes: bigint; digest: bigint }): Buffer {
  const builder = new FrameBuilder()
  for (const item of changes) {
    if (item.kind === 'put') builder.put(item.record)
    else if (item.kind === 'remove') builder.remove(item.key)
    else if (item.kind === 'removeRange') builder.removeRange(item.range, item.removed)
    else builder.expiry(item.key, item.expiresAt)
  }
  return Buffer.from(builder.finish({ epoch: 3n, seq: 17n }, 1_700_000_000_000n, state))
}

describe('commit frames', () => {
  test('give back what was put into them', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 30 }), after, (changes, state) => {
        const frame = build(changes, state)
        expect(readFrameHeader(frame)).toEqual({
          epoch: 3n,
          firstSeq: 17n,
          lastSeq: 16n + BigInt(changes.length),
          time: 1_700_000_000_000n,
          changeCount: changes.length,
          after: state,
        })
        expect([...changesOf(frame)]).toEqual(changes)
      }),
    )
  })

  test('are refused after any flipped bit, and nothing crashes', () => {
    const frame = build(
      [
        { kind: 'put', record: { key: 1n, term: 2n, cmd: 3n, expiresAt: 4n, data: Buffer.from('hello') } },
        { kind: 'remove', key: 9n },
        { kind: 'expiry', key: 1n, expiresAt: 0n },
      ],
      { count: 1n, dataBytes: 5n, digest: 7n },
    )
    for (let bit = 0; bit < frame.length * 8; bit++) {
      const damaged = Buffer.from(frame)
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(() => readFrameHeader(damaged), `bit ${bit}`).toThrow(expect.objectContaining({ code: 'backup_corrupt' }))
    }
  })

  test('come out of a stream whole, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(change, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }),
        (commits, cuts) => {
          const frames = commits.map(changes => build(changes, { count: 0n, dataBytes: 0n, digest: 0n }))
          const stream = Buffer.concat(frames)
          const splitter = new FrameSplitter()
          const found: Buffer[] = []
          for (let at = 0, i = 0; at < stream.length; i++) {
            const size = cuts[i % cuts.length] as number
            found.push(...splitter.push(stream.subarray(at, at + size)).map(frame => Buffer.from(frame)))
            at += size
          }
          splitter.end()
          expect(found).toEqual(frames)
        },
      ),
      { numRuns: 50 },
    )
  })

  test('cut off in the middle are named', () => {
    const splitter = new FrameSplitter()
    splitter.push(build([{ kind: 'remove', key: 1n }], { count: 0n, dataBytes: 0n, digest: 0n }).subarray(0, 20))
    expect(() => splitter.end()).toThrow(/ends inside a frame/)
  })

  test('agree with the vectors of docs/formats.md', () => {
    const empty = { key: 0n, term: 0n, cmd: 0n, expiresAt: 0n, data: Buffer.alloc(0) }
    const hello = { key: 42n, term: 1n, cmd: 2n, expiresAt: 1_700_000_000_000n, data: Buffer.from('hello') }
    expect(formatDigest(digestOfRecord(empty))).toBe(VECTORS.empty)
    expect(formatDigest(digestOfRecord(hello))).toBe(VECTORS.hello)
    expect(
      build([{ kind: 'put', record: hello }], { count: 1n, dataBytes: 5n, digest: digestOfRecord(hello) }).toString(
        'hex',
      ),
    ).toBe(VECTORS.frame)
    expect(parseDigest(VECTORS.hello)).toBe(digestOfRecord(hello))
  })
})
