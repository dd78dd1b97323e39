import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { KvidxDatabase } from '../api/v1alpha1/kvidx-database.ts'
import { KvidxError } from '../common/errors.ts'
import type { JobTask } from '../controllers/backup/names.ts'
import type { KubeClient } from '../kube/client.ts'
import type { Job } from '../kube/job.ts'
import type { KubeObject } from '../kube/object.ts'
import type { Io } from './io.ts'
import { stagedProgress } from './progress.ts'

export interface ClusterFlags {
  readonly kubernetes?: string | true
  readonly kubeconfig?: string
  readonly namespace?: string
}

/** What a command understands that can be done in a cluster, by the name of a database. */
export function withCluster(command: Command): Command {
  return command
    .option(
      '-k, --kubernetes [database]',
      'a KvidxDatabase, by name: the work is done in its cluster, as its spec says',
    )
    .option('--kubeconfig <file>', 'how to reach the cluster; default $KUBECONFIG')
}

/** What was given and does not hold in a cluster is refused rather than left out. Errors: invalid_parameter. @param ignored names of options, as in code */
export function refuseInCluster(command: Command, ignored: readonly string[], instead: string): void {
  const given = command.options.find(
    option =>
      ignored.includes(option.attributeName()) && command.getOptionValueSource(option.attributeName()) === 'cli',
  )
  if (given)
    throw new KvidxError('invalid_parameter', `${given.long}: not with --kubernetes; ${instead}`, {
      field: given.long,
    })
}

/** A database of a cluster. */
export interface Cluster {
  readonly api: KubeClient
  readonly namespace: string
  readonly database: KvidxDatabase & KubeObject
}

/** Errors: not_found naming the databases that there are, and what the work throws. */
export async function inCluster<T>(flags: ClusterFlags, work: (cluster: Cluster) => Promise<T>): Promise<T> {
  const { Connection } = await import('../kube/connection.ts')
  const { KubeClient } = await import('../kube/client.ts')
  const { undefinedIfMissing } = await import('../kube/api-error.ts')
  const { DATABASES } = await import('../controllers/database/resource.ts')
  const connection = await Connection.load(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig })
  const api = new KubeClient({ connection })
  try {
    const name = typeof flags.kubernetes === 'string' ? flags.kubernetes : undefined
    if (name === undefined)
      throw new KvidxError('invalid_parameter', '--kubernetes: the name of a KvidxDatabase is needed', {
        field: '--kubernetes',
      })
    const namespace = flags.namespace ?? connection.namespace
    const database = await undefinedIfMissing(api.get<Cluster['database']>(DATABASES, { namespace, name }))
    if (database) return await work({ api, namespace, database })
    const others = (await api.list(DATABASES, { namespace })).items.map(({ metadata }) => metadata.name)
    throw new KvidxError(
      'not_found',
      `there is no KvidxDatabase ${namespace}/${name} (there are: ${others.join(', ') || 'none'}; --namespace names another namespace)`,
      { name },
    )
  } finally {
    await api.close()
  }
}

/** Between two looks, ms. */
const LOOK = 1000

/** Asks until the answer is there. `stage` says meanwhile what is waited for. */
export async function followed<T>(
  io: Io,
  ask: () => Promise<{ readonly stage: string } | { readonly done: T }>,
): Promise<T> {
  const bar = stagedProgress(io)
  try {
    for (;;) {
      const answer = await ask()
      if ('done' in answer) return answer.done
      bar.show(answer.stage, 0)
      await sleep(LOOK)
    }
  } finally {
    bar.end()
  }
}

/** Runs one task of a backup pod, with the store, keys and bounds of the spec, and gives its result line. Errors: internal with what the pod said. */
export async function runTask(
  cluster: Cluster,
  task: JobTask,
  args: readonly string[],
  io: Io,
): Promise<{ readonly failed: boolean; readonly result: Readonly<Record<string, unknown>> }> {
  const { api, namespace, database } = cluster
  const { stateOfJob, taskJob } = await import('../controllers/backup/plan.ts')
  const { JOBS } = await import('../kube/resources.ts')
  if (!database.spec.backup)
    throw new KvidxError('invalid_parameter', `KvidxDatabase ${database.metadata.name} has no spec.backup`, {
      field: 'spec.backup',
    })
  const name = `${database.metadata.name}-${task}-${randomBytes(4).toString('hex')}`
  await api.create(JOBS, taskJob(database, name, task, args))
  const state = await followed<'failed' | 'complete'>(io, async () => {
    const now = stateOfJob(await api.get<Job>(JOBS, { namespace, name }))
    return now === 'failed' || now === 'complete'
      ? { done: now }
      : { stage: `job ${name}: ${await podState(cluster, name)}` }
  })
  const log = await podLog(cluster, name)
  const result = lastResult(log)
  if (!result)
    throw new KvidxError('internal', `job ${name} ended without a result: ${log.trim().split('\n').at(-1) ?? ''}`)
  return { failed: state === 'failed', result }
}

type Pod = KubeObject & {
  readonly status?: {
    readonly phase?: string
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[]
    readonly containerStatuses?: readonly {
      readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } }
    }[]
  }
}

/** Of all attempts, the newest. */
async function newestPod({ api, namespace }: Cluster, job: string): Promise<Pod | undefined> {
  const { PODS } = await import('../kube/resources.ts')
  const { items } = await api.list<Pod>(PODS, { namespace, labelSelector: `batch.kubernetes.io/job-name=${job}` })
  const made = ({ metadata }: Pod) => metadata.creationTimestamp ?? ''
  return items.toSorted((a, b) => made(a).localeCompare(made(b))).at(-1)
}

/** What a person would look for with kubectl while it waits. */
async function podState(cluster: Cluster, job: string): Promise<string> {
  const { status } = (await newestPod(cluster, job)) ?? {}
  const waiting = status?.containerStatuses?.[0]?.state?.waiting
  const unplaced = status?.conditions?.find(({ type, status: its }) => type === 'PodScheduled' && its === 'False')
  const why = waiting?.message ?? waiting?.reason ?? unplaced?.message
  return `${status?.phase ?? 'no pod yet'}${why === undefined ? '' : ` (${why})`}`
}

async function podLog(cluster: Cluster, job: string): Promise<string> {
  const pod = await newestPod(cluster, job)
  if (!pod) return 'no pod was started'
  return cluster.api.raw(`/api/v1/namespaces/${cluster.namespace}/pods/${pod.metadata.name}/log`)
}

function lastResult(log: string): Record<string, unknown> | undefined {
  for (const line of log.split('\n').reverse()) {
    try {
      const value = JSON.parse(line) as Record<string, unknown>
      if (typeof value.phase === 'string' && value.msg === undefined) return value
    } catch {
      // another kind of line
    }
  }
  return undefined
}
