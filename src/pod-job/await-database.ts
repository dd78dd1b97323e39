import { Unreachable } from '../cli/exit-code.ts'
import type { JobContext } from './context.ts'

const PAUSE = 5000

/**
 * Waits while nobody answers: a backup that is due just when its database moves to another node must not fail for that, or there is none before the next is due.
 * Any answer ends it, also a refusal, and so does the end of patience: the work itself says best what is wrong then. @param patience ms
 */
export async function awaitDatabase(
  { clock, log, signal }: Pick<JobContext, 'clock' | 'log' | 'signal'>,
  ask: () => Promise<unknown>,
  patience: number,
): Promise<void> {
  const end = clock.monotonic() + patience
  for (let told = false; ; told = true) {
    try {
      await ask()
      return
    } catch (error) {
      if (!(error instanceof Unreachable) || clock.monotonic() + PAUSE > end || signal.aborted) return
      if (!told) log.info({ err: error }, 'waiting for the database')
      await clock.sleep(PAUSE, signal).catch(() => {})
    }
  }
}
