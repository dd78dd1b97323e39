import { KubeApiError } from '../kube/api-error.ts'
import type { JobContext } from './context.ts'

const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 15_000
/** How long the last word about a backup is tried to be written, ms: what was stored must be known. */
const PATIENCE = 300_000

/** Repeats a call while the API server cannot be reached: a control plane that is updated must not cost a backup. */
export async function persist<T>(context: JobContext, call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const { clock, log } = context
  const end = clock.monotonic() + PATIENCE
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      return await call()
    } catch (error) {
      const passing =
        error instanceof KubeApiError && (error.status === 0 || error.status === 429 || error.status >= 500)
      if (!passing || signal?.aborted || clock.monotonic() + pause > end) throw error
      log.info({ err: error, pause }, 'the API server does not answer; trying again')
      await clock.sleep(pause, signal)
    }
  }
}
