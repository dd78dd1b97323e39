// `npm run image [-- TAG]`: builds the image from the Dockerfile with the test cluster's builder and base images, and loads it into the
// cluster when one runs. Prints the tag in its last line.
import { readFileSync } from 'node:fs'
import { must, run } from './run.ts'

const CLUSTER = 'test/cluster/cluster'
export const DEFAULT_TAG = 'localhost/kvidx/operator:dev'

/** Builds and loads; rejects when the build fails. */
export async function buildImage(tag: string): Promise<void> {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  const revision = (await run('git', ['rev-parse', '--short', 'HEAD'], { capture: true })).stdout.trim() || 'unknown'
  const registry = (await run('npm', ['config', 'get', 'registry'], { capture: true })).stdout.trim()
  const values = {
    BUILD_IMAGE: 'localhost/kvidx/node-npm:24',
    BASE_IMAGE: 'localhost/kvidx/node:24',
    VERSION: version,
    REVISION: revision,
    ...(registry ? { NPM_CONFIG_REGISTRY: registry } : {}),
  }
  await must(CLUSTER, ['images'])
  const options = Object.entries(values).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`])
  await must(CLUSTER, ['image', 'build', '.', tag, '-f', 'Dockerfile', ...options])
}

if (import.meta.main) {
  const tag = process.argv[2] ?? DEFAULT_TAG
  await buildImage(tag)
  console.log(tag)
}
