import type { Clock } from '../../../src/common/clock.ts'

const FIRST_DELAY_MS = 100
const LONGEST_DELAY_MS = 10_000
/** A store that names a longer time is not waited for. */
const LONGEST_RETRY_AFTER_MS = 60_000

/** What a failed attempt says about the next one. */
export interface Failure {
  readonly error: unknown
  readonly retry: boolean
  /** From Retry-After, milliseconds. */
  readonly after?: number
}

export type Attempt<T> = { readonly value: T } | Failure

export interface RetryPolicy {
  readonly clock: Clock
  /** 0 … 1, for the jitter */
  readonly random: () => number
  /** Attempts in all, 1 or more. */
  readonly attempts: number
}

/** Full jitter: anything from 0 to a bound that doubles, so that many clients do not come back together. @param attempt 0 after the first failure */
export function backoffDelay(attempt: number, random: () => number): number {
  return random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt)
}

/** Runs `attempt` until it has a value, says not to retry, or the attempts are used up; then throws the last error. */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  attempt: (number: number) => Promise<Attempt<T>>,
): Promise<T> {
  for (let number = 0; ; number++) {
    const outcome = await attempt(number)
    if ('value' in outcome) return outcome.value
    const tooLong = (outcome.after ?? 0) > LONGEST_RETRY_AFTER_MS
    if (!outcome.retry || tooLong || number + 1 >= policy.attempts) throw outcome.error
    const delay = Math.max(outcome.after ?? 0, backoffDelay(number, policy.random))
    await policy.clock.sleep(delay, signal)
  }
}

/** Retry-After as milliseconds from `now`: seconds or an HTTP date; undefined when it is neither. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  if (value === undefined) return undefined
  if (/^[0-9]{1,9}$/.test(value.trim())) return Number(value) * 1000
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, at - now)
}
