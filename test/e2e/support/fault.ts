import { succeed } from './command.ts'
import { e2e } from './environment.ts'

/** False on a cluster that is not ours to break. */
export const canBreak = e2e.cluster !== undefined

/** `cluster fault ARGS`: test/cluster/README.md lists them. */
export function fault(...args: readonly string[]): Promise<string> {
  if (e2e.cluster === undefined) throw new Error('faults need the test cluster of this repository')
  return succeed(e2e.cluster, ['fault', ...args], { timeout: 120_000 })
}
