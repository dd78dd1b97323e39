/** Resolves with the first SIGTERM or SIGINT that comes from now on. */
export function waitForSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    const names = ['SIGTERM', 'SIGINT'] as const
    const listener = (signal: NodeJS.Signals) => {
      for (const name of names) process.off(name, listener)
      resolve(signal)
    }
    for (const name of names) process.on(name, listener)
  })
}
