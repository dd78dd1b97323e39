import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { promisify } from 'node:util'
import { describe, expect, inject, test } from 'vitest'

const { kubeconfig = '', kubectl = '', missing } = inject('controlPlane')
const files = globSync('crds/*.yaml').toSorted()

// the API server alone knows what a CEL rule may cost and whether a schema is structural
describe.skipIf(missing)('the definitions', () => {
  test('are there', () => expect(files.length).toBe(3))

  test.each(files)('%s is accepted by a real API server', async file => {
    const args = ['--kubeconfig', kubeconfig, 'apply', '--dry-run=server', '-f', file]
    const { stdout, stderr } = await promisify(execFile)(kubectl, args)
    expect(stdout).toMatch(/(created|configured|unchanged) \(server dry run\)/)
    expect(stderr).toBe('')
  })
})
