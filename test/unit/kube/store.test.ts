import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type KubeObject, keyOf } from '../../../src/kube/object.ts'
import { Store } from '../../../src/kube/store.ts'

const APP = 'app.kubernetes.io/instance'

const object = fc
  .record({
    name: fc.constantFrom('a', 'b', 'c'),
    namespace: fc.constantFrom('one', 'two'),
    uid: fc.constantFrom('u1', 'u2'),
    resourceVersion: fc.nat(5).map(String),
    owners: fc.subarray(['o1', 'o2']),
    label: fc.option(fc.constantFrom('x', 'y'), { nil: undefined }),
  })
  .map(
    ({ name, namespace, uid, resourceVersion, owners, label }): KubeObject => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name,
        namespace,
        uid,
        resourceVersion,
        ownerReferences: owners.map(owner => ({ apiVersion: 'v1', kind: 'K', name: owner, uid: owner })),
        ...(label === undefined ? {} : { labels: { [APP]: label } }),
      },
    }),
  )

const operation = fc.oneof(
  fc.record({ do: fc.constant('put' as const), object }),
  fc.record({ do: fc.constant('remove' as const), object }),
  fc.record({
    do: fc.constant('replace' as const),
    objects: fc.uniqueArray(object, { selector: one => keyOf(one.metadata), maxLength: 6 }),
    namespace: fc.constantFrom('one', undefined),
  }),
)

describe('the store', () => {
  it('answers every index as a scan of all objects would, after any sequence of changes', () => {
    void fc.assert(
      fc.property(fc.array(operation, { maxLength: 30 }), operations => {
        const store = new Store<KubeObject>([APP])
        const naive = new Map<string, KubeObject>()
        const put = (one: KubeObject): void => {
          const old = naive.get(keyOf(one.metadata))
          const same = old?.metadata.uid === one.metadata.uid
          if (same && old?.metadata.resourceVersion === one.metadata.resourceVersion) return
          naive.set(keyOf(one.metadata), one)
        }
        for (const op of operations) {
          if (op.do === 'put') {
            store.put(op.object)
            put(op.object)
          } else if (op.do === 'remove') {
            store.remove(op.object)
            naive.delete(keyOf(op.object.metadata))
          } else {
            const objects = op.objects.filter(
              one => op.namespace === undefined || one.metadata.namespace === op.namespace,
            )
            store.replace(objects, op.namespace)
            const listed = new Set(objects.map(one => keyOf(one.metadata)))
            for (const [key, one] of naive) {
              if (!listed.has(key) && (op.namespace ?? one.metadata.namespace) === one.metadata.namespace)
                naive.delete(key)
            }
            for (const one of objects) put(one)
          }
          const scan = (holds: (one: KubeObject) => boolean) => new Set([...naive.values()].filter(holds))
          expect(store.size).toBe(naive.size)
          expect(new Set(store.all())).toEqual(scan(() => true))
          for (const ns of ['one', 'two'])
            expect(new Set(store.inNamespace(ns))).toEqual(scan(one => one.metadata.namespace === ns))
          for (const uid of ['o1', 'o2']) {
            expect(new Set(store.ownedBy(uid))).toEqual(
              scan(one => one.metadata.ownerReferences?.some(o => o.uid === uid) ?? false),
            )
          }
          for (const value of ['x', 'y'])
            expect(new Set(store.labelled(APP, value))).toEqual(scan(one => one.metadata.labels?.[APP] === value))
        }
      }),
      { numRuns: 200 },
    )
  })

  it('tells of an object that was deleted and made anew under its name as two changes', () => {
    const store = new Store<KubeObject>()
    const make = (uid: string, resourceVersion: string): KubeObject => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'a', namespace: 'n', uid, resourceVersion },
    })
    expect(store.put(make('u1', '1')).map(change => change.type)).toEqual(['added'])
    expect(store.put(make('u1', '1'))).toEqual([])
    expect(store.put(make('u1', '2')).map(change => change.type)).toEqual(['updated'])
    expect(store.put(make('u2', '3')).map(change => [change.type, change.object.metadata.uid])).toEqual([
      ['deleted', 'u1'],
      ['added', 'u2'],
    ])
  })

  it('refuses a label that it does not index', () => {
    expect(() => new Store([APP]).labelled('tier', 'x')).toThrow(
      /'tier' is not indexed \(indexed: app.kubernetes.io\/instance\)/,
    )
  })
})
