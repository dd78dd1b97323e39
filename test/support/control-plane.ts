/**
 * A real API server (with etcd and the controller manager) for integration tests, started once for all test files that vitest.config.ts
 * lists, stopped afterwards. In a test:
 *
 *     import { inject } from 'vitest'
 *     const { kubeconfig, kubectl, missing } = inject('controlPlane')   // paths; the kubeconfig is cluster-admin's
 *     describe.skipIf(missing)('...', () => { ... })
 *
 * Use a namespace of your own in each file. Where no API server can be started (it is built from Go modules: `npm run cluster:build -- --control-plane`)
 * `missing` says why; with CI=true that is a failure of the whole run instead.
 */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { TestProject } from 'vitest/node'

const execute = promisify(execFile)
const CLUSTER = fileURLToPath(new URL('../cluster/cluster', import.meta.url))

export type ControlPlane =
  | { readonly kubeconfig: string; readonly kubectl: string; readonly missing?: undefined }
  | { readonly kubeconfig?: undefined; readonly kubectl?: undefined; readonly missing: string }

declare module 'vitest' {
  interface ProvidedContext {
    controlPlane: ControlPlane
  }
}

/** One more, for a test that needs kinds there which others need absent. */
export async function startControlPlane(): Promise<{ readonly kubeconfig: string; stop(): Promise<void> }> {
  const { stdout } = await execute(CLUSTER, ['control-plane', 'up'])
  const kubeconfig = stdout.trim()
  const directory = kubeconfig.slice(0, kubeconfig.lastIndexOf('/'))
  return {
    kubeconfig,
    async stop() {
      await execute(CLUSTER, ['control-plane', 'down', '--dir', directory])
    },
  }
}

/** For vitest: `globalSetup`. KVIDX_TEST_KUBECONFIG names an API server that runs already, and is left alone. */
export async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const existing = process.env.KVIDX_TEST_KUBECONFIG
  if (existing) {
    project.provide('controlPlane', { kubeconfig: existing, kubectl: 'kubectl' })
    return
  }
  try {
    const { kubeconfig, stop } = await startControlPlane()
    // the program of the same version, which need not be in PATH
    const script = 'exports=$("$0" env) && eval "$exports" && command -v kubectl'
    const kubectl = (await execute('bash', ['-c', script, CLUSTER])).stdout.trim()
    project.provide('controlPlane', { kubeconfig, kubectl })
    return stop
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim() || String(error)
    const missing = `no API server for tests: ${said} (npm run cluster:build -- --control-plane builds it from Go modules, once)`
    if (process.env.CI === 'true') throw new Error(missing)
    console.warn(`SKIPPED: the tests against a real API server. ${missing}`)
    project.provide('controlPlane', { missing })
  }
}
