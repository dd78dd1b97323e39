import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { applyDatabase, podUid, read, ready, reason, replaced, write } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { canBreak, fault } from './support/fault.ts'
import { missingRights } from './support/forbidden.ts'
import { CHART, helm, imageValues, RELEASE } from './support/helm.ts'
import { condition, get, kubectl, list, type Manifest, patch } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { Client, logs } from './support/pod.ts'

const namespace = testNamespace('faults')
const NAME = 'orders'
let client: Client

const operators = (): Promise<readonly Manifest[]> =>
  list(e2e.operatorNamespace, 'pods', 'app.kubernetes.io/component=operator')

async function leader(): Promise<Manifest> {
  const lease = await get(e2e.operatorNamespace, 'lease', 'kvidx-operator')
  const holder = String(lease.spec.holderIdentity)
  const pods = await operators()
  const found = pods.find(({ metadata }) => holder.startsWith(metadata.name))
  expect(found, `${holder} of ${pods.map(({ metadata }) => metadata.name)}`).toBeDefined()
  return found as Manifest
}

/** An edit that only a working operator carries out, into the configuration that the pod reads. */
async function operatorWorks(slow: string, timeout = 60_000): Promise<void> {
  await patch(namespace, 'kvdb', NAME, { spec: { monitoring: { slowOperation: slow } } })
  await eventually(
    'the operator carries out an edit',
    async () => {
      const { metadata, status } = await get(namespace, 'kvdb', NAME)
      expect(status.observedGeneration).toBe(metadata.generation)
    },
    { timeout },
  )
}

describe('the operator', () => {
  beforeAll(async () => {
    client = await Client.start(namespace, 'client', { node: 'node-1' })
    // on node-2 as long as that can be had
    const preference = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['node-2'] }] }
    const affinity = {
      nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, preference }] },
    }
    await applyDatabase(namespace, NAME, { podTemplate: { spec: { affinity } } })
    await ready(namespace, NAME)
    await write(client, NAME, 1, 'one')
  })

  test('is restarted and upgraded without a restart of any database', async () => {
    const before = await podUid(namespace, NAME)
    const set = await get(namespace, 'statefulset', NAME)
    await kubectl(['-n', e2e.operatorNamespace, 'rollout', 'restart', `deployment/${RELEASE}`])
    await kubectl(['-n', e2e.operatorNamespace, 'rollout', 'status', `deployment/${RELEASE}`, '--timeout=120s'], {
      timeout: 130_000,
    })
    await operatorWorks('110ms')
    const newer = ['--set-string', 'databaseImage=localhost/kvidx/operator:newer']
    await helm(['upgrade', RELEASE, CHART, ...imageValues(), ...newer, '--wait', '--timeout', '120s'])
    await eventually('the newer image is offered', async () => {
      const { status } = await get(namespace, 'kvdb', NAME)
      expect(status.updateAvailable).toBe('localhost/kvidx/operator:newer')
      expect(status.image).toBe(e2e.image)
    })
    await helm(['upgrade', RELEASE, CHART, ...imageValues(), '--wait', '--timeout', '120s'])
    await operatorWorks('120ms')
    expect(await podUid(namespace, NAME)).toBe(before)
    expect((await get(namespace, 'statefulset', NAME)).metadata.generation).toBe(set.metadata.generation)
  })

  test('is followed by its other replica when the leader is killed', async () => {
    const before = await leader()
    await kubectl(['-n', e2e.operatorNamespace, 'delete', 'pod', before.metadata.name, '--grace-period=0', '--force'])
    await operatorWorks('130ms')
    expect((await leader()).metadata.name).not.toBe(before.metadata.name)
  })

  test.skipIf(!canBreak)('goes on after the API server was away', async () => {
    const before = await podUid(namespace, NAME)
    await fault('kill-apiserver', '10')
    await eventually('the API server is back', () => kubectl(['get', '--raw', '/readyz']), { timeout: 90_000 })
    await operatorWorks('140ms')
    await ready(namespace, NAME)
    expect(await podUid(namespace, NAME)).toBe(before)
  })

  test('needs no right that it does not have', async () => {
    for (const { metadata } of await operators()) {
      const log = await logs(e2e.operatorNamespace, metadata.name)
      expect(missingRights(log)).toEqual([])
    }
  })
})

describe.skipIf(!canBreak)('a node that is cut off', () => {
  let node = ''
  let began = 0

  afterAll(async () => {
    if (node === '') return
    await fault('node-boot', '2').catch(() => '')
    await fault('node-heal', '2')
    await kubectl(['taint', 'node', node, 'node.kubernetes.io/out-of-service-']).catch(() => '')
    await kubectl(['wait', '--for=condition=Ready', `node/${node}`, '--timeout=90s'], { timeout: 100_000 })
  })

  test('gives NodeLost within 90 s, with the command, and the pod is not moved', async () => {
    const pod = await get(namespace, 'pod', `${NAME}-0`)
    node = pod.spec.nodeName
    expect(node, 'the client must not be on it').toBe('node-2')
    began = performance.now()
    await fault('node-cut', '2')
    const said = await reason(namespace, NAME, 'Stalled', 'NodeLost')
    expect(performance.now() - began).toBeLessThan(90_000)
    expect(said.message).toContain(node)
    const events = await kubectl(['-n', namespace, 'get', 'events.events.k8s.io', '-o', 'jsonpath={.items[*].note}'])
    expect(events).toContain(`kubectl taint node ${node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`)
    expect(condition(await get(namespace, 'kvdb', NAME), 'Ready')?.status).toBe('False')
  })

  test('lets the database go to the other node after that command, with its data', async () => {
    const before = await podUid(namespace, NAME)
    // "when the node is surely off": a process that still ran there would keep its lock on the volume, and the new pod would wait (Locked)
    await fault('node-crash', '2')
    await kubectl(['taint', 'node', node, 'node.kubernetes.io/out-of-service=nodeshutdown:NoExecute'])
    await replaced(namespace, NAME, before)
    await ready(namespace, NAME, 180_000)
    expect((await get(namespace, 'pod', `${NAME}-0`)).spec.nodeName).toBe('node-1')
    expect(await read(client, NAME, 1)).toBe('one')
  })
})
