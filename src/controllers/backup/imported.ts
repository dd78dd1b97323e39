import type { BackupType } from '../../api/v1alpha1/backup.ts'
import type { Clock } from '../../common/clock.ts'
import type { KubeApi } from '../../kube/api.ts'
import { isAlreadyExists, isInvalid } from '../../kube/api-error.ts'
import { parseJobResult } from './job-result.ts'
import { IMPORTED_LABEL, SCHEDULE_LABEL } from './names.ts'
import { BACKUPS, type BackupRecord, changedStatus, newRecord, type StatusChange, statusPatch } from './record.ts'

/** A line of `kvidx job catalog`. */
export interface StoredEntry {
  readonly name: string
  readonly type: BackupType
  readonly verify: boolean
  readonly verification: 'Verified' | 'Failed' | 'Skipped' | 'Pending'
  readonly schedule?: string
}

export interface ImportResult {
  /** Records that are new, or whose status was written now. */
  readonly imported: readonly string[]
  /** Names that have a record already. */
  readonly known: readonly string[]
  /** Names that no Kubernetes object can have, and why. */
  readonly refused: readonly { readonly name: string; readonly why: string }[]
}

/** The record of a backup that only the store knows of. Pure. */
export function importedRecord(
  namespace: string,
  database: string,
  entry: StoredEntry,
): { readonly record: BackupRecord; readonly change: StatusChange } {
  const { name, type, verify, verification, schedule } = entry
  const record = newRecord({
    namespace,
    name,
    database,
    type,
    verify,
    labels: { [IMPORTED_LABEL]: 'true', ...(schedule !== undefined && { [SCHEDULE_LABEL]: schedule }) },
  })
  const { phase, status } = parseJobResult(JSON.stringify(entry))
  return { record, change: { ...status, phase, verification, detail: 'found in the store' } }
}

/**
 * Makes the records that are missing, so that the catalogue of a store outlives the cluster. Nothing is ever removed, and a record that is there is left as it
 * is, unless an import before this one died before it had a status. Rejects with KubeApiError. @param entries newest first: of two with one name that one counts
 */
export async function importRecords(
  api: KubeApi,
  where: { readonly namespace: string; readonly database: string },
  entries: readonly StoredEntry[],
  clock: Clock,
  signal?: AbortSignal,
): Promise<ImportResult> {
  const { namespace, database } = where
  const { items } = await api.list<BackupRecord>(BACKUPS, { namespace, signal })
  const there = new Map(items.map(item => [item.metadata.name, item]))
  const imported: string[] = []
  const known: string[] = []
  const refused: { name: string; why: string }[] = []
  for (const entry of entries) {
    const { record, change } = importedRecord(namespace, database, entry)
    const { name } = record.metadata
    let made = there.get(name)
    if (made?.status?.phase !== undefined) {
      known.push(name)
      continue
    }
    try {
      made ??= await api.create<BackupRecord>(BACKUPS, record, { signal })
    } catch (error) {
      if (isAlreadyExists(error)) known.push(name)
      else if (isInvalid(error)) refused.push({ name, why: (error as Error).message })
      else throw error
      continue
    }
    const status = changedStatus(made, change, clock.now())
    await api.patch(BACKUPS, { namespace, name }, statusPatch(made, status), { subresource: 'status', signal })
    there.set(name, { ...made, status })
    imported.push(name)
  }
  return { imported, known, refused }
}
