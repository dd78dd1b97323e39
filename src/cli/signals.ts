/** One Ctrl-C can arrive twice, from the terminal and from what started us: only a later one means "at once". Milliseconds. */
export const SECOND_SIGNAL = 500

/** Resolves with the first SIGTERM or SIGINT that comes from now on. @param deaf milliseconds for which none counts */
export function waitForSignal(deaf = 0): Promise<NodeJS.Signals> {
  const began = performance.now()
  return new Promise(resolve => {
    const names = ['SIGTERM', 'SIGINT'] as const
    const listener = (signal: NodeJS.Signals) => {
      if (performance.now() - began < deaf) return
      for (const name of names) process.off(name, listener)
      resolve(signal)
    }
    for (const name of names) process.on(name, listener)
  })
}
