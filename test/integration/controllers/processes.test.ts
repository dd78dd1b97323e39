import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import {
  CONFIG_MAPS,
  NAMESPACES,
  PERSISTENT_VOLUME_CLAIMS,
  ROLES,
  SECRETS,
  SERVICES,
  STATEFUL_SETS,
} from '../../../src/kube/resources.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import { type Any, conditionOf, database, find, IMAGE, installDefinitions, objectsOf, userApply } from './harness.ts'
import { OperatorProcess } from './operator-process.ts'

const { kubeconfig = '', missing } = inject('controlPlane')
/** `npm run test:operator-kills` asks for 50. */
const KILLS = Number(process.env.KVIDX_TEST_KILLS ?? 8)
const DATABASES_AT_ONCE = 20

describe.skipIf(missing)('operator processes on a real API server', () => {
  let api: KubeClient
  let namespace: string
  const running = new Set<OperatorProcess>()

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'processes')
  })

  afterEach(async () => {
    await Promise.all([...running].map(operator => operator.kill()))
    running.clear()
  })

  afterAll(async () => {
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
  })

  const start = async (elect = false): Promise<OperatorProcess> => {
    const operator = await OperatorProcess.start({
      kubeconfig,
      namespaces: [namespace],
      image: IMAGE,
      ...(elect && { leaseNamespace: namespace }),
      ...(process.env.KVIDX_TEST_LOG && { log: process.env.KVIDX_TEST_LOG }),
    })
    running.add(operator)
    return operator
  }

  const observed = (name: string, generation: number) =>
    eventually(
      () => find(api, DATABASES, namespace, name),
      object => object?.status?.observedGeneration === generation && conditionOf(object, 'Ready') !== undefined,
      40_000,
    )

  it('a restart changes no object, also with another default image', async () => {
    const first = await start()
    await userApply(api, database(namespace, 'calm'))
    await observed('calm', 1)
    await eventually(
      () => objectsOf(api, namespace, 'calm'),
      objects => objects.includes('Pod/calm-0'),
      20_000,
    )
    // its controller has nothing more to write, either
    await eventually(
      () => find(api, STATEFUL_SETS, namespace, 'calm'),
      set => set?.status?.replicas === 1 && set.status.updateRevision === set.status.currentRevision,
      20_000,
    )
    expect(await first.stop()).toBe(0)
    const versions = async () => {
      const kinds = [STATEFUL_SETS, SERVICES, CONFIG_MAPS, ROLES, SECRETS]
      const lists = await Promise.all(kinds.map(kind => api.list(kind, { namespace })))
      return lists.flatMap(list =>
        list.items.map(({ kind, metadata }) => [kind, metadata.name, metadata.resourceVersion]),
      )
    }
    const before = await versions()
    const second = await OperatorProcess.start({
      kubeconfig,
      namespaces: [namespace],
      image: 'kvidx.example/kvidx:2.0.0',
    })
    running.add(second)
    const seen = await eventually(
      () => find(api, DATABASES, namespace, 'calm'),
      object => object?.status?.updateAvailable !== undefined,
      20_000,
    )
    expect(seen?.status).toMatchObject({ image: IMAGE, updateAvailable: 'kvidx.example/kvidx:2.0.0' })
    expect(await versions()).toEqual(before)
  }, 90_000)

  it('of two, one works; the other takes over when it is killed', async () => {
    const both = await Promise.all([start(true), start(true)])
    await eventually(
      () => Promise.all(both.map(operator => operator.leading())),
      leading => leading.filter(Boolean).length === 1,
      20_000,
    )
    const [one, two] = (await both[0].leading()) ? both : [both[1], both[0]]
    await userApply(api, database(namespace, 'led'))
    await observed('led', 1)
    await one.kill()
    await userApply(api, database(namespace, 'led', { tuning: { cacheSize: '96Mi' } }))
    await observed('led', 2)
    expect(await two.leading()).toBe(true)
    // released on SIGTERM: the next one need not wait for the lease to run out
    await two.stop()
    const began = Date.now()
    await start(true)
    await userApply(api, database(namespace, 'led'))
    await observed('led', 3)
    expect(Date.now() - began).toBeLessThan(12_000)
  }, 120_000)

  it(`killed ${KILLS} times while databases are made, changed and deleted: all converges, nothing is orphaned`, async () => {
    const random = seeded(7)
    const present = new Map<string, { cacheSize: string; policy: 'Retain' | 'Delete' }>()
    const deleted = new Map<string, 'Retain' | 'Delete'>()
    let next = 0
    let busy = true
    const act = async () => {
      while (busy) {
        const dice = random()
        if (present.size < DATABASES_AT_ONCE && dice < 0.5) {
          const name = `kill-${next++}`
          const one = { cacheSize: '64Mi', policy: random() < 0.5 ? ('Retain' as const) : ('Delete' as const) }
          await userApply(api, asked(name, one))
          present.set(name, one)
        } else if (present.size > 0) {
          const [name, one] = [...present][Math.floor(random() * present.size)] as [string, typeof VALUE]
          if (dice < 0.8) {
            const changed = { ...one, cacheSize: `${32 + Math.floor(random() * 64)}Mi` }
            await userApply(api, asked(name, changed))
            present.set(name, changed)
          } else {
            await api.delete(DATABASES, { namespace, name })
            present.delete(name)
            deleted.set(name, one.policy)
          }
        }
        await new Promise(resolve => setTimeout(resolve, 100))
      }
    }
    const acting = act()
    for (let kill = 0; kill < KILLS; kill++) {
      const operator = await start()
      await new Promise(resolve => setTimeout(resolve, random() * 2500))
      await operator.kill()
      running.delete(operator)
    }
    busy = false
    await acting
    await start()
    for (const [name, { cacheSize }] of present) {
      const limit = `${1024 + 2 * Number.parseInt(cacheSize, 10)}Mi`
      await eventually(
        async () => ({
          set: await find(api, STATEFUL_SETS, namespace, name),
          objects: await objectsOf(api, namespace, name),
        }),
        ({ set, objects }) =>
          set?.spec.template.spec.containers[0].resources.limits.memory === limit && objects.length === 13,
        60_000,
      )
      const { metadata } = (await find(api, DATABASES, namespace, name)) as Any
      await observed(name, metadata.generation ?? 0)
    }
    for (const [name, policy] of deleted) {
      await eventually(
        () => find(api, DATABASES, namespace, name),
        object => object === undefined,
        60_000,
      )
      const kept = policy === 'Retain' ? [`PersistentVolumeClaim/data-${name}-0`] : []
      await eventually(
        () => objectsOf(api, namespace, name),
        // a database that was deleted before it had a pod never had a volume
        objects => objects.length === 0 || (kept.length > 0 && objects.join() === kept.join()),
        60_000,
      )
    }
    const claims = await api.list<KubeObject>(PERSISTENT_VOLUME_CLAIMS, { namespace })
    const owners = new Set([
      ...present.keys(),
      ...[...deleted].filter(([, policy]) => policy === 'Retain').map(([name]) => name),
    ])
    for (const { metadata } of claims.items)
      if (metadata.name.startsWith('data-kill-')) expect(owners).toContain(metadata.labels?.['kvidx.io/database'])
    expect(present.size + deleted.size).toBeGreaterThan(5)
  }, 900_000)

  const VALUE = { cacheSize: '', policy: 'Retain' as 'Retain' | 'Delete' }
  const asked = (name: string, { cacheSize, policy }: typeof VALUE) =>
    database(namespace, name, { tuning: { cacheSize }, storage: { size: '1Gi', deletionPolicy: policy } })
})

/** The same numbers each time: a failure can be run again. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return state / 2 ** 32
  }
}
