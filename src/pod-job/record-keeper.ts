import type { KvidxBackupStatus } from '../api/v1alpha1/kvidx-backup.ts'
import {
  BACKUPS,
  type BackupRecord,
  changedStatus,
  type NewRecord,
  newRecord,
  type StatusChange,
  statusPatch,
} from '../controllers/backup/record.ts'
import { isAlreadyExists, undefinedIfMissing } from '../kube/api-error.ts'
import type { JobContext } from './context.ts'
import { persist } from './persist.ts'

/** The KvidxBackup that this pod works for. */
export class RecordKeeper {
  readonly #context: JobContext
  #record: BackupRecord

  private constructor(context: JobContext, record: BackupRecord) {
    this.#context = context
    this.#record = record
  }

  /** Creates the record, or takes the one that an earlier attempt made. */
  static async create(context: JobContext, input: NewRecord): Promise<RecordKeeper> {
    const { api, signal } = context
    const record = await persist(context, async () => {
      try {
        return await api.create<BackupRecord>(BACKUPS, newRecord(input), { signal })
      } catch (error) {
        if (!isAlreadyExists(error)) throw error
        return await api.get<BackupRecord>(BACKUPS, { namespace: input.namespace, name: input.name }, { signal })
      }
    })
    return new RecordKeeper(context, record)
  }

  /** Undefined when there is no such record. */
  static async find(context: JobContext, name: string): Promise<RecordKeeper | undefined> {
    const { api, namespace, signal } = context
    const record = await persist(context, () =>
      undefinedIfMissing(api.get<BackupRecord>(BACKUPS, { namespace, name }, { signal })),
    )
    return record && new RecordKeeper(context, record)
  }

  get record(): BackupRecord {
    return this.#record
  }

  get status(): KvidxBackupStatus {
    return this.#record.status ?? {}
  }

  /**
   * Writes a change of the status. False when the record was deleted meanwhile, which is a person's right. Errors: KubeApiError when the API
   * server could not be reached for five minutes.
   */
  async set(change: StatusChange, signal?: AbortSignal): Promise<boolean> {
    const { api, clock } = this.#context
    const { namespace, name } = this.#record.metadata
    const status = changedStatus(this.#record, change, clock.now())
    const body = statusPatch(this.#record, status)
    const written = await persist(
      this.#context,
      () =>
        undefinedIfMissing(
          api.patch<BackupRecord>(BACKUPS, { namespace, name }, body, { subresource: 'status', signal }),
        ),
      signal,
    )
    if (written) this.#record = written
    return written !== undefined
  }
}
