let interrupted = false

/** A signal ended the work of `interruptible`: what it then threw is no news to whoever sent it. */
export const wasInterrupted = (): boolean => interrupted

/** Aborted by the first SIGINT or SIGTERM, so that work ends in order. Call `end` when it is done. */
export function interruptible(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController()
  const abort = () => {
    interrupted = true
    controller.abort()
  }
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, abort)
  return {
    signal: controller.signal,
    end() {
      for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, abort)
    },
  }
}
