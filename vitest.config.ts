import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// For the processes and threads that tests start: see bin/kvidx. In thousands of threads V8's abort ("jit_page.has_value()") was seen every few runs.
process.env.NODE_COMPILE_CACHE ??= fileURLToPath(new URL('node_modules/.cache/kvidx', import.meta.url))

export default defineConfig({
  test: {
    // a hung test must not hold up the others for long
    testTimeout: process.env.CI === 'true' ? 60_000 : 20_000,
    hookTimeout: 120_000,
    // two busy cores make a slow answer look like none; a test that fails every time still fails
    retry: process.env.CI === 'true' ? 2 : 0,
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: ['test/integration/{kube,controllers,api}/**'],
        },
      },
      // kill -9, full disks, damaged files: npm run test:fault
      { extends: true, test: { name: 'fault', include: ['test/fault/**/*.test.ts'] } },
      {
        // against a real API server, one for all files: test/support/control-plane.ts
        extends: true,
        test: {
          name: 'kubernetes',
          include: ['test/integration/{kube,controllers,api}/**/*.test.ts'],
          globalSetup: ['test/support/control-plane.ts'],
        },
      },
    ],
  },
})
