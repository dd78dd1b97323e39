import { describe, expect, test } from 'vitest'
import { applyDatabase, reason } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { apply, condition, find, get, kubectl, list, type Manifest, patch } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'

const namespace = testNamespace('objects')

const BACKUP = {
  destination: { volume: { size: '320Mi' } },
  schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
}

/** Every object that a database owns, as kind and name. */
const owned = (name: string): readonly (readonly [kind: string, name: string])[] => [
  ['ServiceAccount', name],
  ['ServiceAccount', `${name}-backup`],
  ['Role', `${name}-backup`],
  ['RoleBinding', `${name}-backup`],
  ['ConfigMap', `${name}-config`],
  ['Secret', `${name}-auth`],
  ['Service', name],
  ['Service', `${name}-ro`],
  ['Service', `${name}-headless`],
  ['NetworkPolicy', name],
  ['StatefulSet', name],
  ['CronJob', `${name}-backup-yearly`],
  ['CronJob', `${name}-prune`],
]

const pod = {
  metadata: { labels: { app: 'foreign' } },
  spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'none' }] },
}
/** The least of each kind that the API server takes. */
const FOREIGN: Readonly<Record<string, object>> = {
  ServiceAccount: { apiVersion: 'v1' },
  Role: { apiVersion: 'rbac.authorization.k8s.io/v1', rules: [] },
  RoleBinding: {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'none' },
  },
  ConfigMap: { apiVersion: 'v1', data: { mine: 'yes' } },
  Secret: { apiVersion: 'v1', stringData: { mine: 'yes' } },
  Service: { apiVersion: 'v1', spec: { ports: [{ port: 80 }], selector: { app: 'foreign' } } },
  NetworkPolicy: { apiVersion: 'networking.k8s.io/v1', spec: { podSelector: { matchLabels: { app: 'foreign' } } } },
  StatefulSet: {
    apiVersion: 'apps/v1',
    spec: {
      replicas: 0,
      serviceName: 'foreign',
      selector: { matchLabels: { app: 'foreign' } },
      template: { ...pod, spec: { ...pod.spec, restartPolicy: 'Always' } },
    },
  },
  CronJob: {
    apiVersion: 'batch/v1',
    spec: { schedule: '0 0 1 1 *', suspend: true, jobTemplate: { spec: { template: pod } } },
  },
}

/** What the operator could have changed; a StatefulSet's own controller writes its status. */
const contentOf = ({ metadata, status: _status, ...content }: Manifest) => ({
  ...content,
  uid: metadata.uid,
  labels: metadata.labels,
  ownerReferences: metadata.ownerReferences,
})

describe('the objects of a database', () => {
  test('of the names that it needs none is taken from anybody, whatever its kind', async () => {
    const names = owned('taken')
    await apply(
      names.map(([kind, name]) => ({ kind, metadata: { name }, ...FOREIGN[kind] })),
      { namespace },
    )
    const look = () => Promise.all(names.map(async ([kind, name]) => contentOf(await get(namespace, kind, name))))
    const before = await look()
    // the volume of backups outlives databases: one that is there is used, and stays as it is
    const shelf = {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'taken-backups' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '400Mi' } } },
    }
    await apply([shelf], { namespace })
    await applyDatabase(namespace, 'taken', { backup: BACKUP })
    const said = await reason(namespace, 'taken', 'Stalled', 'NameConflict')
    expect(said.message).toContain('does not belong to this database')
    expect(await look()).toEqual(before)
    await Promise.all(names.map(([kind, name]) => kubectl(['-n', namespace, 'delete', kind, name])))
    await eventually('all of its own are there', async () => {
      for (const [kind, name] of names)
        expect((await get(namespace, kind, name)).metadata.ownerReferences).toHaveLength(1)
      expect(condition(await get(namespace, 'kvdb', 'taken'), 'Stalled')).toBeUndefined()
    })
  })

  test('each is put back when somebody changed it, took its labels or deleted it', async () => {
    // the StatefulSet would take its pod along; labels of a Secret are not looked at, its tokens are people's
    const names = owned('taken').filter(([kind]) => kind !== 'StatefulSet')
    for (const [kind, name] of names)
      await kubectl(['-n', namespace, 'label', kind, name, 'kvidx.io/database-', 'app.kubernetes.io/managed-by-'])
    await eventually('all have their labels', async () => {
      for (const [kind, name] of names.filter(([kind]) => kind !== 'Secret'))
        expect((await get(namespace, kind, name)).metadata.labels, `${kind} ${name}`).toMatchObject({
          'kvidx.io/database': 'taken',
        })
    })
    const uids = new Map<string, string | undefined>()
    for (const [kind, name] of names) {
      uids.set(`${kind} ${name}`, (await get(namespace, kind, name)).metadata.uid)
      await kubectl(['-n', namespace, 'delete', kind, name])
    }
    await eventually('all are there again', async () => {
      for (const [kind, name] of names) {
        const found = await get(namespace, kind, name)
        expect(found.metadata.uid, `${kind} ${name}`).not.toBe(uids.get(`${kind} ${name}`))
      }
    })
  })

  test('what the spec no longer asks for goes, and nothing else', async () => {
    await patch(namespace, 'kvdb', 'taken', {
      spec: { backup: { schedules: [{ name: 'yearly', schedule: '0 0 2 1 *' }] } },
    })
    await eventually('the schedule follows', async () =>
      expect((await get(namespace, 'cronjob', 'taken-backup-yearly')).spec.schedule).toBe('0 0 2 1 *'),
    )
    await patch(namespace, 'kvdb', 'taken', {
      spec: { backup: { schedules: [] }, security: { networkPolicy: { enabled: false } } },
    })
    await eventually('schedule and policy are gone', async () => {
      expect(await find(namespace, 'cronjob', 'taken-backup-yearly')).toBeNull()
      expect(await find(namespace, 'networkpolicy', 'taken')).toBeNull()
    })
    const kinds = [...new Set(owned('taken').map(([kind]) => kind))].join(',')
    const left = await list(namespace, kinds, 'kvidx.io/database=taken')
    expect(left.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted()).toEqual(
      owned('taken')
        .map(([kind, name]) => `${kind} ${name}`)
        .filter(object => !['NetworkPolicy taken', 'CronJob taken-backup-yearly'].includes(object))
        .toSorted(),
    )
  })
})
