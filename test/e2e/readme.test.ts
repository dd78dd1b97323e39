import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { command, succeed } from './support/command.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { canBreak } from './support/fault.ts'
import { CHART, helm, imageValues, RELEASE } from './support/helm.ts'
import { find, kubectl, parseManifests } from './support/kubectl.ts'

/** The commands of README's part about Kubernetes, as somebody would copy them; REGISTRY and TAG replaced. */
function commandsOf(readme: string): { readonly install: readonly string[]; readonly first: string } {
  const part = readme.split(/^## On Kubernetes.*$/m)[1]?.split(/^## /m)[0] ?? ''
  const [install = '', first = ''] = [...part.matchAll(/^```\n([\s\S]*?)^```/gm)].map(([, block]) => block)
  const [, repository, tag] = /^(.*)\/kvidx\/operator:(.*)$/.exec(e2e.image) ?? []
  const filledIn = install.replaceAll('REGISTRY', repository ?? '').replaceAll('TAG', tag ?? '')
  return { install: filledIn.trim().split('\n'), first }
}

const { install, first } = commandsOf(readFileSync('README.md', 'utf8'))
const only = (start: RegExp): string => {
  const found = install.filter(line => start.test(line))
  expect(found, `README: one line like ${start}`).toHaveLength(1)
  return found[0] as string
}

/** Deletes every database of the cluster, so it is for a cluster of our own. */
describe.skipIf(!canBreak)('README, for somebody who has an empty cluster', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kvidx-e2e-readme-'))
  const kinds = ['kvidxdatabases', 'kvidxbackups', 'kvidxrestores'].map(kind => `${kind}.kvidx.io`)

  beforeAll(async () => {
    // the test cluster has no Docker: the same Dockerfile is built by its own builder, and there is no registry to push to
    const docker = `#!/bin/sh
case "$1" in
  build) [ "$2" = -t ] && [ "$4" = . ] && exec ${JSON.stringify(process.execPath)} scripts/image.ts "$3" ;;
  push) ${resolve(e2e.cluster ?? '')} image list | grep -q "$(echo "$2" | tr /: __)"; exit ;;
esac
exit 1
`
    writeFileSync(join(directory, 'docker'), docker)
    chmodSync(join(directory, 'docker'), 0o755)
    await helm(['uninstall', RELEASE, '--wait'])
  })

  afterAll(async () => {
    await remove()
    await helm(['install', RELEASE, CHART, ...imageValues(), '--wait', '--timeout', '120s'])
    rmSync(directory, { recursive: true, force: true })
  })

  const shell = (script: string): Promise<string> =>
    // what a block leaves in the background ends with its shell
    succeed(
      'bash',
      [
        '--norc',
        '-euo',
        'pipefail',
        '-c',
        `PATH=${directory}:$PATH; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n${script}`,
      ],
      {
        timeout: 170_000,
      },
    )
  const remove = async (): Promise<void> => {
    const left = { timeout: 100_000 }
    await command('kubectl', ['delete', 'kvdb', 'orders', '--ignore-not-found', '--timeout=90s'], left)
    await kubectl(['delete', 'pvc', '-l', 'kvidx.io/database=orders', '--timeout=90s'], left)
    await helm(['uninstall', RELEASE, '--wait', '--ignore-not-found'])
    const file = parseManifests(readFileSync('charts/install.yaml', 'utf8'))
    const rest = file.filter(({ kind }) => kind !== 'CustomResourceDefinition' && kind !== 'Namespace')
    await kubectl(['delete', '--ignore-not-found', '-f', '-'], {
      input: rest.map(each => JSON.stringify(each)).join('\n---\n'),
    })
    await kubectl(['delete', 'crd', ...kinds, '--ignore-not-found', '--timeout=90s'], left)
  }

  test('an image is built and pushed', async () => {
    await shell(only(/^docker /))
  })

  test('Helm installs, and a first database is written and read', async () => {
    await remove()
    await shell(only(/^helm install /))
    const said = await shell(first)
    expect(said).toContain('condition met')
    expect(said).toMatch(/^orders +SQLite +True/m)
    expect(said.trimEnd()).toMatch(/hello$/)
  })

  test('what else it says can be typed', async () => {
    expect(await shell('kubectl explain kvdb.spec --recursive')).toContain('cacheSize')
    expect(await shell('kubectl describe kvdb orders')).toContain('Conditions:')
    const plan = `sed 's/^spec:.*/&\\n  tuning: { cacheSize: 64Mi }/' examples/minimal.yaml > ${directory}/changed.yaml
bin/kvidx plan -f ${directory}/changed.yaml --server-side`
    expect(await shell(plan)).toMatch(/pods: restart/)
    await shell(only(/^helm uninstall /))
    expect(await find('default', 'kvdb', 'orders')).not.toBeNull()
  })

  test('the install file installs as well', async () => {
    await remove()
    await shell(only(/charts\/install\.yaml/))
    await eventually('the operator runs', () =>
      kubectl(['-n', e2e.operatorNamespace, 'rollout', 'status', `deployment/${RELEASE}`, '--timeout=10s']),
    )
    expect((await shell(first)).trimEnd()).toMatch(/hello$/)
  })
})
