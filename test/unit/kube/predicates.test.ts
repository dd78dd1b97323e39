import { describe, expect, it } from 'vitest'
import { controlledBy, itself, namedByLabel } from '../../../src/kube/mapping.ts'
import { type KubeObject, pathOf, refOf } from '../../../src/kube/object.ts'
import {
  allOf,
  annotationsChanged,
  anyOf,
  contentChanged,
  deleted,
  generationChanged,
  labelsChanged,
  specOrMetadataChanged,
  where,
} from '../../../src/kube/predicates.ts'
import { DEPLOYMENTS, NODES, PODS, STATEFUL_SETS } from '../../../src/kube/resources.ts'
import type { Change } from '../../../src/kube/store.ts'

type Parts = Partial<KubeObject['metadata']> & { status?: unknown; spec?: unknown }

function object({ status, spec, ...metadata }: Parts): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'orders', namespace: 'shop', ...metadata },
    ...(spec === undefined ? {} : { spec }),
    ...(status === undefined ? {} : { status }),
  }
}

function update(previous: Parts, now: Parts): Change<KubeObject> {
  return { type: 'updated', previous: object(previous), object: object(now) }
}

describe('predicates', () => {
  const statusOnly = update(
    { generation: 1, resourceVersion: '1', status: 1 },
    { generation: 1, resourceVersion: '2', status: 2 },
  )
  const specChange = update({ generation: 1, spec: 1 }, { generation: 2, spec: 2 })
  const deletion = update({ generation: 1 }, { generation: 1, deletionTimestamp: '2026-01-01T00:00:00Z' })
  const bookkeeping = update({ generation: 1, resourceVersion: '1' }, { generation: 2, resourceVersion: '2' })
  const relabelled = update({ labels: { a: '1' } }, { labels: { a: '2' } })
  const annotated = update({}, { annotations: { restart: 'now' } })
  const gone: Change<KubeObject> = { type: 'deleted', object: object({}) }

  it.each([
    ['generationChanged', generationChanged, [false, true, true, true, false, false, true]],
    ['contentChanged', contentChanged, [true, true, true, false, true, true, true]],
    ['labelsChanged', labelsChanged, [false, false, false, false, true, false, true]],
    ['annotationsChanged', annotationsChanged, [false, false, false, false, false, true, true]],
    ['specOrMetadataChanged', specOrMetadataChanged, [false, true, true, true, true, true, true]],
    ['deleted', deleted, [false, false, false, false, false, false, true]],
  ])('%s lets through what it says', (_, predicate, expected) => {
    expect([statusOnly, specChange, deletion, bookkeeping, relabelled, annotated, gone].map(predicate)).toEqual(
      expected,
    )
  })

  it('are combined, and a selection notices who leaves it', () => {
    expect(anyOf(labelsChanged, annotationsChanged)(annotated)).toBe(true)
    expect(allOf(labelsChanged, annotationsChanged)(annotated)).toBe(false)
    const ours = where(one => one.metadata.labels?.app === 'kvidx')
    expect(ours(update({ labels: { app: 'kvidx' } }, {}))).toBe(true)
    expect(ours(update({}, { labels: { app: 'kvidx' } }))).toBe(true)
    expect(ours(update({}, {}))).toBe(false)
  })
})

describe('mappings', () => {
  const owner = { apiVersion: 'apps/v1beta1', kind: 'StatefulSet', name: 'orders', uid: 'u', controller: true }

  it('finds the controller whatever version it is named in, and nobody else', () => {
    expect(controlledBy(STATEFUL_SETS)(object({ ownerReferences: [owner] }))).toEqual(['shop/orders'])
    expect(controlledBy(STATEFUL_SETS)(object({ ownerReferences: [{ ...owner, controller: false }] }))).toEqual([])
    expect(controlledBy(STATEFUL_SETS)(object({ ownerReferences: [{ ...owner, apiVersion: 'other.io/v1' }] }))).toEqual(
      [],
    )
    expect(controlledBy(DEPLOYMENTS)(object({ ownerReferences: [owner] }))).toEqual([])
    expect(controlledBy(NODES)(object({ ownerReferences: [{ ...owner, apiVersion: 'v1', kind: 'Node' }] }))).toEqual([
      'orders',
    ])
  })

  it('finds by name and by label', () => {
    expect(itself(object({}))).toEqual(['shop/orders'])
    expect(namedByLabel('kvidx.io/database')(object({ labels: { 'kvidx.io/database': 'db' } }))).toEqual(['shop/db'])
    expect(namedByLabel('kvidx.io/database')(object({}))).toEqual([])
    expect(refOf('shop/db')).toEqual({ namespace: 'shop', name: 'db' })
    expect(refOf('node-1')).toEqual({ name: 'node-1' })
  })
})

describe('paths', () => {
  it('are those of the API', () => {
    expect(pathOf(PODS, { namespace: 'a', name: 'b' }, 'status')).toBe('/api/v1/namespaces/a/pods/b/status')
    expect(pathOf(STATEFUL_SETS, {})).toBe('/apis/apps/v1/statefulsets')
    expect(pathOf(NODES, { name: 'n' })).toBe('/api/v1/nodes/n')
    expect(pathOf(PODS, { namespace: 'a/../b', name: 'c?d' })).toBe('/api/v1/namespaces/a%2F..%2Fb/pods/c%3Fd')
  })

  it('never become those of a collection by an empty name or a missing namespace', () => {
    expect(() => pathOf(PODS, { namespace: 'a', name: '' })).toThrow(/the name is empty/)
    expect(() => pathOf(PODS, { name: 'b' })).toThrow(/the namespace is missing/)
    expect(() => pathOf(NODES, { namespace: 'a', name: 'b' })).toThrow(/have no namespace/)
  })
})
