import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { parseNano } from '../../common/quantity.ts'
import type { KubeObject } from '../../kube/object.ts'
import { DATABASE_LABEL, keptLabelsOf, namesOf } from '../database/names.ts'
import { BACKUP_LABEL, SCHEDULE_LABEL } from './names.ts'
import type { BackupRecord } from './record.ts'

export interface VolumeSnapshot extends KubeObject {
  readonly spec: {
    readonly volumeSnapshotClassName?: string
    readonly source: { readonly persistentVolumeClaimName?: string }
  }
  readonly status?: {
    /** When the copy was taken: from then on the volume may change. */
    readonly creationTime?: string
    readonly readyToUse?: boolean
    readonly restoreSize?: string
    readonly error?: { readonly message?: string }
  }
}

/** What the engine process said of the frozen database. */
export interface FrozenState {
  readonly lineage: string
  readonly engine: string
  readonly position: string
  readonly records: string
  readonly dataBytes: string
  readonly digest: string
}

/** Annotations, so that a snapshot can be understood when nothing else of the cluster is left. */
export const SNAPSHOT = {
  lineage: 'kvidx.io/lineage',
  engine: 'kvidx.io/engine',
  position: 'kvidx.io/position',
  records: 'kvidx.io/records',
  dataBytes: 'kvidx.io/data-bytes',
  digest: 'kvidx.io/digest',
  /** Exact or Crash; absent while it is not known. */
  consistency: 'kvidx.io/consistency',
} as const

/** The VolumeSnapshot of a backup: no owner, like the backup itself. Pure. */
export function volumeSnapshot(database: KvidxDatabase, record: BackupRecord, frozen: FrozenState): VolumeSnapshot {
  const { name, namespace } = record.metadata
  const schedule = record.metadata.labels?.[SCHEDULE_LABEL]
  const className = database.spec.storage.volumeSnapshotClassName
  return {
    apiVersion: 'snapshot.storage.k8s.io/v1',
    kind: 'VolumeSnapshot',
    metadata: {
      name,
      ...(namespace !== undefined && { namespace }),
      labels: {
        ...keptLabelsOf(database.metadata.name),
        [BACKUP_LABEL]: name,
        ...(schedule !== undefined && { [SCHEDULE_LABEL]: schedule }),
      },
      annotations: {
        [SNAPSHOT.lineage]: frozen.lineage,
        [SNAPSHOT.engine]: frozen.engine,
        [SNAPSHOT.position]: frozen.position,
        [SNAPSHOT.records]: frozen.records,
        [SNAPSHOT.dataBytes]: frozen.dataBytes,
        [SNAPSHOT.digest]: frozen.digest,
      },
    },
    spec: {
      ...(className !== undefined && { volumeSnapshotClassName: className }),
      source: { persistentVolumeClaimName: namesOf(database.metadata.name).dataClaim(0) },
    },
  }
}

/** Whether it was made for this record. Any other of its name is somebody's own: never taken over, never removed. */
export function isSnapshotOf({ metadata }: VolumeSnapshot, record: BackupRecord): boolean {
  const { labels = {} } = metadata
  return labels[BACKUP_LABEL] === record.metadata.name && labels[DATABASE_LABEL] === record.spec.database
}

/** Bytes of `status.restoreSize`; undefined when the driver does not say. */
export function snapshotBytes({ status }: VolumeSnapshot): number | undefined {
  const nano = status?.restoreSize === undefined ? undefined : parseNano(status.restoreSize)
  return nano === undefined ? undefined : Number(nano / 1_000_000_000n)
}
