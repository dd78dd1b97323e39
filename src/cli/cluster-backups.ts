import type { BackupType } from '../api/v1alpha1/backup.ts'
import { systemClock } from '../common/clock.ts'
import { KvidxError } from '../common/errors.ts'
import { formatBytes } from '../common/quantity.ts'
import type { BackupRecord } from '../controllers/backup/record.ts'
import { type Cluster, followed, runTask } from './cluster.ts'
import { type Io, write } from './io.ts'
import { resultError } from './result-error.ts'
import { fields, table } from './table.ts'

type Output = 'table' | 'json' | undefined

/** `kvidx backup create -k`: a KvidxBackup, followed to its end. */
export async function createRecord(
  { api, namespace, database }: Cluster,
  wanted: { readonly name: string | undefined; readonly type: BackupType; readonly verify: boolean },
  output: Output,
  io: Io,
): Promise<void> {
  const { BACKUPS, isTerminal, newRecord } = await import('../controllers/backup/record.ts')
  const { isAlreadyExists } = await import('../kube/api-error.ts')
  const { manualName } = await import('../../sidecar/job/names.ts')
  const { type } = wanted
  const name = wanted.name ?? manualName(database.metadata.name, systemClock.now())
  const verify = wanted.verify && type !== 'VolumeSnapshot'
  try {
    await api.create(BACKUPS, newRecord({ namespace, name, database: database.metadata.name, type, verify }))
  } catch (error) {
    if (!isAlreadyExists(error)) throw error
    throw new KvidxError('backup_exists', `there is a KvidxBackup ${namespace}/${name} already; choose another name`)
  }
  const record = await followed<BackupRecord>(io, async () => {
    const now = await api.get<BackupRecord>(BACKUPS, { namespace, name })
    const said = now.status?.conditions?.find(({ type: its }) => its === 'Ready')?.message
    return isTerminal(now.status) ? { done: now } : { stage: `${name}: ${said ?? 'waiting for the operator'}` }
  })
  await write(io.output, output === 'json' ? `${JSON.stringify({ name, ...record.status })}\n` : described(record))
  if (record.status?.phase !== 'Completed') throw resultError({ name, ...record.status })
}

/** `kvidx backup list -k` */
export async function listRecords(cluster: Cluster, output: Output, io: Io): Promise<void> {
  const { BACKUPS } = await import('../controllers/backup/record.ts')
  const { api, namespace, database } = cluster
  const all = (await api.list<BackupRecord>(BACKUPS, { namespace })).items
  const time = ({ status, metadata }: BackupRecord) => status?.startedAt ?? metadata.creationTimestamp ?? ''
  const records = all
    .filter(({ spec }) => spec.database === database.metadata.name)
    .toSorted((a, b) => time(a).localeCompare(time(b)))
  const window = database.status?.backup?.recoveryWindow
  if (output === 'json') {
    const document = { namespace, database: database.metadata.name, backups: records, ...(window && { window }) }
    return write(io.output, `${JSON.stringify(document)}\n`)
  }
  const lines = records.map(({ metadata, spec, status }) => [
    metadata.name,
    status?.type ?? spec.type ?? 'Full',
    status?.phase ?? 'Pending',
    status?.position ?? '',
    String(status?.records ?? ''),
    status?.size ?? '',
    status?.verification ?? '',
    status?.completedAt ?? status?.error ?? '',
  ])
  await write(
    io.output,
    table(['NAME', 'TYPE', 'PHASE', 'POSITION', 'RECORDS', 'STORED', 'VERIFIED', 'COMPLETED'], lines),
  )
  if (window?.from !== undefined) await write(io.notes, `every moment from ${window.from} on can be restored\n`)
}

/** `kvidx backup show NAME -k`. Errors: backup_not_found. */
export async function showRecord({ api, namespace }: Cluster, name: string, output: Output, io: Io): Promise<void> {
  const { BACKUPS } = await import('../controllers/backup/record.ts')
  const { undefinedIfMissing } = await import('../kube/api-error.ts')
  const record = await undefinedIfMissing(api.get<BackupRecord>(BACKUPS, { namespace, name }))
  if (!record) throw new KvidxError('backup_not_found', `there is no KvidxBackup ${namespace}/${name}`, { name })
  await write(io.output, output === 'json' ? `${JSON.stringify(record)}\n` : described(record))
}

/** `verify`, `prune`, `drill` and `sync` with -k: in a pod that has the store. Exit code 0 only when it came out well. */
export async function taskInCluster(
  cluster: Cluster,
  task: 'check' | 'prune' | 'drill' | 'catalog',
  args: readonly string[],
  output: Output,
  io: Io,
): Promise<void> {
  const { failed, result } = await runTask(cluster, task, args, io)
  const { results, ...rest } = result as { results?: readonly Record<string, unknown>[] } & Record<string, unknown>
  if (output === 'json')
    await write(io.output, `${JSON.stringify({ database: cluster.database.metadata.name, ...result })}\n`)
  else if (results) {
    const lines = results.map(its =>
      [its.result, its.name, its.position, its.records ?? '?', its.error ?? ''].map(String),
    )
    await write(io.output, table(['RESULT', 'NAME', 'POSITION', 'RECORDS', 'ERROR'], lines))
  } else await write(io.output, fields(inWords(rest)))
  if (failed || result.phase !== 'Completed')
    throw resultError({ error: 'it failed in the cluster', ...(result as { error?: string; code?: string }) })
}

function inWords(result: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(result).map(([name, value]) => [
      name,
      Array.isArray(value)
        ? value.join(', ') || 'nothing'
        : typeof value === 'object' && value !== null
          ? JSON.stringify(value)
          : value,
    ]),
  )
}

function described({ metadata, spec, status }: BackupRecord): string {
  return fields({
    name: metadata.name,
    database: spec.database,
    phase: status?.phase ?? 'Pending',
    type: status?.type ?? spec.type,
    position: status?.position,
    records: status?.records,
    'data size': status?.dataBytes === undefined ? undefined : formatBytes(status.dataBytes),
    'stored size': status?.size,
    digest: status?.digest,
    location: status?.location,
    parent: status?.parent,
    completed: status?.completedAt,
    verified: status?.verifiedAt ?? status?.verification,
    error: status?.error,
  })
}
