import { setTimeout as sleep } from 'node:timers/promises'

export interface EventuallyOptions {
  /** Default 60,000 ms. */
  readonly timeout?: number
  /** Default 250 ms. */
  readonly interval?: number
}

/**
 * Calls `check` until it neither throws nor resolves with false or null, and resolves with its value. (Undefined is what a check made of
 * `expect` alone gives, so it counts as success.) After the timeout it rejects with the last error, so an `expect` inside says what was
 * still wrong.
 */
export async function eventually<T>(
  what: string,
  check: () => Promise<T> | T,
  options: EventuallyOptions = {},
): Promise<Exclude<T, false | null>> {
  const { timeout = 60_000, interval = 250 } = options
  const end = performance.now() + timeout
  let last: unknown
  for (;;) {
    try {
      const value = await check()
      if (value !== false && value !== null) return value as Exclude<T, false | null>
      last = `the last answer was ${String(value)}`
    } catch (error) {
      last = error
    }
    if (performance.now() >= end) break
    await sleep(interval)
  }
  const reason = last instanceof Error ? last.message : String(last)
  throw new Error(`not within ${timeout / 1000} s: ${what}; ${reason}`, { cause: last })
}
