import { isTrue } from '../../api/v1alpha1/conditions.ts'
import type { KubeObject } from '../../kube/object.ts'
import { JOBS } from '../../kube/resources.ts'
import { jobName, TASK_LABEL } from '../backup/names.ts'
import { stateOfJob } from '../backup/plan.ts'
import type { Blueprint } from './objects/blueprint.ts'
import { jobLabels, jobSpec } from './objects/job-pod.ts'
import type { Action, Observed } from './observed.ts'

export interface CatalogPlan {
  /** For status.backup.catalog: the store whose backups have records. */
  readonly catalog: string | undefined
  readonly actions: readonly Action[]
}

const DEADLINE_SECONDS = 2 * 3600
/** A Job that failed is made again when it is gone, seconds. */
const TTL_SECONDS = 600

/** What a destination is known by. Not its credentials: they may change. */
export function storeName({ spec, names }: Blueprint): string | undefined {
  const { volume, s3 } = spec.backup?.destination ?? {}
  if (volume) return `volume/${names.backupClaim}`
  return s3 && `s3://${s3.bucket}/${s3.prefix ?? ''}${s3.endpoint === undefined ? '' : `?endpoint=${s3.endpoint}`}`
}

/** Name of the Job that reads the store of a database. */
export function catalogJobName({ name, owner }: Pick<Blueprint, 'name' | 'owner'>): string {
  return jobName(name, owner.uid, 'catalog')
}

/**
 * When a store is seen for the first time its backups get records: one Job, and never again for this store, or records that people deleted
 * would come back. Pure.
 */
export function planCatalog(blueprint: Blueprint, observed: Observed): CatalogPlan {
  const store = storeName(blueprint)
  const known = observed.database.status?.backup?.catalog
  if (store === undefined || known === store) return { catalog: store, actions: [] }
  const state = stateOfJob(observed.catalogJob)
  if (state === 'complete') return { catalog: store, actions: [] }
  const able = blueprint.replicas > 0 && isTrue(observed.database.status?.conditions, 'Ready')
  if (state !== 'absent' || !able) return { catalog: known, actions: [] }
  const why = `backups of ${store} get records`
  return { catalog: known, actions: [{ kind: 'create', resource: JOBS, object: catalogJob(blueprint), why }] }
}

/**
 * The storage class that data and backups share, told once for each store: when it is known for the first time. Undefined where they lie apart.
 * @param catalog status.backup.catalog from now on
 */
export function sharedClass(
  { database, claims, backupClaim }: Observed,
  catalog: string | undefined,
): string | undefined {
  if (catalog === undefined || catalog === database.status?.backup?.catalog) return undefined
  const backups = backupClaim?.spec.storageClassName
  return catalog.startsWith('volume/') && claims.some(({ spec }) => spec.storageClassName === backups)
    ? backups
    : undefined
}

/** Also what `kvidx backup sync` starts, under another name. */
export function catalogJob(blueprint: Blueprint, name = catalogJobName(blueprint)): KubeObject {
  const { namespace, name: database, owner } = blueprint
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: {
      name,
      namespace,
      labels: { ...jobLabels(database), [TASK_LABEL]: 'catalog' },
      ownerReferences: [owner],
    },
    spec: {
      ...jobSpec(blueprint, { args: ['pod-job', 'catalog'], store: true }, DEADLINE_SECONDS),
      ttlSecondsAfterFinished: TTL_SECONDS,
    },
  } as KubeObject
}
