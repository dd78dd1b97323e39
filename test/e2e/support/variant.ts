import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Plugin } from 'esbuild'
import { bundle } from '../../../scripts/bundle.ts'
import { succeed } from './command.ts'
import { e2e } from './environment.ts'

/** This program as it was before its newest pod template: it does not know that one, and gives new databases the one before. */
const WITHOUT_NEWEST_TEMPLATE: Plugin = {
  name: 'without the newest template',
  setup(build) {
    build.onLoad({ filter: /\/database\/objects\/stateful-set\.ts$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8')
      const newest = Number(/^export const NEWEST_TEMPLATE = (\d+)$/m.exec(source)?.[1])
      const contents = source
        .replace(/^export const NEWEST_TEMPLATE = \d+$/m, `export const NEWEST_TEMPLATE = ${newest - 1}`)
        .replace(new RegExp(`^  ${newest}: podTemplateV${newest},\n`, 'm'), '')
      if (contents.includes(`podTemplateV${newest},`) || !contents.includes(`podTemplateV${newest - 1},`))
        throw new Error(`${path}: the newest of at least two templates was not found`)
      return { contents, loader: 'ts' }
    })
  },
}

/** Builds that program's image from the one under test, and loads it into the nodes. */
export async function buildPreviousVersion(tag: string): Promise<void> {
  if (e2e.cluster === undefined) throw new Error('images can be built for the test cluster of this repository only')
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-previous-'))
  try {
    await bundle(join(directory, 'dist'), [WITHOUT_NEWEST_TEMPLATE])
    writeFileSync(
      join(directory, 'Dockerfile'),
      `FROM ${e2e.image}\nUSER 0:0\nRUN rm -r /app/dist\nCOPY dist /app/dist\nUSER 10001:10001\n`,
    )
    await succeed(e2e.cluster, ['image', 'build', directory, tag], { timeout: 170_000 })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** So that no later cluster loads it. */
export async function removeVersion(tag: string): Promise<void> {
  if (e2e.cluster !== undefined) await succeed(e2e.cluster, ['image', 'remove', tag])
}
