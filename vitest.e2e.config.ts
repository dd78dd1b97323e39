import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** By name, and last what looks back at all the others. */
class Sequencer extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => `${moduleId.endsWith('/rights.test.ts') ? 1 : 0} ${moduleId}`
    return files.toSorted((a, b) => (rank(a) < rank(b) ? -1 : 1))
  }
}

/** These wait for schedules most of the time, each in a namespace of its own, and disturb nobody. */
const SIDE_BY_SIDE = ['schedule', 'moments', 'restore', 'records', 'jobs'].map(
  name => `test/e2e/backup-${name}.test.ts`,
)

const shared = { testTimeout: 180_000, hookTimeout: 180_000, retry: process.env.CI === 'true' ? 1 : 0 }

// Run by `npm run test:e2e`, which brings up the cluster and says in variables where it is: scripts/e2e.ts.
export default defineConfig({
  test: {
    sequence: { sequencer: Sequencer },
    projects: [
      {
        test: {
          ...shared,
          name: 'e2e-backup',
          include: SIDE_BY_SIDE,
          maxWorkers: 4,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: SIDE_BY_SIDE,
          // one cluster on few cores: files one after the other measure what they mean to
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
