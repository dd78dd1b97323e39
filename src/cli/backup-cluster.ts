import { Command, Option } from 'commander'
import type { KvidxDatabase } from '../api/v1alpha1/kvidx-database.ts'
import { type Clock, systemClock } from '../common/clock.ts'
import { KvidxError } from '../common/errors.ts'
import type { KubeClient } from '../kube/client.ts'
import type { KubeObject } from '../kube/object.ts'
import type { Job } from '../pod-job/context.ts'
import { resultError } from './backup-create.ts'
import { interruptible } from './interrupt.ts'
import { type Io, write } from './io.ts'
import { fields } from './table.ts'

export interface ClusterFlags {
  readonly namespace?: string
  readonly output?: 'table' | 'json'
}

interface Cluster {
  readonly api: KubeClient
  readonly namespace: string
  readonly clock: Clock
  readonly signal: AbortSignal
}

const LOOK_INTERVAL = 1000

/** The cluster of $KUBECONFIG, or that around this pod. */
async function withCluster<T>({ namespace }: ClusterFlags, work: (cluster: Cluster) => Promise<T>): Promise<T> {
  const { KubeClient } = await import('../kube/client.ts')
  const { Connection } = await import('../kube/connection.ts')
  const connection = await Connection.load()
  const api = new KubeClient({ connection })
  const interrupt = interruptible()
  try {
    const { signal } = interrupt
    return await work({ api, namespace: namespace ?? connection.namespace, clock: systemClock, signal })
  } finally {
    interrupt.end()
    await api.close()
  }
}

/** A KvidxBackup by hand, followed to its end. Errors: what it failed with. */
export function createInCluster(
  io: Io,
  database: string,
  name: string | undefined,
  flags: ClusterFlags & { readonly type: 'Full' | 'Incremental'; readonly verify: boolean },
): Promise<void> {
  return withCluster(flags, async ({ api, namespace, clock, signal }) => {
    const { BACKUPS, isTerminal, newRecord } = await import('../controllers/backup/record.ts')
    const { manualName } = await import('../../sidecar/job/names.ts')
    const { type, verify } = flags
    await databaseOf(api, namespace, database)
    const record = newRecord({ namespace, database, name: name ?? manualName(database, clock.now()), type, verify })
    let seen = await api.create(BACKUPS, record, { signal })
    const ref = { namespace, name: record.metadata.name }
    let told = ''
    while (!isTerminal(seen.status)) {
      await clock.sleep(LOOK_INTERVAL, signal)
      seen = await api.get<typeof record>(BACKUPS, ref, { signal })
      const now = seen.status?.conditions?.find(({ type }) => type === 'Ready')?.message ?? ''
      if (now !== told && !isTerminal(seen.status)) await write(io.notes, `${now}\n`)
      told = now
    }
    const { conditions: _, observedGeneration: _generation, ...status } = seen.status ?? {}
    const result = { name: ref.name, ...status }
    await write(io.output, flags.output === 'json' ? `${JSON.stringify(result)}\n` : fields(result))
    if (status.phase !== 'Completed') throw resultError({ ...result, name: ref.name })
  })
}

/** `kvidx backup sync DATABASE`: records of what the store has. */
export function backupSyncCommand(io: Io): Command {
  return new Command('sync')
    .description('Kubernetes: make a KvidxBackup of each backup in the store of a database that has none')
    .argument('<database>', 'KvidxDatabase')
    .option('-n, --namespace <name>', 'its namespace; default: that of the context')
    .addOption(new Option('--output <form>', 'form of the output').choices(['table', 'json']))
    .action((database: string, flags: ClusterFlags) =>
      withCluster(flags, async cluster => {
        const { api, namespace, signal } = cluster
        const { BACKUPS } = await import('../controllers/backup/record.ts')
        const { blueprintFor } = await import('../controllers/backup/plan.ts')
        const { jobName } = await import('../controllers/backup/names.ts')
        const { catalogJob } = await import('../controllers/database/catalog.ts')
        const { JOBS } = await import('../kube/resources.ts')
        const found = await databaseOf(api, namespace, database)
        if (!found.spec.backup)
          throw new KvidxError('invalid_parameter', `KvidxDatabase ${database} has no spec.backup`, { field: 'backup' })
        const records = async () => {
          const { items } = await api.list<KubeObject & { spec: { database: string } }>(BACKUPS, { namespace, signal })
          return items.filter(({ spec }) => spec.database === database).map(({ metadata }) => metadata.name)
        }
        const before = new Set(await records())
        const name = jobName(database, `${found.metadata.uid}/${cluster.clock.now()}`, 'catalog')
        const job = catalogJob(blueprintFor(found), name)
        await api.create(JOBS, job, { signal })
        await ended(cluster, name)
        const after = await records()
        const made = after.filter(record => !before.has(record))
        const result = { database, phase: 'Completed', records: after.length, made }
        await write(
          io.output,
          flags.output === 'json'
            ? `${JSON.stringify(result)}\n`
            : fields({ ...result, made: made.join(', ') || 'none' }),
        )
      }),
    )
}

async function ended({ api, namespace, clock, signal }: Cluster, name: string): Promise<void> {
  const { JOBS } = await import('../kube/resources.ts')
  const { stateOfJob } = await import('../controllers/backup/plan.ts')
  for (;;) {
    const job = await api.get<Job>(JOBS, { namespace, name }, { signal })
    const state = stateOfJob(job)
    if (state === 'complete') return
    if (state === 'failed') throw new KvidxError('internal', `Job ${name} failed: kubectl logs job/${name}`, { name })
    await clock.sleep(LOOK_INTERVAL, signal)
  }
}

/** Errors: invalid_parameter when there is none of the name. */
async function databaseOf(api: KubeClient, namespace: string, name: string): Promise<KvidxDatabase & KubeObject> {
  const { undefinedIfMissing } = await import('../kube/api-error.ts')
  const { DATABASES } = await import('../controllers/database/resource.ts')
  const found = await undefinedIfMissing(api.get<KvidxDatabase & KubeObject>(DATABASES, { namespace, name }))
  if (found) return found
  throw new KvidxError('invalid_parameter', `there is no KvidxDatabase ${name} in namespace ${namespace}`, {
    field: 'database',
  })
}
