import { readdir, readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { KINDS } from '../../../src/api/kinds.ts'
import type { Condition } from '../../../src/api/v1alpha1/conditions.ts'
import type { KvidxDatabase } from '../../../src/api/v1alpha1/kvidx-database.ts'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { createLog } from '../../../src/common/log.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import type { KubeApi } from '../../../src/kube/api.ts'
import { undefinedIfMissing } from '../../../src/kube/api-error.ts'
import type { KubeObject, Resource } from '../../../src/kube/object.ts'
import * as resources from '../../../src/kube/resources.ts'
import { type RunningOperator, startOperator } from '../../../src/operator/operator.ts'
import { eventually } from '../kube/access.ts'

const CRDS = new URL('../../../crds/', import.meta.url)
export const IMAGE = 'kvidx.example/kvidx:1.0.0'

/** An object of any kind, for looking into it freely. */
// biome-ignore lint/suspicious/noExplicitAny: as the comment says
export type Any = KubeObject & { spec?: any; status?: any; data?: any; [field: string]: any }

/** The definitions, applied and served. */
export async function installDefinitions(api: KubeApi): Promise<void> {
  for (const file of await readdir(CRDS)) {
    const definition = parse(await readFile(new URL(file, CRDS), 'utf8')) as KubeObject
    await api.apply(resources.CUSTOM_RESOURCE_DEFINITIONS, definition)
  }
  for (const kind of KINDS)
    await eventually(
      () => api.list(kind, { namespace: 'default' }).catch(() => undefined),
      list => list !== undefined,
      20_000,
    )
}

export function startHere(
  kubeconfig: string,
  namespace: string,
  image: string | undefined = IMAGE,
  clock: Clock = systemClock,
): Promise<RunningOperator> {
  return startOperator(
    {
      kubeconfig,
      namespaces: [namespace],
      leaderElect: false,
      metricsHost: '127.0.0.1',
      metricsPort: 0,
      ...(image !== undefined && { databaseImage: image }),
      workers: 8,
    },
    clock,
    createLog({ name: 'operator', level: process.env.KVIDX_TEST_LOG ? 'Debug' : 'Error' }).logger,
  )
}

export function database(namespace: string, name: string, spec: object = {}): KvidxDatabase & KubeObject {
  return {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxDatabase',
    metadata: { name, namespace },
    spec: { storage: { size: '1Gi' }, ...spec },
  } as KvidxDatabase & KubeObject
}

/** What people's tools do: apply under another manager than the operator's. */
export function userApply(api: KubeApi, object: KubeObject): Promise<KvidxDatabase & KubeObject> {
  return api.apply(DATABASES, object, { fieldManager: 'kubectl' })
}

export function find(api: KubeApi, resource: Resource, namespace: string, name: string): Promise<Any | undefined> {
  return undefinedIfMissing(api.get<Any>(resource, { namespace, name }))
}

export function conditionOf(object: Any | KvidxDatabase | undefined, type: string): Condition | undefined {
  return object?.status?.conditions?.find((condition: Condition) => condition.type === type)
}

/** Waits until the database has a condition with this reason. */
export async function reason(
  api: KubeApi,
  namespace: string,
  name: string,
  type: string,
  wanted: string,
): Promise<Any> {
  const seen = await eventually(
    () => find(api, DATABASES, namespace, name),
    object => conditionOf(object, type)?.reason === wanted,
  )
  return seen as Any
}

/** Everything that a database owns or leaves behind, as `Kind/name`, sorted. */
export async function objectsOf(api: KubeApi, namespace: string, name: string): Promise<readonly string[]> {
  const lists = await Promise.all(
    OWNED.map(resource => api.list(resource, { namespace, labelSelector: `kvidx.io/database=${name}` })),
  )
  return lists
    .flatMap(list => list.items)
    .map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    .toSorted()
}

const OWNED = [
  resources.SERVICE_ACCOUNTS,
  resources.ROLES,
  resources.ROLE_BINDINGS,
  resources.CONFIG_MAPS,
  resources.SECRETS,
  resources.SERVICES,
  resources.NETWORK_POLICIES,
  resources.POD_DISRUPTION_BUDGETS,
  resources.STATEFUL_SETS,
  resources.CRON_JOBS,
  resources.PODS,
  resources.PERSISTENT_VOLUME_CLAIMS,
]
