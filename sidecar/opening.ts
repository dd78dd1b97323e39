import type { Clock } from '../src/common/clock.ts'
import { asKvidxError, type ErrorCode, type KvidxError } from '../src/common/errors.ts'

/** What no waiting mends: only another configuration does, or a person with the data, who then restarts the process. */
const UNTIL_CHANGED: ReadonlySet<ErrorCode> = new Set([
  'data_lost',
  'foreign_volume',
  'volume_not_empty',
  'conflict',
  'engine_corrupt',
  'engine_unavailable',
  'setting_unsupported',
])

/** For what has nothing to do with the data (ports, sockets, tokens, certificates): it is mended from outside, with no word to us. */
export const ALWAYS_AGAIN: ReadonlySet<ErrorCode> = new Set()

/** Between attempts at what may mend itself (the disk, a port, a store, a file with keys), at least, ms. */
const RETRY = 10_000
/** At most: an attempt that takes long, as a restore may, is made again after as long a pause. */
const LONGEST_RETRY = 600_000

export interface Attempts {
  readonly clock: Clock
  /** Registers for changes of the configuration; returns how to stop. */
  onChange(listener: () => void): () => void
  failed(error: KvidxError, retryIn: number | undefined): void
}

/**
 * Tries until it works: again when the configuration changes, and from time to time where waiting may help. So a pod is healed by setting
 * `recovery.allowEmpty`, say, without a hand on the pod. Rejects with the last error once the signal is aborted.
 */
export async function untilItWorks<T>(
  attempt: () => Promise<T>,
  attempts: Attempts,
  signal: AbortSignal,
  hopeless = UNTIL_CHANGED,
): Promise<T> {
  for (;;) {
    // from before the attempt: a change during it counts, too
    let changed = (): void => {}
    const change = new Promise<void>(resolve => {
      changed = resolve
    })
    const unregister = attempts.onChange(() => changed())
    const waiting = new AbortController()
    const began = attempts.clock.monotonic()
    try {
      return await attempt()
    } catch (error) {
      const failure = asKvidxError(error)
      if (signal.aborted) throw failure
      const pauseFor = Math.min(Math.max(attempts.clock.monotonic() - began, RETRY), LONGEST_RETRY)
      const retryIn = hopeless.has(failure.code) ? undefined : pauseFor
      attempts.failed(failure, retryIn)
      const stop = AbortSignal.any([signal, waiting.signal])
      const pause = attempts.clock.sleep(retryIn ?? Number.POSITIVE_INFINITY, stop).catch(() => {})
      await Promise.race([change, pause])
      if (signal.aborted) throw failure
    } finally {
      unregister()
      waiting.abort()
    }
  }
}
