import { describe, expect, it } from 'vitest'
import { backoffDelay, parseRetryAfter } from '../../../sidecar/backup/store/retry.ts'
import { Bandwidth } from '../../../sidecar/backup/store/throttle.ts'
import { ManualClock } from '../../../src/common/clock.ts'

async function* chunks(count: number, size: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield new Uint8Array(size)
}

describe('the bandwidth limit', () => {
  it('lets through what it says, of several streams together, and no burst after a pause', async () => {
    const clock = new ManualClock()
    const limit = new Bandwidth(1_000_000, clock)
    let passed = 0
    const drain = async () => {
      for await (const part of limit.limit(chunks(40, 250_000))) passed += part.length
    }
    const running = [drain(), drain()]
    await clock.advance(5_000)
    expect(passed).toBeGreaterThan(4_800_000)
    expect(passed).toBeLessThan(5_300_000)
    await clock.advance(20_000)
    await Promise.all(running)
    expect(passed).toBe(20_000_000)
    await clock.advance(60_000)
    const before = clock.monotonic()
    const after = drain()
    await clock.advance(1_000)
    expect(passed - 20_000_000).toBeLessThan(1_200_000)
    await clock.advance(20_000)
    await after
    expect(clock.monotonic()).toBeGreaterThan(before)
  })

  it('stops waiting when it is aborted', async () => {
    const clock = new ManualClock()
    const limit = new Bandwidth(10, clock)
    const abort = new AbortController()
    const waiting = limit.take(1000, abort.signal)
    abort.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
  })
})

describe('waiting before another attempt', () => {
  it('doubles its bound up to ten seconds and draws from all of it', () => {
    expect([0, 1, 2, 20].map(n => backoffDelay(n, () => 1))).toEqual([100, 200, 400, 10_000])
    expect(backoffDelay(5, () => 0)).toBe(0)
  })

  it('reads Retry-After as seconds or as a date', () => {
    expect(parseRetryAfter('3', 0)).toBe(3000)
    expect(parseRetryAfter('Thu, 01 Jan 1970 00:00:05 GMT', 1000)).toBe(4000)
    expect(parseRetryAfter('soon', 0)).toBeUndefined()
    expect(parseRetryAfter(undefined, 0)).toBeUndefined()
  })
})
