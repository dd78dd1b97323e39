import { globSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseManifests, tryApply } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'

const namespace = testNamespace('examples')
const files = globSync('examples/**/*.yaml').toSorted()

/** Kinds of tools that the cluster need not have; their files are only parsed. */
const FOREIGN = /^(argoproj\.io|.*\.toolkit\.fluxcd\.io|monitoring\.coreos\.com|kustomize\.config\.k8s\.io)\//

describe('examples', () => {
  test('are there', () => expect(files.length).toBeGreaterThan(0))

  test.each(files)('%s is accepted by the API server', async file => {
    const objects = parseManifests(readFileSync(file, 'utf8'))
    expect(objects.length).toBeGreaterThan(0)
    const ours = objects
      .filter(({ apiVersion }) => !FOREIGN.test(apiVersion))
      // whatever namespace the file has, the dry run is about this one, which exists and enforces restricted Pod Security
      .map(object => ({ ...object, metadata: { ...object.metadata, namespace } }))
    if (ours.length === 0) return
    const { code, stderr } = await tryApply(ours, { namespace, dryRun: true })
    expect(stderr).toBe('')
    expect(code).toBe(0)
  })
})
