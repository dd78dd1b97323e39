import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { systemClock } from '../../../src/common/clock.ts'
import { BACKUPS } from '../../../src/controllers/backup/record.ts'
import { databaseCache, informersOf } from '../../../src/controllers/database/controller.ts'
import { Prober } from '../../../src/controllers/database/prober.ts'
import { DatabaseReconciler } from '../../../src/controllers/database/reconciler.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import { RESTORES } from '../../../src/controllers/restore/record.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import { silentLog } from '../../../src/kube/log.ts'
import { KubeMetrics } from '../../../src/kube/metrics.ts'
import type { KubeObject, Resource } from '../../../src/kube/object.ts'
import { EventRecorder } from '../../../src/kube/recorder.ts'
import {
  CRON_JOBS,
  NAMESPACES,
  NETWORK_POLICIES,
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  PODS,
  STATEFUL_SETS,
} from '../../../src/kube/resources.ts'
import type { RunningOperator } from '../../../src/operator/operator.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import {
  type Any,
  conditionOf,
  database,
  find,
  IMAGE,
  installDefinitions,
  reason,
  startHere,
  userApply,
} from './harness.ts'

const { kubeconfig = '', missing } = inject('controlPlane')
const QUOTAS: Resource = { group: '', version: 'v1', plural: 'resourcequotas', kind: 'ResourceQuota', namespaced: true }
const LABELS = { 'app.kubernetes.io/managed-by': 'kvidx-operator', 'kvidx.io/database': '' }

describe.skipIf(missing)('what a database meets that nobody meant', () => {
  let api: KubeClient
  let namespace: string
  let operator: RunningOperator

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'surprises')
    operator = await startHere(kubeconfig, namespace)
  })

  afterAll(async () => {
    await operator?.stop()
    await api?.delete(PERSISTENT_VOLUMES, { name: `${namespace}-by-hand` }).catch(() => {})
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
  })

  const apply = (name: string, spec: object = {}) => userApply(api, database(namespace, name, spec))
  const there = async (name: string) => (await find(api, DATABASES, namespace, name)) as Any
  const said = async (name: string, type: string) => conditionOf(await there(name), type)
  /** What the kubelet says of the pod. */
  const podIs = async (name: string, ready: boolean, more: object = {}) => {
    await eventually(
      () => find(api, PODS, namespace, `${name}-0`),
      pod => pod !== undefined,
    )
    const conditions = [{ type: 'Ready', status: ready ? 'True' : 'False' }]
    const status = { phase: 'Running', conditions, ...more }
    await api.patch(PODS, { namespace, name: `${name}-0` }, { status }, { subresource: 'status' })
  }
  /** Requests that change objects, of one kind. */
  const writes = async (plural: string) =>
    (await operator.metrics.registry.metrics())
      .split('\n')
      .filter(line => line.startsWith('kvidx_operator_api_requests_total{') && line.includes(`resource="${plural}"`))
      .filter(line => /verb="(apply|create|patch)"/.test(line))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  const claim = (name: string, spec: object = {}) =>
    api.create(PERSISTENT_VOLUME_CLAIMS, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { namespace, name },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } }, ...spec },
    } as KubeObject)

  it('rests with fields of the pod that the API server does not store', async () => {
    const volumeMounts = [{ name: 'v', mountPath: '/v', readOnly: false }]
    const containers = [{ name: 'app', image: 'app:1', tty: false, env: [{ name: 'EMPTY', value: '' }], volumeMounts }]
    await apply('zeros', { podTemplate: { spec: { containers, volumes: [{ name: 'v', emptyDir: {} }] } } })
    await podIs('zeros', true)
    await reason(api, namespace, 'zeros', 'Ready', 'Ready')
    await eventually(
      () => said('zeros', 'Reconciling'),
      condition => condition === undefined,
    )
    const before = await writes('statefulsets')
    await api.patch(DATABASES, { namespace, name: 'zeros' }, { metadata: { annotations: { look: 'again' } } })
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect((await writes('statefulsets')) - before).toBe(0)
    expect(await said('zeros', 'Reconciling')).toBeUndefined()
    // what is false by our own will is still put back
    const automatic = { spec: { template: { spec: { automountServiceAccountToken: null } } } }
    await api.patch(STATEFUL_SETS, { namespace, name: 'zeros' }, automatic)
    await eventually(
      () => find(api, STATEFUL_SETS, namespace, 'zeros'),
      set => set?.spec.template.spec.automountServiceAccountToken === false,
    )
  })

  it('names a misspelt field of the pod or of the network policy, and neither drops it nor tries again and again', async ({
    task,
  }) => {
    // another try begins with databases of its own
    const [typo, peers] = ['typo', 'peers'].map(name => `${name}-${task.result?.retryCount ?? 0}`) as [string, string]
    const misspelt = { podTemplate: { spec: { containers: [{ name: 'app', image: 'app:1', livenessprobe: {} }] } } }
    await apply(typo, misspelt)
    await reason(api, namespace, typo, 'Stalled', 'PodTemplateRefused')
    expect((await said(typo, 'Stalled'))?.message).toMatch(
      /unknown field "spec.template.spec.containers\[1\].livenessp/,
    )
    expect(await find(api, STATEFUL_SETS, namespace, typo)).toBeUndefined()
    await apply(typo)
    await podIs(typo, true)
    await reason(api, namespace, typo, 'Ready', 'Ready')
    await apply(typo, misspelt)
    await reason(api, namespace, typo, 'Stalled', 'PodTemplateRefused')
    expect((await said(typo, 'Stalled'))?.message).toMatch(
      /: \.spec\.template\.spec\.containers\[name="app"\]\.livenessprobe: field not declared/,
    )
    const before = await writes('statefulsets')
    await new Promise(resolve => setTimeout(resolve, 1500))
    // changes of the StatefulSet's status may cause another try or two, an error would cause eight
    expect((await writes('statefulsets')) - before).toBeLessThan(6)
    // dropped, it would let in the whole namespace
    const from = [{ namespaceSelector: { matchLabls: { team: 'a' } } }]
    await apply(peers, { security: { networkPolicy: { enabled: true, from } } })
    await reason(api, namespace, peers, 'Stalled', 'InvalidSpec')
    expect((await said(peers, 'Stalled'))?.message).toMatch(/^spec\.security\.networkPolicy\.from: .*matchLabls/)
    expect(await find(api, NETWORK_POLICIES, namespace, peers)).toBeUndefined()
  })

  it('runs what is due on day 7, and says which time zone Kubernetes does not know', async () => {
    const destination = { volume: { size: '1Gi' } }
    const schedules = [
      { name: 'sunday', schedule: '0 2 * * 7' },
      { name: 'weekend', schedule: '30 2 * * FRI-7' },
    ]
    await apply('days', { backup: { destination, schedules } })
    const of = async (schedule: string) =>
      (await eventually(
        () => find(api, CRON_JOBS, namespace, `days-backup-${schedule}`),
        job => job !== undefined,
      )) as Any
    expect((await of('sunday')).spec.schedule).toBe('0 2 * * 0')
    expect((await of('weekend')).spec.schedule).toBe('30 2 * * 0,5,6')
    await apply('days', { backup: { destination, schedules, timeZone: 'europe/berlin' } })
    await reason(api, namespace, 'days', 'Stalled', 'InvalidSpec')
    expect((await said('days', 'Stalled'))?.message).toMatch(/^spec\.backup\.timeZone: .*europe\/berlin/)
  })

  it('makes backups with the memory that is asked for, more than the default limit or less than the default request', async () => {
    const destination = { volume: { size: '1Gi' } }
    const schedules = [{ name: 'daily', schedule: '0 2 * * *' }]
    const resourcesWith = async (resources: object, holds: (found: Any['spec']) => boolean) => {
      await apply('sized', { backup: { destination, schedules, job: { resources } } })
      return eventually(
        async () => {
          const job = await find(api, CRON_JOBS, namespace, 'sized-backup-daily')
          return job?.spec.jobTemplate.spec.template.spec.containers[0].resources
        },
        found => found !== undefined && holds(found),
      )
    }
    const more = await resourcesWith({ requests: { memory: '2Gi' } }, found => found.requests.memory === '2Gi')
    expect(more.limits.memory).toBe('2Gi')
    const less = await resourcesWith({ limits: { memory: '128Mi' } }, found => found.limits.memory === '128Mi')
    expect(less.requests.memory).toBe('128Mi')
  })

  it('says in the record why no Job can be made of it, and goes on when one can', async () => {
    const backup = { destination: { volume: { size: '1Gi' } } }
    await apply('quota', { backup })
    await podIs('quota', true)
    await reason(api, namespace, 'quota', 'Ready', 'Ready')
    const quota = { namespace, name: 'no-jobs' }
    await api.create(QUOTAS, {
      apiVersion: 'v1',
      kind: 'ResourceQuota',
      metadata: quota,
      spec: { hard: { 'count/jobs.batch': '0' } },
    } as KubeObject)
    await eventually(
      () => find(api, QUOTAS, namespace, 'no-jobs'),
      found => found?.status?.hard !== undefined,
    )
    const kind = { apiVersion: 'kvidx.io/v1alpha1', metadata: { namespace, name: 'now' } }
    await api.create(BACKUPS, { ...kind, kind: 'KvidxBackup', spec: { database: 'quota' } } as KubeObject)
    const from = { latest: 'Backup' }
    await api.create(RESTORES, {
      ...kind,
      kind: 'KvidxRestore',
      spec: { database: 'quota', from, atEpoch: 1 },
    } as KubeObject)
    for (const resource of [BACKUPS, RESTORES]) {
      const seen = await eventually(
        () => find(api, resource, namespace, 'now'),
        record => conditionOf(record, 'Ready') !== undefined,
      )
      expect(conditionOf(seen, 'Ready')).toMatchObject({
        reason: 'Pending',
        message: expect.stringMatching(/exceeded quota/),
      })
      expect(seen?.status.job).toBeUndefined()
    }
    await api.delete(QUOTAS, quota)
    await eventually(
      () => find(api, BACKUPS, namespace, 'now'),
      record => record?.status?.job !== undefined,
      30_000,
    )
  }, 60_000)

  it('goes back to the image that worked when one that does not is taken out of the spec', async () => {
    const runs = async (image: string) => {
      const set = await eventually(
        () => find(api, STATEFUL_SETS, namespace, 'image'),
        seen => seen?.spec.template.spec.containers[0].image === image,
      )
      await eventually(
        () => find(api, PODS, namespace, 'image-0'),
        pod => pod?.spec.containers[0].image === image,
      )
      return set
    }
    await apply('image')
    await podIs('image', true)
    await reason(api, namespace, 'image', 'Ready', 'Ready')
    await apply('image', { image: 'kvidx.example/kvidx:typo' })
    await runs('kvidx.example/kvidx:typo')
    await apply('image')
    await runs(IMAGE)
    // one that works stays
    await apply('image', { image: 'kvidx.example/kvidx:2.0.0' })
    await runs('kvidx.example/kvidx:2.0.0')
    await podIs('image', true)
    await eventually(
      () => there('image'),
      now => now.status.image === 'kvidx.example/kvidx:2.0.0',
    )
    await apply('image')
    await eventually(
      () => there('image'),
      now => now.status.observedGeneration === now.metadata.generation,
    )
    await runs('kvidx.example/kvidx:2.0.0')
  }, 60_000)

  it('does not go on speaking of verified backups when there are none any more', async () => {
    const backup = { destination: { volume: { size: '1Gi' } }, schedules: [{ name: 'daily', schedule: '0 2 * * *' }] }
    await apply('proof', { backup })
    await podIs('proof', true)
    await reason(api, namespace, 'proof', 'BackupVerified', 'NotVerified')
    await apply('proof')
    await reason(api, namespace, 'proof', 'BackupVerified', 'NoBackups')
  })

  it('does not go on saying Ready of a pod that died while the spec has a mistake', async () => {
    await apply('stale')
    await podIs('stale', true)
    await reason(api, namespace, 'stale', 'Ready', 'Ready')
    const mistake = { backup: { destination: { volume: { size: '1Gi' } }, timeZone: 'Europe/Nowhere' } }
    await apply('stale', mistake)
    await reason(api, namespace, 'stale', 'Stalled', 'InvalidSpec')
    expect((await said('stale', 'Ready'))?.status).toBe('True')
    await podIs('stale', false)
    await reason(api, namespace, 'stale', 'Ready', 'InvalidSpec')
    expect((await said('stale', 'Ready'))?.status).toBe('False')
    await podIs('stale', true)
    await reason(api, namespace, 'stale', 'Ready', 'Ready')
    expect((await said('stale', 'Stalled'))?.reason).toBe('InvalidSpec')
  })

  it('does not say that it goes to sleep while it is suspended', async () => {
    await apply('both')
    await podIs('both', true)
    await reason(api, namespace, 'both', 'Ready', 'Ready')
    await apply('both', { suspend: true, hibernate: true })
    const seen = await reason(api, namespace, 'both', 'Ready', 'Suspended')
    expect(conditionOf(seen, 'Ready')?.status).toBe('True')
    await apply('both', { hibernate: true })
    await reason(api, namespace, 'both', 'Ready', 'Hibernated')
  })

  it("does not use a data claim in silence when somebody else made it; a volume for backups may be anybody's", async () => {
    await claim('taken-backups')
    await claim('data-taken-0', { storageClassName: '' })
    await apply('taken', { backup: { destination: { volume: { size: '1Gi' } } } })
    await eventually(
      () => said('taken', 'Stalled'),
      condition => condition?.reason === 'LabelsMissing' && condition.message.includes('data-taken-0'),
    )
    const labels = { ...LABELS, 'kvidx.io/database': 'taken' }
    await api.patch(PERSISTENT_VOLUME_CLAIMS, { namespace, name: 'data-taken-0' }, { metadata: { labels } })
    await eventually(
      () => said('taken', 'Stalled'),
      condition => condition === undefined,
    )
  })

  it('puts its labels on a claim that is adopted', async () => {
    await claim('data-heir-0', { storageClassName: '' })
    await apply('heir', { bootstrap: { adopt: '6f1c3f0e-2f5e-4b53-9b0a-1f2f4c1d9a10' } })
    await eventually(
      async () => (await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-heir-0'))?.metadata.labels,
      labels => labels?.['kvidx.io/database'] === 'heir' && labels['app.kubernetes.io/managed-by'] === 'kvidx-operator',
    )
    expect((await said('heir', 'Stalled'))?.reason).not.toBe('LabelsMissing')
  })

  it('says that a volume without a class cannot grow', async () => {
    const byHand = `${namespace}-by-hand`
    await api.create(PERSISTENT_VOLUMES, {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: byHand },
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '1Gi' },
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: 'data-static-0' },
        csi: { driver: 'kvidx.example', volumeHandle: byHand },
      },
    } as KubeObject)
    await claim('data-static-0', { storageClassName: '', volumeName: byHand })
    const labels = { ...LABELS, 'kvidx.io/database': 'static' }
    await api.patch(PERSISTENT_VOLUME_CLAIMS, { namespace, name: 'data-static-0' }, { metadata: { labels } })
    await apply('static')
    await eventually(
      () => find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-static-0'),
      there => there?.status.phase === 'Bound',
      15_000,
    )
    await reason(api, namespace, 'static', 'Ready', 'Starting')
    await apply('static', { storage: { size: '2Gi' } })
    await reason(api, namespace, 'static', 'Stalled', 'CannotExpand')
  })
})

describe.skipIf(missing)('a database that was made anew between two looks', () => {
  it('does not inherit the lineage of the one before it', async () => {
    const { api } = await access(kubeconfig)
    await installDefinitions(api)
    const namespace = await freshNamespace(api, 'anew')
    const metrics = new KubeMetrics()
    const cache = databaseCache({ api, namespaces: [namespace], metrics, log: silentLog })
    const pod = createServer((_, answer) =>
      answer.end(JSON.stringify({ ready: true, state: 'open', lineage: 'first' })),
    )
    await new Promise<void>(resolve => pod.listen(0, '127.0.0.1', resolve))
    const recorder = new EventRecorder({ api, controller: 'kvidx.io/operator', instance: 'test', log: silentLog })
    const reconciler = new DatabaseReconciler({
      api,
      cache,
      prober: new Prober(systemClock, (pod.address() as AddressInfo).port),
      recorder,
      clock: systemClock,
      log: silentLog,
      defaultImage: 'kvidx.example/kvidx:1.0.0',
    })
    const key = `${namespace}/anew`
    const look = () => reconciler.reconcile(key, AbortSignal.timeout(10_000))
    const seen = (uid: string | undefined) =>
      eventually(
        () => cache.databases.store.get(key)?.metadata.uid,
        now => now === uid,
      )
    for (const informer of informersOf(cache)) informer.start()
    try {
      await Promise.all(informersOf(cache).map(informer => informer.synced))
      const first = await userApply(api, database(namespace, 'anew'))
      await seen(first.metadata.uid)
      await look()
      await eventually(
        () => cache.pods.store.get(`${key}-0`),
        found => found !== undefined,
      )
      const conditions = [{ type: 'Ready', status: 'True' }]
      const status = { phase: 'Running', podIP: '127.0.0.1', podIPs: [{ ip: '127.0.0.1' }], conditions }
      await api.patch(PODS, { namespace, name: 'anew-0' }, { status }, { subresource: 'status' })
      await eventually(
        () => cache.pods.store.get(`${key}-0`)?.status?.podIP,
        ip => ip !== undefined,
      )
      await look()
      expect((await find(api, DATABASES, namespace, 'anew'))?.status.lineage).toBe('first')
      // replaced, as by kubectl replace --force; its volume is thrown away too
      await api.delete(DATABASES, { namespace, name: 'anew' })
      await eventually(
        () => cache.pods.store.get(`${key}-0`)?.metadata.deletionTimestamp ?? cache.pods.store.get(`${key}-0`),
        found => typeof found !== 'object',
        60_000,
      )
      const second = await userApply(api, database(namespace, 'anew'))
      await seen(second.metadata.uid)
      await look()
      const { status: now } = (await find(api, DATABASES, namespace, 'anew')) as Any
      expect(now.observedGeneration).toBe(1)
      expect(now.lineage).toBeUndefined()
    } finally {
      await Promise.all(informersOf(cache).map(informer => informer.stop()))
      await recorder.stop()
      pod.close()
      await api.delete(NAMESPACES, { name: namespace })
      await api.close()
    }
  }, 90_000)
})
