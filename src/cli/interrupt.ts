import { SECOND_SIGNAL } from './signals.ts'

let interrupted = false

/** A signal ended the work of `interruptible`: what it then threw is no news to whoever sent it. */
export const wasInterrupted = (): boolean => interrupted

/**
 * Aborted by the first SIGINT or SIGTERM, so that work ends in order; a second one, unless it is the same Ctrl-C on another way, ends the process at once.
 * Call `end` when the work is done.
 */
export function interruptible(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController()
  const names = ['SIGINT', 'SIGTERM'] as const
  let first: number | undefined
  const end = () => {
    for (const name of names) process.off(name, abort)
  }
  const abort = (name: NodeJS.Signals) => {
    first ??= performance.now()
    interrupted = true
    if (!controller.signal.aborted) return controller.abort()
    if (performance.now() - first < SECOND_SIGNAL) return
    end()
    process.kill(process.pid, name)
  }
  for (const name of names) process.on(name, abort)
  return { signal: controller.signal, end }
}
