import { describe, expect, test } from 'vitest'
import {
  blockedDelay,
  finalSnapshotName,
  hasFinalizer,
  leavesPodsAlone,
  planDeletion,
  snapshotRefusal,
  wantsFinalizer,
} from '../../../../src/controllers/database/deletion.ts'
import type { Observed } from '../../../../src/controllers/database/observed.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import { KubeApiError } from '../../../../src/kube/api-error.ts'
import type { KubeObject } from '../../../../src/kube/object.ts'
import { claim, findingsInWords, inWords, type Mutable, scene } from './scene.ts'

type Policy = 'Retain' | 'Delete' | 'Snapshot'
type Change = (observed: Mutable<Observed>) => void

function deletion(policy: Policy, ...changes: readonly Change[]) {
  const { observed } = scene({
    spec: { storage: { size: '1Gi', deletionPolicy: policy } },
    finalizers: ['kvidx.io/deletion'],
    change: seen => {
      for (const change of changes) change(seen)
    },
  })
  const plan = planDeletion(observed)
  return { words: inWords(plan.actions), said: findingsInWords(plan.findings), done: plan.done, plan, observed }
}

const noSet: Change = observed => {
  observed.statefulSet = undefined
}
const noPods: Change = observed => {
  observed.pods = []
}
const podsOwned: Change = observed => {
  observed.pods = observed.pods.map(pod => ({
    ...pod,
    metadata: {
      ...pod.metadata,
      ownerReferences: [
        { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'orders', uid: 'uid-of-orders', controller: true },
      ],
    },
  }))
}
const noClaims: Change = observed => {
  observed.claims = []
}
const claimsPending: Change = observed => {
  observed.claims = [claim('1Gi', { phase: 'Pending' })]
}
const setLeaving: Change = observed => {
  if (observed.statefulSet)
    observed.statefulSet = {
      ...observed.statefulSet,
      metadata: { ...observed.statefulSet.metadata, deletionTimestamp: '2026-11-23T12:00:00Z' },
    }
}
const setOrphans: Change = observed => {
  setLeaving(observed)
  if (observed.statefulSet)
    observed.statefulSet = {
      ...observed.statefulSet,
      metadata: { ...observed.statefulSet.metadata, finalizers: ['orphan'] },
    }
}
/** The volume is bound, and larger than the claim template says. */
const grown: Change = observed => {
  observed.claims = [claim('2Gi')]
  const set = observed.statefulSet
  const [template] = set?.spec.volumeClaimTemplates ?? []
  if (set && template)
    observed.statefulSet = {
      ...set,
      spec: {
        ...set.spec,
        volumeClaimTemplates: [
          { ...template, spec: { ...template.spec, resources: { requests: { storage: '512Mi' } } } },
        ],
      },
    }
}
const podsLeaving: Change = observed => {
  observed.pods = observed.pods.map(pod => ({
    ...pod,
    metadata: { ...pod.metadata, deletionTimestamp: '2026-11-23T12:00:00Z' },
  }))
}
const claimsLeaving: Change = observed => {
  const [one] = observed.claims
  if (one) observed.claims = [{ ...one, metadata: { ...one.metadata, deletionTimestamp: '2026-11-23T12:00:00Z' } }]
}
const snapshot =
  (status: object): Change =>
  observed => {
    observed.finalSnapshot = { apiVersion: 'v1', kind: 'VolumeSnapshot', metadata: { name: 's' }, status } as never
  }
const terminating: Change = observed => {
  observed.namespaceTerminating = true
}

const DELETING = ['Ready=False/Deleting', 'Reconciling=True/Deleting']

const TABLE: readonly (readonly [string, Policy, readonly Change[], readonly string[], boolean])[] = [
  ['Retain lets go at once', 'Retain', [podsOwned], [], true],
  ['also while its StatefulSet goes with its pods', 'Retain', [podsOwned, setLeaving], [], true],
  ['also when nothing was ever made', 'Retain', [noSet, noPods], [], true],
  ['but not while growth parts the StatefulSet from its pods', 'Retain', [podsOwned, setOrphans], [], false],
  ['nor before it is seen that they are parted', 'Retain', [podsOwned, noSet], [], false],
  ['then the pod is stopped', 'Retain', [noSet], ['delete Pod orders-0'], false],
  ['also one that the new StatefulSet has not taken over', 'Retain', [], ['delete Pod orders-0'], false],
  ['which is not waited for, with Retain', 'Retain', [noSet, podsLeaving], [], true],
  ['nor is a namespace that goes held up for it', 'Retain', [noSet, terminating], [], true],
  ['a namespace that goes is not held up, with Delete', 'Delete', [terminating], [], true],
  ['nor with Snapshot', 'Snapshot', [terminating], [], true],
  ['the pods stop first', 'Delete', [], ['delete StatefulSet orders'], false],
  ['while the StatefulSet goes nothing is done', 'Delete', [setLeaving], [], false],
  ['also when its pods are gone', 'Delete', [setLeaving, noPods], [], false],
  ['a pod that its StatefulSet left behind is stopped', 'Delete', [noSet], ['delete Pod orders-0'], false],
  ['a pod that belongs to somebody is waited for', 'Delete', [noSet, podsOwned], [], false],
  ['then the volumes go', 'Delete', [noSet, noPods], ['delete PersistentVolumeClaim data-orders-0'], false],
  ['which is not waited for', 'Delete', [noSet, noPods, claimsLeaving], [], true],
  ['without volumes it is over', 'Delete', [noSet, noPods, noClaims], [], true],
  ['a snapshot comes before', 'Snapshot', [noSet, noPods], ['create VolumeSnapshot orders-final-d3f1c0de'], false],
  [
    'but not of a claim that never got a volume',
    'Snapshot',
    [noSet, noPods, claimsPending],
    ['delete PersistentVolumeClaim data-orders-0'],
    false,
  ],
  ['and is waited for', 'Snapshot', [noSet, noPods, snapshot({ readyToUse: false })], [], false],
  ['also without a status', 'Snapshot', [noSet, noPods, snapshot({})], [], false],
  [
    'and then the volumes go',
    'Snapshot',
    [noSet, noPods, snapshot({ readyToUse: true })],
    ['delete PersistentVolumeClaim data-orders-0'],
    false,
  ],
]

describe('deletion', () => {
  test.each(TABLE)('%s', (_, policy, changes, words, done) => {
    const result = deletion(policy, ...changes)
    expect(result.words).toEqual(words)
    expect(result.done).toBe(done)
    if (!done) expect(result.said).toEqual(DELETING)
  })

  test('keeps the StatefulSet until its pods are gone, and only this one', () => {
    const [action] = deletion('Delete').plan.actions
    expect(action).toMatchObject({ propagation: 'Foreground', uid: 'uid-of-orders' })
  })

  test('says when the snapshot failed', () => {
    const { said, plan } = deletion('Snapshot', noSet, noPods, snapshot({ error: { message: 'no class' } }))
    expect(said).toEqual([...DELETING, 'Stalled=True/DeletionBlocked'])
    expect(plan.findings.at(-1)?.values?.detail).toContain('no class')
  })

  test.each([
    [404, 'this cluster has no VolumeSnapshot API (volumesnapshots.snapshot.storage.k8s.io/v1)'],
    [403, 'the VolumeSnapshot is refused: no'],
    [422, 'the VolumeSnapshot is refused: no'],
    [409, undefined],
    [503, undefined],
    [0, undefined],
  ])('HTTP %s to the snapshot: a person must mend it, or the queue tries again', (status, refusal) => {
    const failure = new KubeApiError({ status, reason: '', message: 'no' })
    expect(snapshotRefusal(deletion('Snapshot', noSet, noPods).plan.actions, failure)).toBe(refusal)
    expect(snapshotRefusal(deletion('Delete', noSet, noPods).plan.actions, failure)).toBeUndefined()
  })

  test.each([
    ['DeletionBlocked', 0, 5000],
    ['DeletionBlocked', 60_000, 60_000],
    ['DeletionBlocked', 86_400_000, 300_000],
    ['NameConflict', 86_400_000, 5000],
  ])('stalled by %s for %s ms: the next try in %s', (reason, age, delay) => {
    const now = Date.parse('2026-11-23T12:00:00Z')
    const lastTransitionTime = new Date(now - age).toISOString()
    const { observed } = deletion('Snapshot')
    const conditions = [{ type: 'Stalled', status: 'True' as const, reason, message: '', lastTransitionTime }]
    expect(blockedDelay({ ...observed.database, status: { conditions } }, now)).toBe(delay)
  })

  test('never deletes a claim of backups', () => {
    const { words } = deletion('Delete', noSet, noPods, observed => {
      observed.backupClaim = { ...claim('20Gi'), metadata: { name: 'orders-backups', namespace: 'shop' } }
    })
    expect(words).toEqual(['delete PersistentVolumeClaim data-orders-0'])
  })

  test('makes a snapshot that outlives everything: no owner, no instance label, the lineage beside it', () => {
    const [action] = deletion('Snapshot', noSet, noPods).plan.actions
    const { metadata } = (action as { object: KubeObject }).object
    expect(metadata.ownerReferences).toBeUndefined()
    expect(metadata.labels).not.toHaveProperty('app.kubernetes.io/instance')
    expect(metadata.annotations).toHaveProperty('kvidx.io/lineage')
  })
})

describe('the finalizer', () => {
  test.each([
    ['Retain', false],
    ['Delete', true],
    ['Snapshot', true],
  ] as const)('with %s: %s', (deletionPolicy, wanted) => {
    const { observed } = scene({ spec: { storage: { size: '1Gi', deletionPolicy } } })
    expect(wantsFinalizer(observed.database)).toBe(wanted)
    expect(hasFinalizer(observed.database)).toBe(false)
  })

  test.each([
    ['is not wanted at rest', [podsOwned], false, false],
    ['is there before growth parts the StatefulSet from its pods', [podsOwned, grown], false, true],
    ['stays until that is done', [podsOwned, setOrphans], true, true],
    ['stays while there is no StatefulSet', [noSet], true, true],
    ['also where no pod is seen', [noSet, noPods], true, true],
    ['stays until the new StatefulSet has the pods', [], true, true],
    ['goes then', [podsOwned], true, false],
    ['is not wanted while a new database gets its first objects', [podsOwned, noSet], false, false],
  ] as const)('with Retain: %s', (_, changes, there, wanted) => {
    const { blueprint, observed } = scene({
      ...(there && { finalizers: ['kvidx.io/deletion'] }),
      change: seen => {
        for (const change of changes) change(seen)
      },
    })
    expect(leavesPodsAlone(observed, planAll(blueprint, observed).actions)).toBe(wanted)
  })

  test('makes the name of the snapshot this very object’s', () => {
    expect(finalSnapshotName(scene().observed.database)).toBe('orders-final-d3f1c0de')
  })
})
