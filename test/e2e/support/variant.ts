import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Plugin } from 'esbuild'
import { bundle } from '../../../scripts/bundle.ts'
import { succeed } from './command.ts'
import { e2e } from './environment.ts'

/** This program as a later version of it might be, in which new databases get another pod template. */
const NEXT_TEMPLATE: Plugin = {
  name: 'next template',
  setup(build) {
    build.onLoad({ filter: /\/database\/objects\/stateful-set\.ts$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8')
      const contents = source.replace(
        /^export const NEWEST_TEMPLATE = (\d+)$/m,
        (_, newest: string) =>
          `export const NEWEST_TEMPLATE = ${Number(newest) + 1}
Object.assign(TEMPLATES, {
  [NEWEST_TEMPLATE]: (blueprint: Blueprint) => ({ ...TEMPLATES[${newest}]!(blueprint), terminationGracePeriodSeconds: 121 }),
})`,
      )
      if (contents === source) throw new Error(`${path} no longer says which template is the newest`)
      return { contents, loader: 'ts' }
    })
  },
}

/** Builds that program's image from the one under test, and loads it into the nodes. */
export async function buildNextVersion(tag: string): Promise<void> {
  if (e2e.cluster === undefined) throw new Error('images can be built for the test cluster of this repository only')
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-next-'))
  try {
    await bundle(join(directory, 'dist'), [NEXT_TEMPLATE])
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
