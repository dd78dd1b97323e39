import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import type { KubeApi } from '../../../src/kube/api.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import { LeaderElector } from '../../../src/kube/leader.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import { EventRecorder } from '../../../src/kube/recorder.ts'
import { CONFIG_MAPS, EVENTS, LEASES } from '../../../src/kube/resources.ts'
import { access, accessBy, configMap, eventually, freshNamespace } from './access.ts'
import { FaultProxy } from './fault-proxy.ts'

const { kubeconfig, missing } = inject('controlPlane')

interface Lease extends KubeObject {
  readonly spec: { readonly holderIdentity: string; readonly leaseTransitions: number }
}

interface Event extends KubeObject {
  readonly note: string
  readonly series?: { readonly count: number }
}

describe.skipIf(missing)('on a real API server', () => {
  let api: KubeClient
  let namespace: string

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig ?? ''))
    namespace = await freshNamespace(api, 'leader')
  })

  afterAll(() => api.close())

  function candidate(identity: string, through: KubeApi = api) {
    const lost: string[] = []
    const elector = new LeaderElector({
      api: through,
      namespace,
      name: 'operator',
      identity,
      leaseDuration: 4_000,
      renewDeadline: 3_000,
      retryPeriod: 300,
      onLost: reason => lost.push(reason.message),
    })
    return { elector, lost }
  }

  it('the lease passes on when it is given back, and when its holder is cut off, and nobody leads beside another', async () => {
    const proxy = await FaultProxy.start(kubeconfig ?? '')
    const cutOff = accessBy(proxy.kubeconfig)
    const first = candidate('first')
    const second = candidate('second', cutOff.api)
    const third = candidate('third')
    const all = [first, second, third]
    let together = 0
    const guard = setInterval(() => {
      together = Math.max(together, all.filter(one => one.elector.isLeader).length)
    }, 5)
    first.elector.start()
    await first.elector.acquired
    second.elector.start()
    await first.elector.stop()
    await second.elector.acquired
    third.elector.start()
    expect(await api.get<Lease>(LEASES, { namespace, name: 'operator' })).toMatchObject({
      spec: { holderIdentity: 'second', leaseTransitions: 1, leaseDurationSeconds: 4 },
    })
    proxy.fault = () => ({ kind: 'blackHole' })
    await third.elector.acquired
    expect(second.lost).toEqual(['the lease operator could not be renewed for 3000 ms'])
    expect(third.lost).toEqual([])
    expect(together).toBe(1)
    clearInterval(guard)
    await Promise.all(all.map(one => one.elector.stop()))
    await cutOff.api.close()
    await proxy.close()
    expect((await api.get<Lease>(LEASES, { namespace, name: 'operator' })).spec.holderIdentity).toBe('')
  })

  it('events are accepted as they are written: single, as a series, long, and about objects without a namespace', async () => {
    const about = await api.create(CONFIG_MAPS, configMap(namespace, 'spoken.of', {}))
    const recorder = new EventRecorder({ api, controller: 'kvidx.io/operator', instance: 'operator-0' })
    const warning = { type: 'Warning', reason: 'NodeLost', action: 'Reconcile', note: `${'ü'.repeat(2000)}` } as const
    recorder.record(about, warning)
    recorder.record(about, { ...warning, type: 'Normal', note: 'short' })
    const events = async (): Promise<readonly Event[]> => (await api.list<Event>(EVENTS, { namespace })).items
    await eventually(
      async () => (await events()).length,
      length => length === 2,
    )
    // the count of a series is a patch of what is there already
    for (let i = 0; i < 4; i++) recorder.record(about, warning)
    await recorder.stop()
    const written = await events()
    expect(written.map(event => event.series?.count).sort()).toEqual([5, undefined])
    expect(written[0]).toMatchObject({ regarding: { kind: 'ConfigMap', name: 'spoken.of', uid: about.metadata.uid } })

    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: `node-${namespace}`, uid: namespace } }
    const other = new EventRecorder({ api, controller: 'kvidx.io/operator', instance: 'operator-0' })
    other.record(node, { ...warning, note: 'away' })
    await other.stop()
    const { items } = await api.list<Event>(EVENTS, { namespace: 'default' })
    expect(items.filter(event => event.metadata.name.startsWith(`node-${namespace}`)).length).toBe(1)
  })
})
