import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
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
export function buildPreviousVersion(tag: string): Promise<void> {
  return buildImageOf(tag, async directory => {
    await bundle(join(directory, 'dist'), [WITHOUT_NEWEST_TEMPLATE])
  })
}

/** Whether this clone has that commit; says loudly where it has not. */
export function hasCommit(commit: string): boolean {
  if (spawnSync('git', ['cat-file', '-e', `${commit}^{commit}`]).status === 0) return true
  console.warn(`NOT RUN: commit ${commit} is not in this clone; where it is a shallow one: git fetch --unshallow`)
  return false
}

/** Builds the program of an older commit, with the packages and in the image of the one under test, and loads it into the nodes. */
export function buildCommit(commit: string, tag: string): Promise<void> {
  return buildImageOf(tag, async directory => {
    const archive = join(directory, 'commit.tar')
    const source = join(directory, 'source')
    mkdirSync(source)
    await succeed('git', ['archive', '--output', archive, commit])
    await succeed('tar', ['-xf', archive, '-C', source])
    symlinkSync(resolve('node_modules'), join(source, 'node_modules'))
    await succeed(process.execPath, [join(source, 'scripts/build.ts')])
    renameSync(join(source, 'dist'), join(directory, 'dist'))
    rmSync(source, { recursive: true })
    rmSync(archive)
  })
}

/** @param makeProgram puts `dist` into the directory */
async function buildImageOf(tag: string, makeProgram: (directory: string) => Promise<void>): Promise<void> {
  if (e2e.cluster === undefined) throw new Error('images can be built for the test cluster of this repository only')
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-previous-'))
  try {
    await makeProgram(directory)
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
