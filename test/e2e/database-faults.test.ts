import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { succeed } from './support/command.ts'
import { applyDatabase, podUid, read, ready, reason, replaced, write } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { canBreak, fault } from './support/fault.ts'
import { missingRights } from './support/forbidden.ts'
import { RELEASE } from './support/helm.ts'
import { condition, get, kubectl, list, type Manifest, patch } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { Client, logs } from './support/pod.ts'

const namespace = testNamespace('faults')
const NAME = 'orders'
let client: Client

const operators = (): Promise<readonly Manifest[]> =>
  list(e2e.operatorNamespace, 'pods', 'app.kubernetes.io/component=operator')

/** Waits for one that is there: the lease of a pod that is gone lives for 15 s. */
async function leader(): Promise<Manifest> {
  return eventually(
    'an operator leads',
    async () => {
      const lease = await get(e2e.operatorNamespace, 'lease', 'kvidx-operator')
      const holder = String(lease.spec.holderIdentity)
      const pods = await operators()
      const found = pods.find(({ metadata }) => holder.startsWith(metadata.name))
      expect(found, `${holder} of ${pods.map(({ metadata }) => metadata.name)}`).toBeDefined()
      return found as Manifest
    },
    { timeout: 60_000 },
  )
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

  test('is restarted without a restart of any database', async () => {
    const before = await podUid(namespace, NAME)
    const set = await get(namespace, 'statefulset', NAME)
    await kubectl(['-n', e2e.operatorNamespace, 'rollout', 'restart', `deployment/${RELEASE}`])
    await kubectl(['-n', e2e.operatorNamespace, 'rollout', 'status', `deployment/${RELEASE}`, '--timeout=120s'], {
      timeout: 130_000,
    })
    await operatorWorks('110ms')
    expect(await podUid(namespace, NAME)).toBe(before)
    expect((await get(namespace, 'statefulset', NAME)).metadata.generation).toBe(set.metadata.generation)
  })

  test('is followed by its other replica when the leader is killed', async () => {
    const before = await leader()
    await kubectl(['-n', e2e.operatorNamespace, 'delete', 'pod', before.metadata.name, '--grace-period=0', '--force'])
    await operatorWorks('130ms')
    expect((await leader()).metadata.name).not.toBe(before.metadata.name)
  })

  test.skipIf(!canBreak)(
    'sees what happened while it heard nothing, when the API server has lost its watch cache',
    async () => {
      const before = await podUid(namespace, NAME)
      const names = (await operators()).map(({ metadata }) => metadata.name)
      const freeze = (how: string) =>
        Promise.all(names.map(name => fault(how, e2e.operatorNamespace, name, 'operator')))
      const service = await get(namespace, 'service', NAME)
      await freeze('pause')
      try {
        await fault('kill-apiserver')
        // no watch ever tells of these
        await kubectl(['-n', namespace, 'delete', 'service', NAME])
        await kubectl(['-n', namespace, 'delete', 'configmap', `${NAME}-config`])
        await applyDatabase(namespace, 'late')
      } finally {
        await freeze('resume')
      }
      await eventually('what was deleted is there again', async () => {
        expect((await get(namespace, 'service', NAME)).metadata.uid).not.toBe(service.metadata.uid)
        await get(namespace, 'configmap', `${NAME}-config`)
      })
      await ready(namespace, 'late')
      await ready(namespace, NAME)
      expect(await podUid(namespace, NAME)).toBe(before)
      await kubectl(['-n', namespace, 'delete', 'kvdb', 'late'])
    },
  )

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
  /** What the condition says is to be typed. */
  let advice = ''

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
    advice = /kubectl taint node [\w.-]+ [\w./=-]+:\w+/.exec(said.message ?? '')?.[0] ?? ''
    expect(advice).toContain(node)
    expect(condition(await get(namespace, 'kvdb', NAME), 'Ready')?.status).toBe('False')
  })

  test('lets the database go to the other node after exactly that command, with its data', async () => {
    const before = await podUid(namespace, NAME)
    // "when the node is surely off": a process that still ran there would keep its lock on the volume, and the new pod would wait (Locked)
    await fault('node-crash', '2')
    await succeed('sh', ['-c', advice])
    await replaced(namespace, NAME, before)
    await ready(namespace, NAME, 180_000)
    expect((await get(namespace, 'pod', `${NAME}-0`)).spec.nodeName).toBe('node-1')
    expect(await read(client, NAME, 1)).toBe('one')
  })
})
