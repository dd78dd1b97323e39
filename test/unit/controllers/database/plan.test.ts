import { describe, expect, test } from 'vitest'
import { namesOf } from '../../../../src/controllers/database/names.ts'
import { PHASES, planAll } from '../../../../src/controllers/database/plan.ts'
import type { KubeObject } from '../../../../src/kube/object.ts'
import { blueprint as blueprintFor, databaseOf, TO_VOLUME } from '../backup/blueprints.ts'
import { claim, findingsInWords, inWords, node, nothing, pod, type Scene, scene, specOf } from './scene.ts'

const planned = (input?: Scene) => {
  const { blueprint, observed } = scene(input)
  return planAll(blueprint, observed)
}

describe('the plan of a new database', () => {
  test('makes everything that a pod needs before the StatefulSet, each object once', () => {
    const spec = specOf()
    expect(inWords(planAll(blueprintFor(spec), nothing(databaseOf(spec))).actions)).toEqual([
      'create Secret orders-auth',
      'apply ServiceAccount orders',
      'apply ServiceAccount orders-backup',
      'apply Role orders-backup',
      'apply RoleBinding orders-backup',
      'apply ConfigMap orders-config',
      'apply Service orders',
      'apply Service orders-ro',
      'apply Service orders-headless',
      'apply NetworkPolicy orders',
      'apply StatefulSet orders',
    ])
  })

  test('makes no Secret where the spec names one, and the backup volume first', () => {
    const spec = { ...TO_VOLUME, security: { auth: { secretRef: { name: 'mine' } } } }
    const words = inWords(planAll(blueprintFor(spec), nothing(databaseOf(spec))).actions)
    expect(words[0]).toBe('create PersistentVolumeClaim orders-backups')
    expect(words.filter(word => word.includes('Secret'))).toEqual([])
    expect(words).toContain('apply CronJob orders-backup-daily')
  })

  test('is made of named phases', () => {
    expect(PHASES.map(({ name }) => name)).toEqual(['secret', 'volumes', 'backup volume', 'objects', 'pods'])
  })
})

/** What is done and said about a settled database in which one thing is different. */
const TABLE: readonly (readonly [string, Scene, readonly string[], readonly string[]])[] = [
  ['nothing differs', {}, [], []],
  [
    'the Secret is gone',
    {
      change: observed => {
        observed.authSecret = undefined
      },
    },
    ['create Secret orders-auth'],
    [],
  ],
  [
    'a Service was changed',
    { change: observed => void change(observed.owned, 'services', 0, { spec: { ports: [] } }) },
    ['apply Service orders'],
    [],
  ],
  [
    'the hash of an object is another: a field was dropped',
    {
      change: observed =>
        void change(observed.owned, 'configmaps', 0, { metadata: { annotations: { 'kvidx.io/applied': 'other' } } }),
    },
    ['apply ConfigMap orders-config'],
    [],
  ],
  [
    'an object has an owner of the same name that was deleted',
    {
      change: observed => void change(observed.owned, 'services', 0, { metadata: { ownerReferences: [owner('old')] } }),
    },
    [],
    ['Reconciling=True/Creating'],
  ],
  [
    'an object with our labels is owned by nobody',
    { change: observed => void change(observed.owned, 'services', 0, { metadata: { ownerReferences: [] } }) },
    [],
    ['Stalled=True/NameConflict'],
  ],
  [
    'an object is on its way out',
    {
      change: observed =>
        void change(observed.owned, 'services', 0, {
          metadata: { deletionTimestamp: '2026-11-23T12:00:00Z' },
          spec: {},
        }),
    },
    [],
    [],
  ],
  [
    'the network policy is switched off',
    { spec: { security: { networkPolicy: { enabled: false } } }, change: withPolicy },
    ['delete NetworkPolicy orders'],
    [],
  ],
  ['it hibernates', { spec: { hibernate: true } }, ['apply StatefulSet orders'], []],
  [
    'the volume should grow',
    { spec: { storage: { size: '2Gi' } }, change: smaller(true) },
    ['patch PersistentVolumeClaim data-orders-0', 'delete StatefulSet orders'],
    ['Reconciling=True/Resizing'],
  ],
  [
    'the volume should grow and the class is not known',
    { spec: { storage: { size: '2Gi' } }, change: smaller(undefined) },
    ['patch PersistentVolumeClaim data-orders-0', 'delete StatefulSet orders'],
    ['Reconciling=True/Resizing'],
  ],
  [
    'the volume should grow and its class cannot: everything else still gets through',
    { spec: { storage: { size: '2Gi' }, tuning: { cacheSize: '80Mi' } }, change: smaller(false) },
    ['apply ConfigMap orders-config', 'apply StatefulSet orders'],
    ['Stalled=True/CannotExpand'],
  ],
  [
    'the claim has grown and the StatefulSet is being removed',
    {
      spec: { storage: { size: '2Gi' } },
      change: (observed, blueprint) => {
        smaller(true)(observed, blueprint)
        observed.claims = [claim('2Gi', { phase: 'Bound', capacity: { storage: '1Gi' }, conditions: RESIZING })]
        leaving(observed)
      },
    },
    [],
    ['Reconciling=True/Resizing'],
  ],
  [
    'the claim is not bound yet',
    {
      spec: { storage: { size: '2Gi' } },
      change: observed => {
        observed.claims = [claim('1Gi', { phase: 'Pending' })]
      },
    },
    [],
    [],
  ],
  [
    'a pod of an outdated revision is not Ready',
    {
      change: observed => {
        observed.pods = [pod({ metadata: outdated() }, 'False')]
      },
    },
    ['delete Pod orders-0'],
    [],
  ],
  [
    'a pod of an outdated revision is Ready: the StatefulSet replaces it itself',
    {
      change: observed => {
        observed.pods = [pod({ metadata: outdated() })]
      },
    },
    [],
    [],
  ],
  [
    'a pod of an outdated revision is on a lost node: it may still write',
    {
      change: observed => {
        observed.pods = [pod({ metadata: outdated() }, 'False')]
        observed.nodes = new Map([['node-1', node('Unknown')]])
      },
    },
    [],
    [],
  ],
  [
    'a pod of the newest revision is not Ready: a restart would not help',
    {
      change: observed => {
        observed.pods = [pod({}, 'False')]
      },
    },
    [],
    [],
  ],
]

describe('the plan of a settled database, when', () => {
  test.each(TABLE)('%s', (_, input, actions, findings) => {
    const plan = planned(input)
    expect(inWords(plan.actions)).toEqual(actions)
    expect(findingsInWords(plan.findings)).toEqual(findings)
  })

  test('the volume grows: the pods go on, and the claim asks for what the spec says', () => {
    const { actions } = planned({ spec: { storage: { size: '2Gi' } }, change: smaller(true) })
    expect(actions[0]).toMatchObject({ body: { spec: { resources: { requests: { storage: '2Gi' } } } } })
    expect(actions[1]).toMatchObject({ propagation: 'Orphan', uid: 'uid-of-orders' })
  })

  test('the class cannot expand: the claim template keeps its size', () => {
    const spec = { storage: { size: '2Gi' }, tuning: { cacheSize: '80Mi' } }
    const { actions } = planned({ spec, change: smaller(false) })
    const set = (actions.at(-1) as unknown as { object: { spec: { volumeClaimTemplates: { spec: object }[] } } }).object
    expect(set.spec.volumeClaimTemplates[0]?.spec).toMatchObject({ resources: { requests: { storage: '1Gi' } } })
  })

  test('what was created was not applied yet: nothing is to be done', () => {
    const plan = planned({
      change: observed => {
        const there = observed.owned.get('services')?.[0] as KubeObject
        const hash = there.metadata.annotations?.['kvidx.io/applied']?.replace('.created', '') ?? ''
        change(observed.owned, 'services', 0, { metadata: { annotations: { 'kvidx.io/applied': hash } } })
      },
    })
    expect(plan.actions).toEqual([])
  })
})

describe('names', () => {
  test('of all objects of a database come from its own', () => {
    const names = namesOf('orders')
    expect([names.pod(0), names.dataClaim(0), names.backupClaim]).toEqual([
      'orders-0',
      'data-orders-0',
      'orders-backups',
    ])
  })
})

const RESIZING = [{ type: 'FileSystemResizePending', status: 'True' }]

function outdated() {
  return { ...pod().metadata, labels: { 'controller-revision-hash': 'orders-0' } }
}

function owner(uid: string) {
  return { apiVersion: 'kvidx.io/v1alpha1', kind: 'KvidxDatabase', name: 'orders', uid, controller: true }
}

type Observed = ReturnType<typeof scene>['observed']

/** Claim and claim template as they were before a growth from 1Gi. */
function smaller(expandable: boolean | undefined): NonNullable<Scene['change']> {
  return observed => {
    const before = scene({ spec: {} }).observed
    observed.owned = before.owned
    observed.statefulSet = before.statefulSet
    observed.claims = [claim('1Gi')]
    observed.expandable = expandable
  }
}

function withPolicy(observed: { owned: Observed['owned'] }): void {
  observed.owned = new Map([
    ...observed.owned,
    ['networkpolicies', scene().observed.owned.get('networkpolicies') ?? []],
  ])
}

function leaving(observed: { statefulSet: Observed['statefulSet'] }): void {
  const set = observed.statefulSet
  if (set) observed.statefulSet = { ...set, metadata: { ...set.metadata, deletionTimestamp: '2026-11-23T12:00:00Z' } }
}

/** Puts members into an object that is there: metadata member by member, the others as a whole. */
function change(owned: Observed['owned'], plural: string, index: number, by: Record<string, object>): void {
  const list = owned.get(plural) as KubeObject[]
  const object = list[index] as KubeObject & { spec?: object }
  list[index] = {
    ...object,
    ...by,
    metadata: { ...object.metadata, ...by.metadata },
    ...(by.spec && { spec: { ...object.spec, ...by.spec } }),
  } as KubeObject
}
