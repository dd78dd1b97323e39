import type { Finding } from '../../../../src/api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../../../src/api/v1alpha1/database-status.ts'
import { withDefaults } from '../../../../src/api/v1alpha1/defaults.ts'
import type { KvidxDatabase } from '../../../../src/api/v1alpha1/kvidx-database.ts'
import { type Blueprint, blueprintOf } from '../../../../src/controllers/database/objects/blueprint.ts'
import { COMPONENTS } from '../../../../src/controllers/database/objects/desired.ts'
import type { StatefulSet } from '../../../../src/controllers/database/objects/stateful-set.ts'
import type {
  Action,
  Claim,
  Node,
  Observed,
  Pod,
  Probe,
  ProbeStatus,
} from '../../../../src/controllers/database/observed.ts'
import { planAll } from '../../../../src/controllers/database/plan.ts'
import type { KubeObject } from '../../../../src/kube/object.ts'
import { databaseOf, type Spec } from '../backup/blueprints.ts'

export const NOW = Date.UTC(2026, 10, 23, 12)
export const REVISION = 'orders-1'

export interface Scene {
  readonly spec?: Partial<Spec>
  readonly status?: KvidxDatabaseStatus
  readonly finalizers?: readonly string[]
  /** Changes of what a settled database has. */
  readonly change?: (observed: Mutable<Observed>, blueprint: Blueprint) => void
}

export type Mutable<T> = { -readonly [K in keyof T]: T[K] }

export function specOf(spec: Partial<Spec> = {}): Spec {
  return { storage: { size: '1Gi' }, ...spec } as Spec
}

/** A database and everything that is there once it serves. */
export function scene(input: Scene = {}): { readonly blueprint: Blueprint; readonly observed: Observed } {
  const spec = specOf(input.spec)
  const plain = databaseOf(spec)
  const database: KvidxDatabase = {
    ...plain,
    metadata: { ...plain.metadata, ...(input.finalizers && { finalizers: [...input.finalizers] }) },
    ...(input.status && { status: input.status }),
  }
  const blueprint = blueprintOf(database, withDefaults(spec), 'kvidx:1.0.0', 1)
  const observed: Mutable<Observed> = {
    ...nothing(database),
    owned: applied(blueprint, database),
    authSecret: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'orders-auth', namespace: 'shop' } },
    pods: [pod()],
    claims: [claim()],
    nodes: new Map([['node-1', node('True')]]),
    probe: probe(),
  }
  observed.statefulSet = observed.owned.get('statefulsets')?.[0] as StatefulSet
  input.change?.(observed, blueprint)
  return { blueprint, observed }
}

/** Nothing but the database itself. */
export function nothing(database: KvidxDatabase): Observed {
  return {
    database,
    statefulSet: undefined,
    owned: new Map(),
    authSecret: undefined,
    pods: [],
    claims: [],
    nodes: new Map(),
    probe: undefined,
    expandable: undefined,
    namespaceTerminating: false,
    finalSnapshot: undefined,
  }
}

/** What is there after a plan was carried out on nothing. */
function applied(blueprint: Blueprint, database: KvidxDatabase): Map<string, readonly KubeObject[]> {
  const owned = new Map<string, KubeObject[]>()
  const bare = { ...blueprint, replicas: 1 }
  const { actions } = planAll(bare, nothing(database))
  for (const component of COMPONENTS) owned.set(component.resource.plural, [])
  for (const action of actions)
    if (action.kind === 'apply') owned.get(action.resource.plural)?.push(asStored(action.object))
  return owned
}

function asStored(object: KubeObject): KubeObject {
  const stored = structuredClone(object) as KubeObject & { status?: unknown; spec?: { replicas?: number } }
  const metadata = { ...stored.metadata, uid: `uid-of-${object.metadata.name}`, resourceVersion: '7', generation: 1 }
  return object.kind === 'StatefulSet'
    ? ({
        ...stored,
        metadata,
        status: { observedGeneration: 1, replicas: 1, updateRevision: REVISION, currentRevision: REVISION },
      } as KubeObject)
    : ({ ...stored, metadata } as KubeObject)
}

export function pod(change: Partial<Pod> = {}, ready = 'True'): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'orders-0',
      namespace: 'shop',
      uid: 'pod-1',
      labels: { 'controller-revision-hash': REVISION },
    },
    spec: { nodeName: 'node-1', containers: [{ name: 'kvidx', image: 'kvidx:1.0.0' }] },
    status: { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: ready }] },
    ...change,
  }
}

/** A pod whose container waits. */
export function waitingPod(reason: string, extra: object = {}): Pod {
  return pod({
    status: {
      phase: 'Pending',
      conditions: [{ type: 'Ready', status: 'False' }],
      containerStatuses: [{ name: 'kvidx', ready: false, restartCount: 3, state: { waiting: { reason } }, ...extra }],
    },
  })
}

export function claim(storage = '1Gi', status: Claim['status'] = { phase: 'Bound', capacity: { storage } }): Claim {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data-orders-0', namespace: 'shop', uid: 'claim-1' },
    spec: { resources: { requests: { storage } }, storageClassName: 'fast' },
    ...(status && { status }),
  }
}

export function node(ready: 'True' | 'False' | 'Unknown'): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node-1' },
    status: { conditions: [{ type: 'Ready', status: ready, lastTransitionTime: '2026-11-23T11:59:00Z' }] },
  }
}

const GIB = 1024 ** 3

export function serving(change: Partial<ProbeStatus> = {}): ProbeStatus {
  return {
    ready: true,
    state: 'Serving',
    lifecycle: 'Open',
    lineage: '6b0b7b1e-0000-4000-8000-000000000001',
    engineVersion: '3.51.3',
    health: { state: 'OK', causes: [] },
    data: { position: '1.42', count: '42', dataBytes: '4200', digest: '0'.repeat(32) },
    storage: { fileBytes: 65_536, walBytes: 0, fragmentation: 0 },
    volume: { size: 10 * GIB, free: 9 * GIB },
    ...change,
  }
}

export function probe(status: ProbeStatus = serving()): Probe {
  return { time: NOW, pod: 'pod-1', status }
}

export function unanswered(): Probe {
  return { time: NOW, pod: 'pod-1', error: 'no answer within 2 s' }
}

export function failing(code: string, details: Record<string, unknown> = {}): Probe {
  const failure = { code, message: `because of ${code}`, details }
  const { health: _health, data: _data, volume: _volume, ...rest } = serving()
  return probe({ ...rest, ready: false, state: 'Failed', lifecycle: 'Failed', failure })
}

/** `kind Kind name` of each action, in order. */
export function inWords(actions: readonly Action[]): readonly string[] {
  return actions.map(
    action =>
      `${action.kind} ${action.resource.kind} ${'object' in action ? action.object.metadata.name : action.name}`,
  )
}

/** `Type=Status/Reason` of each finding. */
export function findingsInWords(findings: readonly Finding[]): readonly string[] {
  return findings.map(({ type, status, reason }) => `${type}=${status}/${reason}`)
}
