import { beforeAll, describe, test } from 'vitest'

export type Step = readonly [name: string, run: () => Promise<void>]

/**
 * Tests that follow each other, beside those of other groups: all groups of a file begin at once, so a file takes as long as its longest group
 * and not as the sum. After a step that failed the next one is still tried. Call it at the top of a file, after testNamespace.
 */
export function group(name: string, steps: readonly Step[]): void {
  const results: Promise<void>[] = []
  const took: number[] = []
  beforeAll(() => {
    let previous: Promise<void> = Promise.resolve()
    for (const [index, [, run]] of steps.entries()) {
      const result = previous
        .catch(() => {})
        .then(async () => {
          const began = performance.now()
          await run()
          took[index] = performance.now() - began
        })
      // reported by the test below
      result.catch(() => {})
      results.push(result)
      previous = result
    }
  })
  describe(name, () => {
    for (const [index, [step]] of steps.entries())
      test(step, { timeout: 600_000 }, async ({ annotate }) => {
        await results[index]
        await annotate(`${((took[index] ?? 0) / 1000).toFixed(1)} s`)
      })
  })
}
