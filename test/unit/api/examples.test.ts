import { globSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { readManifests } from '../../../src/api/manifest.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { parseSidecarConfig, renderSidecarConfig, sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'

const ROOT = new URL('../../../', import.meta.url).pathname
const files = globSync('examples/*.yaml', { cwd: ROOT }).sort()

describe('the examples', () => {
  it('are there', () => {
    expect(files.length).toBeGreaterThan(5)
  })

  it.each(files)('%s is valid and gives a configuration that the sidecar reads', async file => {
    const { objects } = await readManifests([ROOT + file])
    expect(objects.length).toBeGreaterThan(0)
    for (const { object } of objects) {
      if (object.kind !== 'KvidxDatabase') continue
      const config = sidecarConfig({
        namespace: 'default',
        name: object.metadata.name,
        spec: withDefaults(object.spec),
      })
      expect(parseSidecarConfig(renderSidecarConfig(config), file)).toEqual(config)
    }
  })

  it.each(globSync('examples/gitops/**/*.yaml', { cwd: ROOT }))('%s is YAML', file => {
    for (const document of parseAllDocuments(readFileSync(ROOT + file, 'utf8'))) expect(document.errors).toEqual([])
  })
})
