import { describe, expect, it, vi } from 'vitest'
import { ManualClock, systemClock } from '../../../src/common/clock.ts'

describe('the manual clock', () => {
  it('fires timers at their own time and in order, also those that a timer sets', async () => {
    const clock = new ManualClock(1000)
    const fired: [string, number][] = []
    clock.setTimer(20, () => fired.push(['b', clock.monotonic()]))
    clock.setTimer(10, () => {
      fired.push(['a', clock.monotonic()])
      clock.setTimer(5, () => fired.push(['a2', clock.monotonic()]))
    })
    clock.setTimer(100, () => fired.push(['late', clock.monotonic()]))
    await clock.advance(50)
    expect(fired).toEqual([
      ['a', 10],
      ['a2', 15],
      ['b', 20],
    ])
    expect(clock.now()).toBe(1050)
    expect(clock.pending).toBe(1)
    expect(clock.untilNext).toBe(50)
  })

  it('lets a loop of sleeps run through one advance', async () => {
    const clock = new ManualClock()
    let turns = 0
    const loop = (async () => {
      while (turns < 10) {
        await clock.sleep(10)
        turns++
      }
    })()
    await clock.advance(55)
    expect(turns).toBe(5)
    await clock.advance(45)
    await loop
  })

  it('moves the wall clock alone on a jump', async () => {
    const clock = new ManualClock(0)
    const fired = vi.fn()
    clock.setTimer(1000, fired)
    clock.jump(3_600_000)
    await clock.advance(999)
    expect(fired).not.toHaveBeenCalled()
    expect(clock.now()).toBe(3_600_999)
    await clock.advance(1)
    expect(fired).toHaveBeenCalledOnce()
  })

  it('rejects a sleep with the reason of the signal and forgets its timer', async () => {
    const clock = new ManualClock()
    const abort = new AbortController()
    const sleeping = clock.sleep(1000, abort.signal)
    abort.abort(new Error('stopped'))
    await expect(sleeping).rejects.toThrow('stopped')
    expect(clock.pending).toBe(0)
    await expect(clock.sleep(1, abort.signal)).rejects.toThrow('stopped')
  })
})

describe('the system clock', () => {
  it('does not fire a timer of a month at once, and never one of infinite length', async () => {
    const fired = vi.fn()
    const timers = [systemClock.setTimer(30 * 86_400_000, fired), systemClock.setTimer(Number.POSITIVE_INFINITY, fired)]
    await systemClock.sleep(20)
    expect(fired).not.toHaveBeenCalled()
    for (const timer of timers) timer.cancel()
  })

  it('sleeps, and wakes early when aborted', async () => {
    const start = systemClock.monotonic()
    await systemClock.sleep(20)
    expect(systemClock.monotonic() - start).toBeGreaterThanOrEqual(18)
    await expect(systemClock.sleep(60_000, AbortSignal.timeout(10))).rejects.toThrow()
  })
})
