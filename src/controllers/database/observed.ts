import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import type { Reason } from '../../api/v1alpha1/reasons.ts'
import type { Job } from '../../kube/job.ts'
import type { KubeObject, Resource, StatusCondition } from '../../kube/object.ts'
import type { BackupRecord } from '../backup/record.ts'
import type { StatefulSet } from './objects/stateful-set.ts'

export interface Pod extends KubeObject {
  readonly spec: {
    readonly nodeName?: string
    readonly containers: readonly { readonly name: string; readonly image?: string }[]
  }
  readonly status?: {
    readonly phase?: string
    readonly podIP?: string
    readonly reason?: string
    readonly conditions?: readonly StatusCondition[]
    readonly containerStatuses?: readonly ContainerStatus[]
    readonly initContainerStatuses?: readonly ContainerStatus[]
  }
}

export interface ContainerStatus {
  readonly name: string
  readonly ready: boolean
  readonly restartCount: number
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string }
    readonly running?: object
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number }
  }
  readonly lastState?: { readonly terminated?: { readonly reason?: string; readonly exitCode?: number } }
}

export interface Claim extends KubeObject {
  readonly spec: {
    readonly resources: { readonly requests: { readonly storage: string } }
    readonly storageClassName?: string
    readonly volumeName?: string
  }
  readonly status?: {
    readonly phase?: string
    readonly capacity?: { readonly storage?: string }
    readonly conditions?: readonly StatusCondition[]
  }
}

export interface Node extends KubeObject {
  readonly spec?: { readonly taints?: readonly { readonly key: string; readonly effect: string }[] }
  readonly status?: {
    readonly conditions?: readonly StatusCondition[]
  }
}

/** What the operations port of a pod said last. */
export interface Probe {
  /** Unix ms */
  readonly time: number
  /** uid of the pod that answered. */
  readonly pod: string
  /** Absent: no answer. */
  readonly status?: ProbeStatus
  readonly error?: string
}

/** The members of `/status` that are read here. */
export interface ProbeStatus {
  readonly ready: boolean
  readonly state: string
  readonly lifecycle?: string
  readonly lineage?: string
  readonly engineVersion?: string
  readonly health?: {
    readonly state: string
    readonly causes: readonly { readonly reason: string; readonly message: string; readonly since: number }[]
  }
  readonly failure?: {
    readonly code: string
    readonly message: string
    readonly details: Readonly<Record<string, unknown>>
  }
  readonly start?: { readonly volume?: string; readonly foreignWrites?: boolean }
  /** How damaged files were last replaced. */
  readonly recovery?: {
    readonly action: string
    readonly quarantine: string
    readonly reached: string
    readonly records: string
    readonly lost?: string
  }
  readonly data?: {
    readonly position: string
    readonly count: string
    readonly dataBytes: string
    readonly digest: string
  }
  readonly storage?: { readonly fileBytes: number; readonly walBytes?: number; readonly fragmentation: number } | null
  readonly volume?: {
    readonly size: number
    readonly free: number
    readonly daysUntilFull?: number
    readonly quarantine?: { readonly entries: number; readonly bytes: number; readonly oldest?: number }
  }
  readonly backup?: Readonly<Record<string, unknown>>
  /** Names of consumers of the change log that no longer find in it what they need. */
  readonly trimmedConsumers?: readonly string[]
}

/** Everything that one reconcile looks at, read from memory. */
export interface Observed {
  readonly database: KvidxDatabase
  readonly statefulSet: StatefulSet | undefined
  /** Owned objects by plural name. */
  readonly owned: ReadonlyMap<string, readonly KubeObject[]>
  readonly authSecret: KubeObject | undefined
  readonly pods: readonly Pod[]
  /** Data claims, by ordinal. */
  readonly claims: readonly Claim[]
  /** The claim of the pod, where it is none of `claims`: one that somebody made without our labels. */
  readonly strayClaim?: KubeObject | undefined
  /** KvidxBackups of the database. */
  readonly backups?: readonly BackupRecord[]
  /** The Job that reads a store that was not seen before. */
  readonly catalogJob?: Job | undefined
  /** The KvidxBackup that bootstrap.restore names, if it has a record. */
  readonly bootstrapBackup?: BackupRecord | undefined
  /** The volume of backups. */
  readonly backupClaim?: Claim | undefined
  readonly nodes: ReadonlyMap<string, Node>
  readonly probe: Probe | undefined
  /** Whether the class of the data claim can expand; undefined: not known. */
  readonly expandable: boolean | undefined
  readonly namespaceTerminating: boolean
  /** VolumeSnapshot that deletionPolicy Snapshot asked for. */
  readonly finalSnapshot:
    | (KubeObject & {
        readonly status?: { readonly readyToUse?: boolean; readonly error?: { readonly message?: string } }
      })
    | undefined
}

/** One change of the cluster. */
export type Action =
  /**
   * What we own is made, or changed by server-side apply. `live`: the object that was seen and is ours; without it, it is created, so that
   * no other's object of the name is taken over.
   */
  | {
      readonly kind: 'apply'
      readonly resource: Resource
      readonly object: KubeObject
      readonly live?: KubeObject
      readonly why: string
    }
  | { readonly kind: 'create'; readonly resource: Resource; readonly object: KubeObject; readonly why: string }
  | {
      readonly kind: 'patch'
      readonly resource: Resource
      readonly namespace: string
      readonly name: string
      readonly body: unknown
      readonly why: string
      /** Told to people once it is done. */
      readonly event?: { readonly reason: Reason; readonly values: Readonly<Record<string, string | number>> }
    }
  | {
      readonly kind: 'delete'
      readonly resource: Resource
      readonly namespace: string
      readonly name: string
      readonly uid: string
      /** Default: Background. */
      readonly propagation?: 'Orphan' | 'Foreground'
      readonly why: string
    }
