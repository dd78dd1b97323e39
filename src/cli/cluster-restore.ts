import { KvidxError } from '../common/errors.ts'
import type { RestoreRecord } from '../controllers/restore/record.ts'
import { type Cluster, followed } from './cluster.ts'
import type { Io } from './io.ts'
import { resultError } from './result-error.ts'

/** `kvidx restore -k`: a KvidxRestore, followed to its end. @param query `backup`, `time` (Unix ms), `position` or `latest` */
export async function restoreInCluster(
  { api, namespace, database }: Cluster,
  query: Readonly<Record<string, string>>,
  options: { readonly dryRun: boolean; readonly atEpoch: string | undefined },
  io: Io,
): Promise<Record<string, unknown>> {
  const { isRestoreTerminal, RESTORES } = await import('../controllers/restore/record.ts')
  const { name: of } = database.metadata
  const epoch = options.atEpoch ?? database.status?.data?.position?.split('.')[0]
  if (epoch === undefined)
    throw new KvidxError(
      'not_ready',
      `KvidxDatabase ${of} has not said its position yet; name its epoch with --at-epoch`,
    )
  const time = new Date()
    .toISOString()
    .replaceAll(/[-:]|\.\d+/g, '')
    .toLowerCase()
  const name = `${of}-${options.dryRun ? 'trial' : 'restore'}-${time}`
  const from = query.time === undefined ? query : { time: new Date(Number(query.time)).toISOString() }
  await api.create(RESTORES, {
    apiVersion: 'kvidx.io/v1alpha1',
    kind: 'KvidxRestore',
    metadata: { namespace, name },
    spec: { database: of, from, atEpoch: Number(epoch), dryRun: options.dryRun },
  } as RestoreRecord)
  const { status } = await followed<RestoreRecord>(io, async () => {
    const now = await api.get<RestoreRecord>(RESTORES, { namespace, name })
    const said = now.status?.conditions?.find(({ type }) => type === 'Ready')?.message
    return isRestoreTerminal(now.status)
      ? { done: now }
      : { stage: `${name}: ${now.status?.phase ?? 'waiting for the operator'} ${said ?? ''}` }
  })
  if (status?.phase !== 'Completed') throw resultError({ name, ...status })
  return { from: Object.values(from)[0], name, ...status }
}
