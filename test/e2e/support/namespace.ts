import { afterAll, beforeAll } from 'vitest'
import { apply, kubectl } from './kubectl.ts'

/**
 * A namespace for this test file, in which Pod Security enforces `restricted`; deleted afterwards with all that is in it.
 * KVIDX_E2E_KEEP=1 keeps it for a look.
 */
export function testNamespace(name: string): string {
  const namespace = `e2e-${name}`
  const remove = ['delete', 'namespace', namespace, '--ignore-not-found', '--timeout=120s']
  beforeAll(async () => {
    await kubectl(remove, { timeout: 130_000 }) // of an earlier run
    const labels = {
      'pod-security.kubernetes.io/enforce': 'restricted',
      'pod-security.kubernetes.io/warn': 'restricted',
    }
    await apply([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } }])
  })
  afterAll(async () => {
    if (!process.env.KVIDX_E2E_KEEP) await kubectl(remove, { timeout: 130_000 })
  })
  return namespace
}
