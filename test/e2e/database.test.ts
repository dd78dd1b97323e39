import { expect } from 'vitest'
import {
  applyDatabase,
  call,
  database,
  podUid,
  read,
  ready,
  reason,
  replaced,
  stats,
  write,
} from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { apply, condition, find, get, kubectl, list, patch, tryApply } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { Client, exec, logs } from './support/pod.ts'
import { group } from './support/steps.ts'

const ENGINES = ['SQLite', 'LMDB', 'RocksDB'] as const
const engines = testNamespace('engines')
const life = testNamespace('life')
const ends = testNamespace('ends')
const wrong = testNamespace('wrong')
const volumes = testNamespace('volumes')
const brief = testNamespace('brief')

const clients = new Map<string, Promise<Client>>()
const clientIn = (namespace: string): Promise<Client> => {
  const known = clients.get(namespace) ?? Client.start(namespace)
  clients.set(namespace, known)
  return known
}

/** What any restart changes. */
async function runningPod(namespace: string, name: string): Promise<{ uid: string | undefined; restarts: number[] }> {
  const { metadata, status } = await get(namespace, 'pod', `${name}-0`)
  const containers = status.containerStatuses as readonly { readonly restartCount: number }[]
  return { uid: metadata.uid, restarts: containers.map(({ restartCount }) => restartCount) }
}

const gone = (namespace: string, kind: string, name: string) =>
  eventually(`${kind} ${name} is gone`, async () => (await find(namespace, kind, name)) === null, { timeout: 90_000 })

group(
  'a database on each engine',
  ENGINES.flatMap(engine => {
    const name = engine.toLowerCase()
    return [
      [
        `${engine}: becomes Ready and says where it is reached`,
        async () => {
          if (engine === 'SQLite')
            for (const each of ENGINES) await applyDatabase(engines, each.toLowerCase(), { engine: each })
          await ready(engines, name)
          await eventually('its lineage is known', async () =>
            expect((await get(engines, 'kvdb', name)).status).toMatchObject({
              readyReplicas: 1,
              endpoints: { data: `http://${name}.${engines}.svc:7400` },
              lineage: expect.stringMatching(/^[0-9a-f-]{36}$/),
            }),
          )
        },
      ],
      [
        `${engine}: records written through the Service are there after the pod was deleted`,
        async () => {
          const client = await clientIn(engines)
          for (const key of [0, 1, 42]) await write(client, name, key, `${engine} ${key}`)
          const before = await podUid(engines, name)
          await kubectl(['-n', engines, 'delete', 'pod', `${name}-0`, '--wait=false'])
          await replaced(engines, name, before)
          await ready(engines, name)
          for (const key of [0, 1, 42]) expect(await read(client, name, key)).toBe(`${engine} ${key}`)
        },
      ],
      [
        `${engine}: probes and metrics through the Service, records only with a token`,
        async () => {
          const client = await clientIn(engines)
          const at = `http://${name}.${engines}.svc`
          expect((await client.request(`${at}:8080/health`)).status).toBe(200)
          expect((await client.request(`${at}:8080/ready`)).status).toBe(200)
          const metrics = await client.request(`${at}:8080/metrics`)
          expect(metrics.body).toMatch(/^kvidx_keys(\{[^}]*\})? 3$/m)
          expect((await client.request(`${at}:7400/v1/records/1`)).status).toBe(401)
        },
      ],
    ] as const
  }),
)

group('the life of a database', [
  [
    'labels and thresholds change without a restart',
    async () => {
      await applyDatabase(life, 'orders')
      await ready(life, 'orders')
      await write(await clientIn(life), 'orders', 1, 'one')
      const before = await runningPod(life, 'orders')
      await kubectl(['-n', life, 'label', 'kvdb', 'orders', 'team=shop'])
      await patch(life, 'kvdb', 'orders', { spec: { monitoring: { usedPercent: 70, logLevel: 'Debug' } } })
      await eventually('the configuration is there', async () => {
        const config = await get(life, 'configmap', 'orders-config')
        expect((config.data as Record<string, string>)['config.json']).toContain('"Debug"')
      })
      await ready(life, 'orders')
      expect(await runningPod(life, 'orders')).toEqual(before)
    },
  ],
  [
    'tuning is rolled out by a restart, and the data stays',
    async () => {
      const before = await podUid(life, 'orders')
      await patch(life, 'kvdb', 'orders', { spec: { tuning: { cacheSize: '48Mi' } } })
      await replaced(life, 'orders', before)
      await ready(life, 'orders')
      expect(await read(await clientIn(life), 'orders', 1)).toBe('one')
      const config = await exec(life, 'orders-0', 'kvidx', ['cat', '/etc/kvidx/config/config.json'])
      expect(JSON.parse(config)).toMatchObject({ static: { tuning: { cacheSize: 48 * 2 ** 20 } } })
    },
  ],
  [
    'the volume grows without a restart',
    async () => {
      const before = await podUid(life, 'orders')
      await patch(life, 'kvdb', 'orders', { spec: { storage: { size: '640Mi' } } })
      await eventually(
        'the volume has its size',
        async () => {
          const found = await get(life, 'kvdb', 'orders')
          expect(found.status.storage[0].size, JSON.stringify(found.status)).toBe('640Mi')
        },
        { timeout: 120_000 },
      )
      await ready(life, 'orders')
      expect(await podUid(life, 'orders')).toBe(before)
      const set = await get(life, 'statefulset', 'orders')
      expect(set.spec.volumeClaimTemplates[0].spec.resources.requests.storage).toBe('640Mi')
      expect(await read(await clientIn(life), 'orders', 1)).toBe('one')
    },
  ],
  [
    'a full volume grows as well',
    async () => {
      const fill = `const fs = require('fs'); const chunk = Buffer.alloc(1 << 20, 1)
        const fd = fs.openSync('/data/filler', 'w')
        for (let size = 1 << 20; size >= 4096; size >>= 1)
          try { for (;;) fs.writeSync(fd, chunk, 0, size) } catch {}`
      await exec(life, 'orders-0', 'kvidx', ['node', '-e', fill], { timeout: 60_000 })
      await patch(life, 'kvdb', 'orders', { spec: { storage: { size: '768Mi' } } })
      await eventually(
        'the volume has its size',
        async () => {
          const found = await get(life, 'kvdb', 'orders')
          expect(found.status.storage[0].size, JSON.stringify(found.status)).toBe('768Mi')
        },
        { timeout: 120_000 },
      )
      await ready(life, 'orders')
      await eventually('writes are taken', async () => write(await clientIn(life), 'orders', 2, 'two'))
      await exec(life, 'orders-0', 'kvidx', ['rm', '/data/filler'])
    },
  ],
  [
    'hibernates cleanly, grows meanwhile, and wakes with its data',
    async () => {
      const before = await stats(await clientIn(life), 'orders')
      await patch(life, 'kvdb', 'orders', { spec: { hibernate: true } })
      await reason(life, 'orders', 'Ready', 'Hibernated')
      expect(await podUid(life, 'orders')).toBeUndefined()
      // without a pod no file system can grow: it does when the database wakes
      await patch(life, 'kvdb', 'orders', { spec: { storage: { size: '896Mi' } } })
      await eventually('the volume is asked to grow', async () => {
        const { spec } = await get(life, 'pvc', 'data-orders-0')
        expect(spec.resources.requests.storage).toBe('896Mi')
      })
      await patch(life, 'kvdb', 'orders', { spec: { hibernate: false } })
      await ready(life, 'orders')
      await eventually('the volume has its size', async () =>
        expect((await get(life, 'kvdb', 'orders')).status.storage[0].size).toBe('896Mi'),
      )
      const log = await logs(life, 'orders-0', 'kvidx')
      expect(log.split('\n').find(line => line.includes('the database is open'))).toContain('"lastEnd":"clean"')
      expect(await stats(await clientIn(life), 'orders')).toEqual(before)
    },
  ],
  [
    'a cache for which no node has memory is rolled out, and its correction heals without a hand',
    async () => {
      await patch(life, 'kvdb', 'orders', { spec: { tuning: { cacheSize: '1Ti' }, resources: null } })
      await reason(life, 'orders', 'Ready', 'PodPending')
      await patch(life, 'kvdb', 'orders', { spec: { tuning: { cacheSize: '48Mi' } } })
      await ready(life, 'orders')
      expect(await read(await clientIn(life), 'orders', 1)).toBe('one')
    },
  ],
  [
    'an image that does not exist is rolled out, and its correction heals without a hand',
    async () => {
      const { status } = await get(life, 'kvdb', 'orders')
      await patch(life, 'kvdb', 'orders', { spec: { image: 'localhost/kvidx/none:1' } })
      await reason(life, 'orders', 'Ready', 'ImagePullFailed')
      await patch(life, 'kvdb', 'orders', { spec: { image: status.image } })
      await ready(life, 'orders')
      expect(await read(await clientIn(life), 'orders', 1)).toBe('one')
    },
  ],
])

group('the end of a database', [
  [
    'with Retain the volume stays, and a database of the same name takes it up again',
    async () => {
      await applyDatabase(ends, 'kept')
      const { metadata, status } = await ready(ends, 'kept')
      await write(await clientIn(ends), 'kept', 7, 'seven')
      await kubectl(['-n', ends, 'delete', 'kvdb', 'kept'])
      await gone(ends, 'pod', 'kept-0')
      await gone(ends, 'statefulset', 'kept')
      expect(await find(ends, 'pvc', 'data-kept-0')).not.toBeNull()
      await applyDatabase(ends, 'kept')
      const again = await ready(ends, 'kept')
      await eventually('its lineage is known', async () =>
        expect((await get(ends, 'kvdb', 'kept')).status.lineage).toBe(status.lineage),
      )
      expect(again.metadata.uid).not.toBe(metadata.uid)
      await eventually('an event says so', async () => {
        const events = await list(ends, 'events.events.k8s.io')
        const said = events.find(
          ({ regarding, reason }) =>
            (regarding as { uid: string }).uid === again.metadata.uid && reason === 'VolumeAdopted',
        )
        expect(said?.note).toContain(status.lineage)
      })
      expect(await read(await clientIn(ends), 'kept', 7)).toBe('seven')
    },
  ],
  [
    'with Delete nothing stays',
    async () => {
      await applyDatabase(ends, 'gone', { storage: { size: '512Mi', deletionPolicy: 'Delete' } })
      await ready(ends, 'gone')
      await kubectl(['-n', ends, 'delete', 'kvdb', 'gone', '--timeout=90s'], { timeout: 100_000 })
      for (const kind of ['statefulset', 'service', 'configmap', 'secret', 'pod', 'pvc', 'serviceaccount'])
        await eventually(`no ${kind} is left`, async () => {
          const left = await list(ends, kind, 'kvidx.io/database=gone')
          expect(left.map(({ metadata }) => metadata.name)).toEqual([])
        })
    },
  ],
  [
    'with Snapshot a copy stays, from which another database can begin',
    async () => {
      await applyDatabase(ends, 'copy', { storage: { size: '512Mi', deletionPolicy: 'Snapshot' } })
      const { status } = await ready(ends, 'copy')
      await write(await clientIn(ends), 'copy', 9, 'nine')
      const before = await stats(await clientIn(ends), 'copy')
      await kubectl(['-n', ends, 'delete', 'kvdb', 'copy', '--timeout=120s'], { timeout: 130_000 })
      await gone(ends, 'pvc', 'data-copy-0')
      const [snapshot, ...rest] = await list(ends, 'volumesnapshot', 'kvidx.io/database=copy')
      expect(rest).toEqual([])
      expect(snapshot?.status).toMatchObject({ readyToUse: true })
      const claim = {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data-second-0' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          resources: { requests: { storage: '512Mi' } },
          dataSource: { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: snapshot?.metadata.name },
        },
      }
      await apply([claim], { namespace: ends })
      await applyDatabase(ends, 'second', { bootstrap: { adopt: status.lineage } })
      await ready(ends, 'second')
      expect(await stats(await clientIn(ends), 'second')).toMatchObject({ digest: before.digest, count: before.count })
    },
  ],
  [
    'a namespace is deleted without being held up, whatever the policy',
    async () => {
      await applyDatabase(brief, 'one')
      await applyDatabase(brief, 'two', { storage: { size: '512Mi', deletionPolicy: 'Delete' } })
      await applyDatabase(brief, 'three', { storage: { size: '512Mi', deletionPolicy: 'Snapshot' } })
      for (const name of ['one', 'two', 'three']) await ready(brief, name)
      await kubectl(['delete', 'namespace', brief, '--timeout=120s'], { timeout: 130_000 })
    },
  ],
])

group('mistakes', [
  [
    'a volume whose class cannot grow stays as it is, which is said; other edits get through',
    async () => {
      const classes = await list('default', 'storageclass')
      const usual = classes.find(
        ({ metadata }) => metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true',
      )
      const fixed = { ...usual, metadata: { name: 'e2e-fixed' }, allowVolumeExpansion: false }
      await apply([fixed])
      await applyDatabase(wrong, 'fixed', { storage: { size: '320Mi', storageClassName: 'e2e-fixed' } })
      await ready(wrong, 'fixed')
      const before = await runningPod(wrong, 'fixed')
      await patch(wrong, 'kvdb', 'fixed', { spec: { storage: { size: '384Mi' } } })
      const said = await reason(wrong, 'fixed', 'Stalled', 'CannotExpand')
      expect(said.message).toContain('e2e-fixed')
      expect(condition(await get(wrong, 'kvdb', 'fixed'), 'Ready')?.status).toBe('True')
      expect(await runningPod(wrong, 'fixed')).toEqual(before)
      await patch(wrong, 'kvdb', 'fixed', { spec: { tuning: { cacheSize: '48Mi' } } })
      await replaced(wrong, 'fixed', before.uid)
      await kubectl(['-n', wrong, 'delete', 'kvdb', 'fixed'])
      await kubectl(['delete', 'storageclass', 'e2e-fixed'])
    },
  ],
  [
    'an object of the same name that is not ours is never touched',
    async () => {
      const service = {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'taken' },
        spec: { ports: [{ port: 80 }], selector: { app: 'other' } },
      }
      await apply([service], { namespace: wrong })
      const before = await get(wrong, 'service', 'taken')
      await applyDatabase(wrong, 'taken')
      const said = await reason(wrong, 'taken', 'Stalled', 'NameConflict')
      expect(said.message).toContain('Service taken')
      const after = await get(wrong, 'service', 'taken')
      expect(after.spec).toEqual(before.spec)
      expect(after.metadata.labels).toEqual(before.metadata.labels)
      await kubectl(['-n', wrong, 'delete', 'service', 'taken'])
      await ready(wrong, 'taken')
    },
  ],
  [
    'what the API server can see of a bad spec it refuses, naming the field',
    async () => {
      for (const [spec, field] of [
        [{ engine: 'Oracle' }, 'spec.engine'],
        [{ storage: { size: '1Ki' } }, 'spec.storage.size'],
        [{ replicas: 3 }, 'spec.replicas'],
        [{ engine: 'LMDB', tuning: { journalMode: 'WAL' } }, 'spec.tuning.journalMode'],
      ] as const) {
        const { code, stderr } = await tryApply([database('bad', spec)], { namespace: wrong })
        expect(code).not.toBe(0)
        expect(stderr).toContain(field)
      }
    },
  ],
  [
    'what only the operator can see it says, while the pods go on with the last good template',
    async () => {
      await applyDatabase(wrong, 'app')
      await ready(wrong, 'app')
      const before = await podUid(wrong, 'app')
      const containers = [{ name: 'web', image: 'web:1', ports: [{ containerPort: 7400 }] }]
      await patch(wrong, 'kvdb', 'app', { spec: { podTemplate: { spec: { containers } } } })
      const said = await reason(wrong, 'app', 'Stalled', 'PodTemplateRefused')
      expect(said.message).toContain('port 7400')
      expect(condition(await get(wrong, 'kvdb', 'app'), 'Ready')?.status).toBe('True')
      expect(await podUid(wrong, 'app')).toBe(before)
      await patch(wrong, 'kvdb', 'app', { spec: { podTemplate: { spec: { containers: null } } } })
      await ready(wrong, 'app')
      expect(await podUid(wrong, 'app')).toBe(before)
    },
  ],
])

group('a volume that grows by itself', [
  [
    'grows before it is full, while the database serves and the spec stays',
    async () => {
      const autoGrow = { enabled: true, maxSize: '448Mi', threshold: 70 }
      await applyDatabase(volumes, 'auto', { storage: { size: '320Mi', autoGrow } })
      await ready(volumes, 'auto')
      const before = await runningPod(volumes, 'auto')
      const total = async () =>
        Number(
          await exec(volumes, 'auto-0', 'kvidx', [
            'node',
            '-e',
            'const { blocks, bsize } = fs.statfsSync("/data"); console.log(blocks * bsize)',
          ]),
        )
      const small = await total()
      const fill = `const { blocks, bavail, bsize } = fs.statfsSync('/data')
        fs.writeFileSync('/data/filler', Buffer.alloc(Math.round(blocks * 0.75 - (blocks - bavail)) * bsize, 1))`
      await exec(volumes, 'auto-0', 'kvidx', ['node', '-e', fill])
      const grown = await eventually(
        'the volume is larger',
        async () => {
          const found = await get(volumes, 'kvdb', 'auto')
          expect(found.status.storage[0].size).not.toBe('320Mi')
          return found
        },
        { timeout: 120_000 },
      )
      expect(grown.spec.storage.size).toBe('320Mi')
      expect((await get(volumes, 'pvc', 'data-auto-0')).status.capacity.storage).toBe('400Mi')
      expect(await total()).toBeGreaterThan(small + 60 * 2 ** 20)
      expect(await runningPod(volumes, 'auto')).toEqual(before)
      await ready(volumes, 'auto')
    },
  ],
])

group('volumes that are not what they should be', [
  [
    'a new volume of a database that had data is refused until the loss is accepted',
    async () => {
      await applyDatabase(volumes, 'lost')
      const { status } = await ready(volumes, 'lost')
      await write(await clientIn(volumes), 'lost', 1, 'gone')
      await eventually('the configuration knows the lineage', async () => {
        const config = await get(volumes, 'configmap', 'lost-config')
        expect((config.data as Record<string, string>)['config.json']).toContain(status.lineage)
      })
      await kubectl(['-n', volumes, 'delete', 'pvc', 'data-lost-0', '--wait=false'])
      await kubectl(['-n', volumes, 'delete', 'pod', 'lost-0', '--wait=false'])
      const said = await reason(volumes, 'lost', 'Stalled', 'DataLost', 120_000)
      expect(said.message).toContain(status.lineage)
      await patch(volumes, 'kvdb', 'lost', { spec: { recovery: { allowEmpty: status.lineage } } })
      // the kubelet brings the new configuration into the pod within about a minute
      const healed = await ready(volumes, 'lost', 180_000)
      expect(healed.status.lineage).not.toBe(status.lineage)
      expect((await call(await clientIn(volumes), 'lost', '/v1/records/1')).status).toBe(404)
    },
  ],
  [
    'the volume of another database is refused until it is adopted',
    async () => {
      await applyDatabase(volumes, 'alpha')
      const { status } = await ready(volumes, 'alpha')
      await write(await clientIn(volumes), 'alpha', 5, 'five')
      const claim = await get(volumes, 'pvc', 'data-alpha-0')
      const volume = claim.spec.volumeName as string
      await patch('default', 'pv', volume, { spec: { persistentVolumeReclaimPolicy: 'Retain' } })
      await kubectl(['-n', volumes, 'delete', 'kvdb', 'alpha'])
      await gone(volumes, 'pod', 'alpha-0')
      await kubectl(['-n', volumes, 'delete', 'pvc', 'data-alpha-0', '--timeout=60s'])
      await patch('default', 'pv', volume, { spec: { claimRef: null } })
      const other = {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'data-beta-0' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: claim.spec.storageClassName,
          volumeName: volume,
          resources: { requests: { storage: '512Mi' } },
        },
      }
      await apply([other], { namespace: volumes })
      await applyDatabase(volumes, 'beta')
      const said = await reason(volumes, 'beta', 'Stalled', 'ForeignVolume', 120_000)
      expect(said.message).toContain(`${volumes}/alpha`)
      await patch(volumes, 'kvdb', 'beta', { spec: { bootstrap: { adopt: status.lineage } } })
      const adopted = await ready(volumes, 'beta', 180_000)
      expect(adopted.status.lineage).toBe(status.lineage)
      expect(await read(await clientIn(volumes), 'beta', 5)).toBe('five')
      await patch('default', 'pv', volume, { spec: { persistentVolumeReclaimPolicy: 'Delete' } })
    },
  ],
])
