import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { renderInstallFile } from '../../scripts/install-file.ts'
import { command } from './support/command.ts'
import { applyDatabase, podUid, read, ready, write } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { missingRights } from './support/forbidden.ts'
import { CHART, helm, imageValues, RELEASE } from './support/helm.ts'
import { apply, condition, get, kubectl, kubectlJson, list, type Manifest, patch, tryApply } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { Client, logs } from './support/pod.ts'

const KINDS = ['kvidxdatabases', 'kvidxbackups', 'kvidxrestores']
const namespace = testNamespace('chart')
const definitions = (): Promise<Manifest[]> => Promise.all(KINDS.map(kind => get('default', 'crd', `${kind}.kvidx.io`)))
const operatorPods = (): Promise<readonly Manifest[]> =>
  list(e2e.operatorNamespace, 'pods', 'app.kubernetes.io/component=operator')

describe('the chart', () => {
  test('establishes the definitions', async () => {
    for (const definition of await definitions()) {
      expect(condition(definition, 'Established')?.status, definition.metadata.name).toBe('True')
      expect(condition(definition, 'NonStructuralSchema'), definition.metadata.name).toBeUndefined()
      expect(definition.metadata.annotations).toMatchObject({ 'helm.sh/resource-policy': 'keep' })
    }
  })

  test('runs two replicas of the operator, of which one leads', async () => {
    await eventually('both are ready', async () => {
      const deployment = await get(e2e.operatorNamespace, 'deployment', RELEASE)
      expect(deployment.status.readyReplicas).toBe(2)
      expect(deployment.status.unavailableReplicas).toBeUndefined()
    })
    const lease = await get(e2e.operatorNamespace, 'lease', 'kvidx-operator')
    const names = (await operatorPods()).map(({ metadata }) => metadata.name)
    expect(names.some(name => String(lease.spec.holderIdentity).startsWith(name))).toBe(true)
  })

  test('lives in a namespace that enforces restricted Pod Security', async () => {
    const { metadata } = await get('default', 'namespace', e2e.operatorNamespace)
    expect(metadata.labels).toMatchObject({ 'pod-security.kubernetes.io/enforce': 'restricted' })
    expect(await operatorPods()).toHaveLength(2)
  })

  test('gives the operator rights enough: nothing it asks for is forbidden', async () => {
    for (const { metadata } of await operatorPods()) {
      const log = await logs(e2e.operatorNamespace, metadata.name)
      expect(missingRights(log)).toEqual([])
    }
  })

  test('passes its own test', async () => {
    await helm(['test', RELEASE, '--timeout', '60s'])
  })

  test('refuses values that it does not know', async () => {
    const { code, stderr } = await command('helm', ['template', 'x', CHART, '--set', 'replica=3'])
    expect(code).not.toBe(0)
    expect(stderr).toContain("additional properties 'replica' not allowed")
  })

  test('watches single namespaces with Roles instead of a ClusterRole', async () => {
    const watched = ['--namespace', namespace, '--set', `watchNamespaces={${namespace}}`, '--set', 'crds.install=false']
    const { stdout } = await command('helm', ['template', 'x', CHART, ...watched])
    await apply(stdout, { dryRun: true })
    // cluster-wide there is only what has no namespace
    const rules = stdout.split('\n---\n').filter(text => /^kind: ClusterRole$/m.test(text))
    expect(rules).toHaveLength(1)
    expect(rules[0]).not.toMatch(/secrets|kvidx\.io/)
  })

  test('keeps definitions and databases when it is uninstalled: they serve on, and are taken up again as they are', async () => {
    await applyDatabase(namespace, 'kept')
    await ready(namespace, 'kept')
    const client = await Client.start(namespace)
    await write(client, 'kept', 1, 'one')
    const before = await definitions()
    const uid = await podUid(namespace, 'kept')
    const set = await get(namespace, 'statefulset', 'kept')
    await helm(['uninstall', RELEASE, '--wait'])
    try {
      const after = await definitions()
      expect(after.map(({ metadata }) => metadata.uid)).toEqual(before.map(({ metadata }) => metadata.uid))
      expect((await get(namespace, 'kvdb', 'kept')).metadata.deletionTimestamp).toBeUndefined()
      expect(await read(client, 'kept', 1)).toBe('one')
      await write(client, 'kept', 2, 'two')
    } finally {
      await helm(['install', RELEASE, CHART, ...imageValues(), '--wait', '--timeout', '120s'])
    }
    await patch(namespace, 'kvdb', 'kept', { spec: { monitoring: { slowOperation: '110ms' } } })
    await ready(namespace, 'kept')
    expect(await podUid(namespace, 'kept')).toBe(uid)
    expect((await get(namespace, 'statefulset', 'kept')).metadata).toMatchObject({
      uid: set.metadata.uid,
      generation: set.metadata.generation,
    })
    expect(await read(client, 'kept', 2)).toBe('two')
  })

  test('updates the definitions when it is upgraded', async () => {
    const name = 'kvidxdatabases.kvidx.io'
    await kubectl(['patch', 'crd', name, '--type=json', '-p', '[{"op":"remove","path":"/spec/names/shortNames"}]'])
    await helm(['upgrade', RELEASE, CHART, ...imageValues(), '--wait', '--timeout', '120s'])
    expect((await get('default', 'crd', name)).spec.names.shortNames).toEqual(['kvdb'])
  })
})

describe('the install file', () => {
  test('is what the chart renders', async () => {
    expect(readFileSync('charts/install.yaml', 'utf8')).toBe(await renderInstallFile())
  })

  test('is accepted by the API server', async () => {
    const { stderr, code } = await tryApply(readFileSync('charts/install.yaml', 'utf8'), { dryRun: true })
    // the namespace of a dry run does not exist for the objects in it, unless it is the one that the chart uses here as well
    expect(stderr.replaceAll(/^Warning: .*\n/gm, '')).toBe('')
    expect(code).toBe(0)
  })
})

test('the API server is of a version that we support', async () => {
  const { minor } = await kubectlJson<{ serverVersion: { minor: string } }>(['version']).then(
    ({ serverVersion }) => serverVersion,
  )
  expect(Number.parseInt(minor, 10)).toBeGreaterThanOrEqual(32)
})
