import type { Clock, Timer } from '../common/clock.ts'

/** A signal that aborts with another one or after some time; disposing it lets go of both. */
export interface LinkedAbort extends Disposable {
  readonly signal: AbortSignal
  /** Aborts with `reason` in `ms` milliseconds, instead of what was set before. It is made only then: an error costs its stack, and few are late. */
  after(ms: number, reason: () => Error): void
}

/**
 * The caller's signal lives as long as the process, and there are many calls: so the listener is taken off when the call is over,
 * which AbortSignal.any leaves to the garbage collector.
 */
export function linkedAbort(clock: Clock, outer?: AbortSignal): LinkedAbort {
  const controller = new AbortController()
  const follow = (): void => controller.abort(outer?.reason)
  let timer: Timer | undefined
  if (outer?.aborted) follow()
  else outer?.addEventListener('abort', follow, { once: true })
  return {
    signal: controller.signal,
    after(ms, reason) {
      timer?.cancel()
      timer = clock.setTimer(ms, () => controller.abort(reason()))
    },
    [Symbol.dispose]() {
      timer?.cancel()
      outer?.removeEventListener('abort', follow)
    },
  }
}
