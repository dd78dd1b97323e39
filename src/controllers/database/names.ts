import type { ObjectMeta, OwnerReference } from '../../kube/object.ts'

/** Names and labels of everything that belongs to one database: design section 5. */

/** On every object of a database; also what the operator's watches are restricted by. */
export const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'kvidx-operator' } as const
export const DATABASE_LABEL = 'kvidx.io/database'
/** Hash of what was applied last, so that a field we no longer name is noticed. */
export const APPLIED_ANNOTATION = 'kvidx.io/applied'
/** Ends the hash of an object that was made by create: its fields are not yet owned by apply. */
export const CREATED_MARK = '.created'
/** Checksum of what the engine must be reopened for. */
export const CONFIG_ANNOTATION = 'kvidx.io/config'
/** On the StatefulSet: version of the renderer of its pod template, for a status that was lost. */
export const TEMPLATE_ANNOTATION = 'kvidx.io/template-version'
export const FINALIZER = 'kvidx.io/deletion'
/** On a data claim that is made from a VolumeSnapshot: the lineage in it. */
export const CLONED_ANNOTATION = 'kvidx.io/cloned-from'
/** On the data claim: when its size was last raised, RFC 3339. The next growth by itself waits for autoGrow.interval from then on. */
export const GROWN_ANNOTATION = 'kvidx.io/grown-at'

export const DATA_PORT = 7400
export const OPERATIONS_PORT = 8080
export const USER_ID = 10001

export interface Names {
  readonly statefulSet: string
  readonly service: string
  readonly readService: string
  readonly headlessService: string
  readonly configMap: string
  readonly authSecret: string
  readonly podAccount: string
  readonly jobAccount: string
  readonly disruptionBudget: string
  readonly networkPolicy: string
  readonly backupClaim: string
  pod(ordinal: number): string
  dataClaim(ordinal: number): string
}

export function namesOf(database: string): Names {
  return {
    statefulSet: database,
    service: database,
    readService: `${database}-ro`,
    headlessService: `${database}-headless`,
    configMap: `${database}-config`,
    authSecret: `${database}-auth`,
    podAccount: database,
    jobAccount: `${database}-backup`,
    disruptionBudget: database,
    networkPolicy: database,
    backupClaim: `${database}-backups`,
    pod: ordinal => `${database}-${ordinal}`,
    dataClaim: ordinal => `data-${database}-${ordinal}`,
  }
}

/** Whether a claim is a data volume of the database: of all that a name may hold, only this one is deleted by deletionPolicy. */
export function isDataClaim(claim: string, database: string): boolean {
  const prefix = `data-${database}-`
  return claim.startsWith(prefix) && /^\d+$/.test(claim.slice(prefix.length))
}

/** Labels of owned objects and of pods. */
export function labelsOf(database: string): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'kvidx',
    'app.kubernetes.io/instance': database,
    'app.kubernetes.io/component': 'database',
    ...MANAGED_BY,
    [DATABASE_LABEL]: database,
  }
}

/** Labels of what must outlive the database: without `instance`, or GitOps tools would prune it. */
export function keptLabelsOf(database: string): Record<string, string> {
  return { 'app.kubernetes.io/name': 'kvidx', ...MANAGED_BY, [DATABASE_LABEL]: database }
}

export function selectorOf(database: string): Record<string, string> {
  return { [DATABASE_LABEL]: database, 'app.kubernetes.io/component': 'database' }
}

export function ownerOf(database: {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly uid?: string }
}): OwnerReference {
  const { name, uid = '' } = database.metadata
  return { apiVersion: database.apiVersion, kind: database.kind, name, uid, controller: true, blockOwnerDeletion: true }
}

/** Metadata of an owned object. */
export function ownedMeta(name: string, namespace: string, database: string, owner: OwnerReference): ObjectMeta {
  return { name, namespace, labels: labelsOf(database), ownerReferences: [owner] }
}
