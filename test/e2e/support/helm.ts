import { succeed } from './command.ts'
import { e2e } from './environment.ts'

export const RELEASE = 'kvidx-operator'
export const CHART = 'charts/kvidx-operator'

/** `helm ARGS` in the operator's namespace; rejects when it fails. */
export function helm(args: readonly string[], timeout = 180_000): Promise<string> {
  return succeed('helm', ['--namespace', e2e.operatorNamespace, ...args], { timeout })
}

/** The values that make the chart run the image under test. */
export function imageValues(): readonly string[] {
  const colon = e2e.image.lastIndexOf(':')
  return [
    '--set-string',
    `image.repository=${e2e.image.slice(0, colon)}`,
    '--set-string',
    `image.tag=${e2e.image.slice(colon + 1)}`,
  ]
}
