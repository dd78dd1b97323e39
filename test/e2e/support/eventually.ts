import { setTimeout as sleep } from 'node:timers/promises'

export interface EventuallyOptions {
  /** Default 60,000 ms. */
  readonly timeout?: number
  /** Default 250 ms. */
  readonly interval?: number
}

/**
 * Calls `check` until it neither throws nor resolves with false or undefined, and resolves with its value. After the timeout it rejects with
 * the last error, so an `expect` inside says what was still wrong.
 */
export async function eventually<T>(
  what: string,
  check: () => Promise<T> | T,
  options: EventuallyOptions = {},
): Promise<NonNullable<T>> {
  const { timeout = 60_000, interval = 250 } = options
  const end = performance.now() + timeout
  let last: unknown
  for (;;) {
    try {
      const value = await check()
      if (value !== false && value !== undefined && value !== null) return value
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
