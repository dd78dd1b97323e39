import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { NEWEST_TEMPLATE } from '../../../src/controllers/database/objects/stateful-set.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import {
  CONFIG_MAPS,
  EVENTS,
  NAMESPACES,
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  PODS,
  ROLES,
  SECRETS,
  SERVICE_ACCOUNTS,
  SERVICES,
  STATEFUL_SETS,
} from '../../../src/kube/resources.ts'
import type { RunningOperator } from '../../../src/operator/operator.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'
import { kvidx } from '../cli/harness.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import {
  type Any,
  conditionOf,
  database,
  find,
  IMAGE,
  installDefinitions,
  objectsOf,
  reason,
  startHere,
  userApply,
} from './harness.ts'

const { kubeconfig = '', missing } = inject('controlPlane')

const ALL = (name: string) => [
  `ConfigMap/${name}-config`,
  `NetworkPolicy/${name}`,
  `PersistentVolumeClaim/data-${name}-0`,
  `Pod/${name}-0`,
  `Role/${name}-backup`,
  `RoleBinding/${name}-backup`,
  `Secret/${name}-auth`,
  `Service/${name}`,
  `Service/${name}-headless`,
  `Service/${name}-ro`,
  `ServiceAccount/${name}`,
  `ServiceAccount/${name}-backup`,
  `StatefulSet/${name}`,
]

describe.skipIf(missing)('the database controller on a real API server', () => {
  let api: KubeClient
  let namespace: string
  let operator: RunningOperator

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'database')
    operator = await startHere(kubeconfig, namespace)
  })

  afterAll(async () => {
    await operator?.stop()
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
  })

  const made = async (name: string, spec: object = {}) => {
    await userApply(api, database(namespace, name, spec))
    await eventually(
      () => objectsOf(api, namespace, name),
      objects => ALL(name).every(object => objects.includes(object)),
    )
    return (await find(api, DATABASES, namespace, name)) as Any
  }
  const template = async (name: string) =>
    ((await find(api, STATEFUL_SETS, namespace, name)) as Any).spec.template as Any['spec']
  // the garbage collector stands still for a while after definitions came
  const gone = (name: string) =>
    eventually(
      () => find(api, DATABASES, namespace, name),
      object => object === undefined,
      40_000,
    )

  it('makes all objects of a database, owned by it, and says what it waits for', async () => {
    const { metadata } = await made('all')
    expect(await objectsOf(api, namespace, 'all')).toEqual(ALL('all'))
    for (const [resource, name] of [
      [STATEFUL_SETS, 'all'],
      [SECRETS, 'all-auth'],
      [ROLES, 'all-backup'],
      [CONFIG_MAPS, 'all-config'],
    ] as const) {
      const owned = (await find(api, resource, namespace, name)) as Any
      expect(owned.metadata.ownerReferences).toEqual([expect.objectContaining({ uid: metadata.uid, controller: true })])
    }
    const claim = (await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-all-0')) as Any
    expect(claim.metadata.ownerReferences).toBeUndefined()
    expect(claim.metadata.labels).not.toHaveProperty('app.kubernetes.io/instance')
    const { status } = await reason(api, namespace, 'all', 'Ready', 'Starting')
    expect(status).toMatchObject({
      observedGeneration: 1,
      replicas: 1,
      readyReplicas: 0,
      image: IMAGE,
      templateVersion: NEWEST_TEMPLATE,
      endpoints: { data: `http://all.${namespace}.svc:7400`, tokenSecret: 'all-auth' },
    })
    const tokens = Object.values(((await find(api, SECRETS, namespace, 'all-auth')) as Any).data) as string[]
    expect(new Set(tokens).size).toBe(3)
    for (const token of tokens) expect(Buffer.from(token, 'base64').toString()).toMatch(/^[\w-]{43}$/)
  })

  it('changes the pod template for what needs a restart, and the mounted file alone for what does not', async () => {
    await made('edit')
    const before = await template('edit')
    await userApply(api, database(namespace, 'edit', { monitoring: { logLevel: 'Debug' } }))
    const config = await eventually(
      () => find(api, CONFIG_MAPS, namespace, 'edit-config'),
      map => /"logLevel": "Debug"/.test(map?.data['config.json']),
    )
    expect(config).toBeDefined()
    expect(await template('edit')).toEqual(before)
    await userApply(api, database(namespace, 'edit', { tuning: { cacheSize: '128Mi' } }))
    const after = await eventually(
      () => template('edit'),
      now => now.metadata.annotations['kvidx.io/config'] !== before.metadata.annotations['kvidx.io/config'],
    )
    expect(after.spec.containers[0].resources.limits.memory).toBe('1280Mi')
  })

  it('drops fields that the spec no longer asks for, also on objects that were never changed before', async () => {
    const spec = {
      podTemplate: { metadata: { labels: { team: 'shop' } }, spec: { priorityClassName: 'system-node-critical' } },
    }
    await made('drop', spec)
    expect((await template('drop')).metadata.labels).toHaveProperty('team')
    await userApply(api, database(namespace, 'drop'))
    await eventually(
      () => template('drop'),
      now => now.metadata.labels.team === undefined && now.spec.priorityClassName === undefined,
    )
  })

  it('puts drift back, whatever was changed, removed or unlabelled', async () => {
    await made('drift')
    const service = async () => (await find(api, SERVICES, namespace, 'drift')) as Any
    await api.patch(SERVICES, { namespace, name: 'drift' }, { spec: { ports: [{ name: 'data', port: 1 }] } })
    await eventually(service, now => now?.spec.ports.length === 2 && now.spec.ports[0].port === 7400)
    await api.patch(SERVICES, { namespace, name: 'drift' }, { spec: { selector: { extra: 'x' } } })
    await eventually(service, now => now?.spec.selector.extra === undefined)
    await api.patch(
      SERVICES,
      { namespace, name: 'drift' },
      {
        metadata: { labels: { 'app.kubernetes.io/managed-by': null, 'kvidx.io/database': null } },
      },
    )
    await eventually(service, now => now?.metadata.labels?.['kvidx.io/database'] === 'drift')
    await api.patch(STATEFUL_SETS, { namespace, name: 'drift' }, { spec: { replicas: 3 } })
    await eventually(
      () => find(api, STATEFUL_SETS, namespace, 'drift'),
      now => now?.spec.replicas === 1,
    )
    const old = (await find(api, SECRETS, namespace, 'drift-auth')) as Any
    await api.delete(SECRETS, { namespace, name: 'drift-auth' })
    await eventually(
      () => find(api, SECRETS, namespace, 'drift-auth'),
      now => now !== undefined && now.metadata.uid !== old.metadata.uid,
    )
    // a Secret we may only make
    const ours = { 'app.kubernetes.io/managed-by': 'kvidx-operator', 'kvidx.io/database': 'drift' }
    const bare = { 'app.kubernetes.io/managed-by': null, 'kvidx.io/database': null }
    await api.patch(SECRETS, { namespace, name: 'drift-auth' }, { metadata: { labels: bare } })
    const said = await reason(api, namespace, 'drift', 'Stalled', 'LabelsMissing')
    expect(conditionOf(said, 'Stalled')?.message).toContain('Secret drift-auth')
    await api.patch(SECRETS, { namespace, name: 'drift-auth' }, { metadata: { labels: ours } })
    await eventually(
      () => find(api, DATABASES, namespace, 'drift'),
      now => conditionOf(now, 'Stalled')?.status !== 'True',
    )
    // somebody's own annotation and tokens are not ours to take away
    await api.patch(SERVICES, { namespace, name: 'drift' }, { metadata: { annotations: { mine: 'yes' } } })
    await api.patch(SECRETS, { namespace, name: 'drift-auth' }, { stringData: { read: 'rotated' } })
    await api.patch(SERVICES, { namespace, name: 'drift' }, { spec: { type: 'NodePort' } })
    const mended = await eventually(service, now => now?.spec.type === 'ClusterIP')
    expect(mended.metadata.annotations).toMatchObject({ mine: 'yes' })
    const secret = (await find(api, SECRETS, namespace, 'drift-auth')) as Any
    expect(Buffer.from(secret.data.read, 'base64').toString()).toBe('rotated')
  })

  it('never takes over an object of the same name, and goes on when it is gone', async () => {
    const foreign = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'taken', namespace } }
    const { metadata } = await api.create<Any>(SERVICE_ACCOUNTS, foreign)
    const labelled = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name: 'taken-config',
        namespace,
        labels: { 'app.kubernetes.io/managed-by': 'kvidx-operator', 'kvidx.io/database': 'taken' },
      },
      data: { mine: 'yes' },
    }
    await api.create(CONFIG_MAPS, labelled)
    await userApply(api, database(namespace, 'taken'))
    const seen = await reason(api, namespace, 'taken', 'Stalled', 'NameConflict')
    expect(conditionOf(seen, 'Reconciling')).toBeUndefined()
    expect(conditionOf(seen, 'Stalled')?.message).toMatch(/(ServiceAccount taken|ConfigMap taken-config) exists/)
    const there = (await find(api, SERVICE_ACCOUNTS, namespace, 'taken')) as Any
    expect(there.metadata.resourceVersion).toBe(metadata.resourceVersion)
    expect(((await find(api, CONFIG_MAPS, namespace, 'taken-config')) as Any).data).toEqual({ mine: 'yes' })
    await api.delete(SERVICE_ACCOUNTS, { namespace, name: 'taken' })
    await api.delete(CONFIG_MAPS, { namespace, name: 'taken-config' })
    const after = await eventually(
      () => find(api, DATABASES, namespace, 'taken'),
      object => conditionOf(object, 'Stalled') === undefined && conditionOf(object, 'Ready') !== undefined,
      15_000,
    )
    expect(after).toBeDefined()
  })

  it('does nothing while suspended, and says so; then catches up', async () => {
    await made('paused')
    const before = await template('paused')
    await userApply(api, database(namespace, 'paused', { suspend: true, tuning: { cacheSize: '96Mi' } }))
    const seen = await reason(api, namespace, 'paused', 'Ready', 'Suspended')
    expect(seen.status.observedGeneration).toBe(2)
    await api.delete(CONFIG_MAPS, { namespace, name: 'paused-config' })
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect(await find(api, CONFIG_MAPS, namespace, 'paused-config')).toBeUndefined()
    expect(await template('paused')).toEqual(before)
    await userApply(api, database(namespace, 'paused', { tuning: { cacheSize: '96Mi' } }))
    await eventually(
      async () => [await template('paused'), await find(api, CONFIG_MAPS, namespace, 'paused-config')],
      ([now, config]) => config !== undefined && JSON.stringify(now) !== JSON.stringify(before),
    )
  })

  it('hibernates: no pods, the volume stays, and wakes', async () => {
    await made('sleepy')
    await userApply(api, database(namespace, 'sleepy', { hibernate: true }))
    const seen = await reason(api, namespace, 'sleepy', 'Ready', 'Hibernated')
    expect(seen.status).toMatchObject({ replicas: 0, hibernated: true })
    expect(conditionOf(seen, 'Reconciling')).toBeUndefined()
    expect(await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-sleepy-0')).toBeDefined()
    await userApply(api, database(namespace, 'sleepy'))
    await eventually(
      () => find(api, PODS, namespace, 'sleepy-0'),
      pod => pod !== undefined,
    )
    const awake = await reason(api, namespace, 'sleepy', 'Ready', 'Starting')
    expect(awake.status.hibernated).toBeUndefined()
  })

  it('deletes with Retain: objects go, the volume stays, and no finalizer was ever there', async () => {
    expect((await made('keeps')).metadata.finalizers).toBeUndefined()
    await api.delete(DATABASES, { namespace, name: 'keeps' })
    // The garbage collector hears of our kinds at its first look at what is served, 30 s after it began; until then it tries in vain, more and more seldom.
    await eventually(
      () => objectsOf(api, namespace, 'keeps'),
      objects => objects.length === 1 && objects[0] === 'PersistentVolumeClaim/data-keeps-0',
      90_000,
    )
  }, 120_000)

  it('deletes with Delete: nothing stays', async () => {
    const { metadata } = await made('goes', { storage: { size: '1Gi', deletionPolicy: 'Delete' } })
    expect(metadata.finalizers).toEqual(['kvidx.io/deletion'])
    await api.delete(DATABASES, { namespace, name: 'goes' })
    await gone('goes')
    await eventually(
      () => objectsOf(api, namespace, 'goes'),
      objects => objects.length === 0,
      40_000,
    )
  }, 60_000)

  it('leaves no volume behind when a database is deleted the moment it was made', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `brief-${index}`)
    await Promise.all(
      names.map(async (name, index) => {
        await userApply(api, database(namespace, name, { storage: { size: '1Gi', deletionPolicy: 'Delete' } }))
        await eventually(
          () => find(api, DATABASES, namespace, name),
          object => (object?.metadata.finalizers ?? []).length > 0,
        )
        await new Promise(resolve => setTimeout(resolve, index * 40))
        await api.delete(DATABASES, { namespace, name })
      }),
    )
    for (const name of names) {
      await gone(name)
      await eventually(
        () => objectsOf(api, namespace, name),
        objects => objects.length === 0,
        40_000,
      )
    }
  }, 60_000)

  it('leaves no pod behind when a database is deleted while its volume grows, and keeps the volume', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `growing-${index}`)
    await Promise.all(
      names.map(async (name, index) => {
        await made(name)
        await userApply(api, database(namespace, name, { storage: { size: '2Gi' } }))
        await eventually(
          () => find(api, DATABASES, namespace, name),
          object => object?.metadata.finalizers?.includes('kvidx.io/deletion') ?? false,
        )
        await new Promise(resolve => setTimeout(resolve, index * 40))
        await api.delete(DATABASES, { namespace, name })
      }),
    )
    for (const name of names) {
      await gone(name)
      await eventually(
        () => objectsOf(api, namespace, name),
        objects => objects.join() === `PersistentVolumeClaim/data-${name}-0`,
        40_000,
      )
    }
  }, 120_000)

  it('has no finalizer any more when a volume has grown', async () => {
    await made('grown')
    const before = await find(api, STATEFUL_SETS, namespace, 'grown')
    await userApply(api, database(namespace, 'grown', { storage: { size: '2Gi' } }))
    await eventually(
      async () => [await find(api, STATEFUL_SETS, namespace, 'grown'), await find(api, DATABASES, namespace, 'grown')],
      ([set, object]) =>
        set !== undefined && set.metadata.uid !== before?.metadata.uid && object?.metadata.finalizers === undefined,
    )
  }, 60_000)

  it('waits with Snapshot where none can be taken, says why, and goes on with another policy', async () => {
    const failures = async () =>
      (await operator.metrics.reconciles.get()).values.find(({ labels }) => labels.result === 'error')?.value ?? 0
    await api.create(PERSISTENT_VOLUMES, {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: `${namespace}-snap` },
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '1Gi' },
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name: 'data-snap-0' },
        csi: { driver: 'kvidx.example', volumeHandle: `${namespace}-snap` },
      },
    } as KubeObject)
    await made('snap', { storage: { size: '1Gi', deletionPolicy: 'Snapshot' } })
    await eventually(
      () => find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-snap-0'),
      claim => claim?.status.phase === 'Bound',
      30_000,
    )
    const failed = await failures()
    await api.delete(DATABASES, { namespace, name: 'snap' })
    const seen = await reason(api, namespace, 'snap', 'Stalled', 'DeletionBlocked')
    expect(conditionOf(seen, 'Stalled')?.message).toMatch(/this cluster has no VolumeSnapshot API/)
    // no failed reconcile: that would be a stack in the log each time, and a retry after milliseconds
    await new Promise(resolve => setTimeout(resolve, 3000))
    const asked = (await operator.metrics.requests.get()).values.find(
      ({ labels }) => labels.verb === 'create' && labels.resource === 'volumesnapshots',
    )
    expect(asked).toMatchObject({ labels: { code: '404' } })
    expect(asked?.value).toBeLessThanOrEqual(3)
    expect(await failures()).toBe(failed)
    const told = await eventually(
      () => api.list<Any>(EVENTS, { namespace }),
      ({ items }) => items.some(event => event.reason === 'DeletionBlocked' && event.regarding?.name === 'snap'),
    )
    const events = told.items.filter(event => event.reason === 'DeletionBlocked' && event.regarding?.name === 'snap')
    expect(events).toHaveLength(1)
    expect(events[0]).toMatchObject({ type: 'Warning', note: expect.stringContaining('VolumeSnapshot API') })
    expect(await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-snap-0')).toBeDefined()
    await api.patch(DATABASES, { namespace, name: 'snap' }, { spec: { storage: { deletionPolicy: 'Retain' } } })
    await gone('snap')
    expect(await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'data-snap-0')).toBeDefined()
    await api.delete(PERSISTENT_VOLUMES, { name: `${namespace}-snap` })
  }, 60_000)

  it('is planned against the namespace of the kubeconfig, as kubectl would apply it', async () => {
    await made('planned')
    const directory = temporaryDirectory()
    const [config, manifest] = [join(directory, 'kubeconfig'), join(directory, 'changed.yaml')]
    const known = parse(readFileSync(kubeconfig, 'utf8'))
    for (const { context } of known.contexts) context.namespace = namespace
    writeFileSync(config, stringify(known))
    const { metadata: _metadata, ...changed } = database(namespace, 'planned', { tuning: { cacheSize: '80Mi' } })
    writeFileSync(manifest, stringify({ ...changed, metadata: { name: 'planned' } }))
    const ran = await kvidx(['plan', '-f', manifest, '--server-side', '--kubeconfig', config])
    expect([ran.code, ran.notes]).toEqual([0, ''])
    expect(ran.out).toContain(`KvidxDatabase ${namespace}/planned`)
    expect(ran.out).toMatch(/~ change StatefulSet planned/)
  })

  it('keeps its finalizer in step with the policy', async () => {
    await made('policy', { storage: { size: '1Gi', deletionPolicy: 'Delete' } })
    await userApply(api, database(namespace, 'policy'))
    await eventually(
      () => find(api, DATABASES, namespace, 'policy'),
      object => object?.metadata.finalizers === undefined,
    )
  })

  it('says what only it can see of a spec, keeps the pods as they are, and tries no more', async () => {
    await made('wrong')
    const before = await template('wrong')
    const containers = [{ name: 'app', image: 'app:1', ports: [{ containerPort: 7400 }] }]
    await userApply(api, database(namespace, 'wrong', { podTemplate: { spec: { containers } } }))
    await reason(api, namespace, 'wrong', 'Stalled', 'PodTemplateRefused')
    // what the API server alone knows: no such field value, no image, a limit below the request
    await userApply(api, database(namespace, 'wrong', { podTemplate: { spec: { containers: [{ name: 'app' }] } } }))
    await eventually(
      () => find(api, DATABASES, namespace, 'wrong'),
      object => /image/.test(conditionOf(object, 'Stalled')?.message ?? ''),
    )
    const resources = { requests: { memory: '2Gi' }, limits: { memory: '1Gi' } }
    await userApply(api, database(namespace, 'wrong', { resources }))
    const invalid = await reason(api, namespace, 'wrong', 'Stalled', 'InvalidSpec')
    expect(conditionOf(invalid, 'Stalled')?.message).toMatch(/^spec\.resources/)
    expect(await template('wrong')).toEqual(before)
    await userApply(api, database(namespace, 'wrong', { tuning: { cacheSize: '80Mi' } }))
    await eventually(
      () => find(api, DATABASES, namespace, 'wrong'),
      object => conditionOf(object, 'Stalled') === undefined,
    )
    expect(await template('wrong')).not.toEqual(before)
  })

  it('touches no pods whose template version it does not know', async () => {
    await made('newer')
    const before = (await find(api, STATEFUL_SETS, namespace, 'newer')) as Any
    const status = { status: { templateVersion: 99 } }
    await api.patch(DATABASES, { namespace, name: 'newer' }, status, { subresource: 'status' })
    await userApply(api, database(namespace, 'newer', { tuning: { cacheSize: '80Mi' } }))
    await reason(api, namespace, 'newer', 'Stalled', 'UnknownTemplateVersion')
    expect(((await find(api, STATEFUL_SETS, namespace, 'newer')) as Any).metadata.resourceVersion).toBe(
      before.metadata.resourceVersion,
    )
  })

  it('restarts nothing when the status is lost', async () => {
    await made('forgetful')
    const newest = await template('forgetful')
    const say = (status: object | null) =>
      api.patch(DATABASES, { namespace, name: 'forgetful' }, { status }, { subresource: 'status' })
    const touch = (why: string) =>
      api.patch(DATABASES, { namespace, name: 'forgetful' }, { metadata: { annotations: { why } } })
    await say({ templateVersion: NEWEST_TEMPLATE - 1 })
    await touch('an older template')
    const older = await eventually(
      () => template('forgetful'),
      now => JSON.stringify(now) !== JSON.stringify(newest),
    )
    await say(null)
    await touch('no status')
    await eventually(
      () => find(api, DATABASES, namespace, 'forgetful'),
      now => now?.status?.templateVersion === NEWEST_TEMPLATE - 1,
    )
    expect(await template('forgetful')).toEqual(older)
  })

  it('writes nothing at rest, and asks nothing but watches', async () => {
    await made('rest')
    await reason(api, namespace, 'rest', 'Ready', 'Starting')
    const requests = async () =>
      (await operator.metrics.registry.metrics())
        .split('\n')
        .filter(line => line.startsWith('kvidx_operator_api_requests_total{') && !/verb="watch"/.test(line))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    const versions = async () => {
      const kinds = [DATABASES, STATEFUL_SETS, SERVICES, CONFIG_MAPS, SERVICE_ACCOUNTS, ROLES, SECRETS]
      const lists = await Promise.all(kinds.map(kind => api.list(kind, { namespace })))
      return lists.flatMap(list =>
        list.items.map(({ kind, metadata }) => [kind, metadata.name, metadata.resourceVersion]),
      )
    }
    // what the tests before began has come to its end
    let before = await requests()
    await eventually(
      async () => {
        const now = await requests()
        const same = now === before
        before = now
        await new Promise(resolve => setTimeout(resolve, 2000))
        return same
      },
      same => same,
      30_000,
    )
    const seen = await versions()
    before = await requests()
    await new Promise(resolve => setTimeout(resolve, 20_000))
    expect((await requests()) - before).toBe(0)
    expect(await versions()).toEqual(seen)
  }, 60_000)

  it('never changed what the user wrote', async () => {
    const spec = { engine: 'LMDB', storage: { size: '2Gi' }, tuning: { mapSize: '1Gi' } }
    const created = await userApply(api, database(namespace, 'mine', spec))
    await reason(api, namespace, 'mine', 'Ready', 'Starting')
    const seen = (await find(api, DATABASES, namespace, 'mine')) as Any
    expect(seen.spec).toEqual(created.spec)
    expect(seen.metadata.generation).toBe(1)
  })
})
