import { expect, test } from 'vitest'
import { untilItWorks } from '../../../sidecar/opening.ts'
import { ManualClock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'

test('what may mend itself is tried again after 10 s, or as long as the attempt took, at most 10 minutes', async () => {
  const clock = new ManualClock()
  const took = [0, 60_000, 3_600_000]
  const pauses: Array<number | undefined> = []
  const attempts = {
    clock,
    onChange: () => () => {},
    failed: (_: KvidxError, retryIn: number | undefined) => pauses.push(retryIn),
  }
  const done = untilItWorks(
    async () => {
      const duration = took.shift()
      if (duration === undefined) return 'works'
      await clock.sleep(duration)
      throw new KvidxError('insufficient_space', 'no room')
    },
    attempts,
    new AbortController().signal,
  )
  for (const passes of [10_000, 60_000, 60_000, 3_600_000, 600_000]) await clock.advance(passes)
  expect(await done).toBe('works')
  expect(pauses).toEqual([10_000, 60_000, 600_000])
})
