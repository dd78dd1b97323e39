import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { parseSidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { type Clock, systemClock } from '../../../src/common/clock.ts'
import { SLOT_ANNOTATION } from '../../../src/controllers/backup/names.ts'
import { deletionJob, planBackup } from '../../../src/controllers/backup/plan.ts'
import { BACKUPS, newRecord } from '../../../src/controllers/backup/record.ts'
import { cronJobs } from '../../../src/controllers/database/objects/cron-jobs.ts'
import { DATABASES } from '../../../src/controllers/database/resource.ts'
import { RESTORES } from '../../../src/controllers/restore/record.ts'
import type { KubeClient } from '../../../src/kube/client.ts'
import { silentLog } from '../../../src/kube/log.ts'
import type { KubeObject } from '../../../src/kube/object.ts'
import {
  CONFIG_MAPS,
  CRON_JOBS,
  JOBS,
  NAMESPACES,
  PERSISTENT_VOLUME_CLAIMS,
  PODS,
  STATEFUL_SETS,
} from '../../../src/kube/resources.ts'
import type { RunningOperator } from '../../../src/operator/operator.ts'
import { runBackup } from '../../../src/pod-job/backup-run.ts'
import type { JobContext, JobEnd } from '../../../src/pod-job/context.ts'
import { runRestore } from '../../../src/pod-job/restore-run.ts'
import { blueprint, TO_BUCKET, TO_VOLUME } from '../../unit/controllers/backup/blueprints.ts'
import { access, eventually, freshNamespace } from '../kube/access.ts'
import { type Any, conditionOf, database, find, IMAGE, installDefinitions, startHere, userApply } from './harness.ts'

const { kubeconfig = '', missing } = inject('controlPlane')

const BACKUP = {
  destination: { volume: { size: '1Gi' } },
  schedules: [{ name: 'daily', schedule: '0 2 * * *' }],
}

describe.skipIf(missing)('backups on a real API server', () => {
  let api: KubeClient
  let namespace: string
  let operator: RunningOperator
  /** How far the operator's clock is ahead, ms. */
  let ahead = 0
  const clock: Clock = {
    now: () => systemClock.now() + ahead,
    monotonic: () => systemClock.monotonic(),
    sleep: (ms, signal) => systemClock.sleep(ms, signal),
    setTimer: (ms, callback) => systemClock.setTimer(ms, callback),
  }

  beforeAll(async () => {
    ;({ api } = await access(kubeconfig))
    await installDefinitions(api)
    namespace = await freshNamespace(api, 'backup')
    operator = await startHere(kubeconfig, namespace, IMAGE, clock)
  })

  afterAll(async () => {
    await operator?.stop()
    await api?.delete(NAMESPACES, { name: namespace })
    await api?.close()
  })

  /** A database whose pod is Ready, as its kubelet would say. */
  const made = async (name: string, spec: object = {}): Promise<Any> => {
    await userApply(api, database(namespace, name, { backup: BACKUP, ...spec }))
    await eventually(
      () => find(api, PODS, namespace, `${name}-0`),
      pod => pod !== undefined,
    )
    const conditions = [{ type: 'Ready', status: 'True' }]
    await api.patch(
      PODS,
      { namespace, name: `${name}-0` },
      { status: { phase: 'Running', conditions } },
      { subresource: 'status', type: 'strategic' },
    )
    return (await eventually(
      () => find(api, DATABASES, namespace, name),
      object => conditionOf(object, 'Ready')?.status === 'True',
    )) as Any
  }
  const backup = (name: string) => find(api, BACKUPS, namespace, name)
  const inPhase = (name: string, phase: string) =>
    eventually(
      () => backup(name),
      object => object?.status?.phase === phase,
    ) as Promise<Any>
  const byHand = (name: string, of: string, spec: object = {}) =>
    api.create(BACKUPS, {
      apiVersion: 'kvidx.io/v1alpha1',
      kind: 'KvidxBackup',
      metadata: { namespace, name },
      spec: { database: of, ...spec },
    } as KubeObject)
  const jobOf = async (label: string, name: string): Promise<Any> => {
    const jobs = await eventually(
      async () => (await api.list<Any>(JOBS, { namespace, labelSelector: `${label}=${name}` })).items,
      items => items.length > 0,
    )
    return jobs[0] as Any
  }
  const podOf = async (job: string): Promise<Any> => {
    const labelSelector = `batch.kubernetes.io/job-name=${job}`
    const pods = await eventually(
      async () => (await api.list<Any>(PODS, { namespace, labelSelector })).items,
      items => items.some(({ status }) => status.phase === 'Pending'),
    )
    return pods.find(({ status }) => status.phase === 'Pending') as Any
  }
  /** What a kubelet says of a pod that ended. */
  const end = async (job: string, exitCode: number) => {
    const { metadata } = await podOf(job)
    const terminated = { exitCode, reason: exitCode === 0 ? 'Completed' : 'Error' }
    const containerStatuses = [
      { name: 'job', ready: false, restartCount: 0, image: 'x', imageID: 'x', state: { terminated } },
    ]
    const phase = exitCode === 0 ? 'Succeeded' : 'Failed'
    await api.patch(
      PODS,
      { namespace, name: metadata.name },
      { status: { phase, containerStatuses } },
      { subresource: 'status', type: 'strategic' },
    )
  }
  const context = (of: string, job: string, answer: () => JobEnd): JobContext => ({
    api,
    namespace,
    database: of,
    job,
    pod: 'here',
    clock: systemClock,
    log: silentLog,
    signal: new AbortController().signal,
    databaseAnswers: () => Promise.resolve(),
    runJob: async () => answer(),
  })
  const completed = (position: string): JobEnd => ({
    exitCode: 0,
    log: '',
    result: JSON.stringify({
      phase: 'Completed',
      type: 'Full',
      position,
      records: '12',
      dataBytes: 3400,
      storedBytes: 2048,
      digest: 'a'.repeat(32),
      location: 'file:///backups/x/',
      startedAt: '2026-11-23T02:00:00.000Z',
      completedAt: new Date().toISOString(),
      verifiedAt: new Date().toISOString(),
    }),
  })
  const inputOf = async (of: string) => {
    const map = (await find(api, CONFIG_MAPS, namespace, `${of}-config`)) as Any
    const config = parseSidecarConfig(map.data['config.json'] as string, 'config.json')
    return { config, flags: [], snapshotVolume: () => Promise.reject(new Error('not asked for')) }
  }

  it('takes all that is rendered, strictly', async () => {
    const record = { ...newRecord({ namespace, name: 'x', database: 'orders', type: 'Full', verify: true }) }
    record.metadata = { ...record.metadata, uid: 'd3f1c0de-0000-4000-8000-000000000002' } as typeof record.metadata
    for (const spec of [TO_VOLUME, TO_BUCKET]) {
      const its = blueprint(spec, 'orders', namespace)
      const options = { dryRun: true, fieldValidation: 'Strict' } as const
      for (const object of cronJobs(its)) await api.create(CRON_JOBS, object, options)
      const conditions = [
        { type: 'Ready', status: 'True', reason: 'Ready', message: '', lastTransitionTime: '' },
      ] as const
      const its2 = { ...database(namespace, 'orders', spec), status: { image: 'kvidx:1', conditions: [...conditions] } }
      const step = planBackup({ record, database: its2, job: undefined })
      if (step.kind !== 'start') throw new Error(`the step is ${step.kind}`)
      await api.create(JOBS, step.job, options)
      await api.create(JOBS, deletionJob(record, its2), options)
    }
  })

  it('makes CronJobs that a database owns, and a volume that nobody owns', async () => {
    const { metadata } = await made('objects')
    const daily = (await find(api, CRON_JOBS, namespace, 'objects-backup-daily')) as Any
    expect(daily.metadata.ownerReferences?.[0]?.uid).toBe(metadata.uid)
    expect(daily.spec.suspend).toBe(false)
    expect(await find(api, CRON_JOBS, namespace, 'objects-prune')).toBeDefined()
    const claim = (await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'objects-backups')) as Any
    expect(claim.metadata.ownerReferences).toBeUndefined()
    // a schedule that is gone takes its CronJob along; the volume stays whatever happens
    await userApply(api, database(namespace, 'objects', { backup: { ...BACKUP, schedules: [] } }))
    await eventually(
      () => find(api, CRON_JOBS, namespace, 'objects-backup-daily'),
      object => object === undefined,
    )
    await userApply(api, database(namespace, 'objects'))
    await eventually(
      () => find(api, CRON_JOBS, namespace, 'objects-prune'),
      object => object === undefined,
    )
    expect(await find(api, PERSISTENT_VOLUME_CLAIMS, namespace, 'objects-backups')).toBeDefined()
  })

  it('runs a backup by hand once, and tells of it at the database', async () => {
    await made('manual')
    await byHand('by-hand', 'manual')
    const job = await jobOf('kvidx.io/backup', 'by-hand')
    await inPhase('by-hand', 'Pending')
    const run = context('manual', job.metadata.name, () => completed('1.7'))
    expect(await runBackup(run, { ...(await inputOf('manual')), name: 'by-hand' })).toBe(0)
    await end(job.metadata.name, 0)
    const done = await inPhase('by-hand', 'Completed')
    expect(done.status).toMatchObject({ position: '1.7', records: 12, size: '2.00 KiB', verification: 'Verified' })
    expect(conditionOf(done, 'Ready')?.status).toBe('True')
    const its = await eventually(
      () => find(api, DATABASES, namespace, 'manual'),
      object => object?.status?.backup?.lastSuccessful?.name === 'by-hand',
    )
    expect(its?.status.backup.lastVerified).toMatchObject({ name: 'by-hand', position: '1.7' })
    expect(conditionOf(its, 'BackupsHealthy')).toMatchObject({ status: 'True', reason: 'BackupsCurrent' })
    expect(conditionOf(its, 'BackupVerified')).toMatchObject({ status: 'True', reason: 'Verified' })
    // again: the record says that it was made
    const never = context('manual', job.metadata.name, () => {
      throw new Error('this must not run')
    })
    expect(await runBackup(never, { ...(await inputOf('manual')), name: 'by-hand' })).toBe(0)
  })

  it('starts when the database comes, and closes a record whose Job failed', async () => {
    await byHand('early', 'later')
    const waiting = await inPhase('early', 'Pending')
    expect(conditionOf(waiting, 'Ready')?.message).toContain('there is no KvidxDatabase later')
    await made('later')
    const job = await jobOf('kvidx.io/backup', 'early')
    // the exit code that says that another attempt is pointless
    await end(job.metadata.name, 2)
    const failed = await inPhase('early', 'Failed')
    expect(failed.status.error).toContain('PodFailurePolicy')
    const its = await find(api, DATABASES, namespace, 'later')
    expect(its?.status.backup?.lastSuccessful).toBeUndefined()
  })

  it('gives every attempt of a scheduled run the same record, and leaves none running', async () => {
    await made('slots')
    const cronJob = (await find(api, CRON_JOBS, namespace, 'slots-backup-daily')) as Any
    const { metadata, spec } = cronJob.spec.jobTemplate
    const name = 'slots-backup-daily-29399160'
    await api.create(JOBS, {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: {
        namespace,
        name,
        labels: metadata.labels,
        annotations: { [SLOT_ANNOTATION]: '2026-11-23T03:00:00+01:00' },
      },
      spec,
    } as KubeObject)
    const record = 'slots-daily-20261123t0200z'
    const failing = (): JobEnd => ({
      exitCode: 1,
      log: '',
      result: JSON.stringify({ phase: 'Failed', error: 'the store is away', code: 'store_unreachable' }),
    })
    const input = { ...(await inputOf('slots')), schedule: 'daily' }
    expect(await runBackup(context('slots', name, failing), input)).toBe(1)
    expect((await inPhase(record, 'Pending')).status.error).toBe('the store is away')
    await end(name, 1)
    await eventually(
      () => find(api, JOBS, namespace, name),
      job => job?.status?.failed === 1,
    )
    // the second attempt is killed without a word
    const killed = context('slots', name, () => {
      throw new Error('killed')
    })
    void runBackup({ ...killed, runJob: () => new Promise(() => {}) }, input).catch(() => {})
    await inPhase(record, 'Running')
    await end(name, 137)
    const failed = await inPhase(record, 'Failed')
    expect(failed.status.error).toContain('BackoffLimitExceeded')
    expect(failed.metadata.labels).toMatchObject({ 'kvidx.io/schedule': 'daily', 'kvidx.io/job': name })
    const its = await eventually(
      () => find(api, DATABASES, namespace, 'slots'),
      object => conditionOf(object, 'BackupsHealthy')?.status === 'False',
    )
    expect(its?.status.backup.schedules[0]).toMatchObject({ name: 'daily', lastBackup: record })
  })

  it('closes the record of a Job that somebody deleted', async () => {
    await made('deleted')
    await byHand('orphan', 'deleted')
    const job = await jobOf('kvidx.io/backup', 'orphan')
    await inPhase('orphan', 'Pending')
    await api.delete(JOBS, { namespace, name: job.metadata.name }, { propagation: 'Background' })
    expect((await inPhase('orphan', 'Failed')).status.code).toBe('job_gone')
  })

  it('deletes the files before the record with deletionPolicy Delete, and not while an increment needs them', async () => {
    await made('policy')
    const complete = async (name: string, status: object) =>
      api.patch(BACKUPS, { namespace, name }, { status: { phase: 'Completed', ...status } }, { subresource: 'status' })
    await byHand('parent', 'policy', { deletionPolicy: 'Delete' })
    await eventually(
      () => backup('parent'),
      object => object?.metadata.finalizers?.includes('kvidx.io/stored-backup') ?? false,
    )
    await complete('parent', { location: 'file:///backups/parent/' })
    await byHand('child', 'policy', { type: 'Incremental' })
    await complete('child', { parent: 'parent', location: 'file:///backups/child/' })
    await api.delete(BACKUPS, { namespace, name: 'parent' })
    const refused = await eventually(
      () => backup('parent'),
      object => conditionOf(object, 'Ready')?.message.includes('child needs this one') ?? false,
    )
    expect(refused?.metadata.deletionTimestamp).toBeDefined()
    await api.delete(BACKUPS, { namespace, name: 'child' })
    const jobs = await eventually(
      async () =>
        (await api.list<Any>(JOBS, { namespace, labelSelector: 'kvidx.io/backup=parent,kvidx.io/task=delete' })).items,
      items => items.length === 1,
    )
    await end(jobs[0]?.metadata.name ?? '', 0)
    await eventually(
      () => backup('parent'),
      object => object === undefined,
    )
  })

  it('makes a last backup before a database sleeps, and stays awake when that fails', async () => {
    const { metadata } = await made('sleepy')
    await api.patch(DATABASES, { namespace, name: 'sleepy' }, { status: { lineage: 'l1' } }, { subresource: 'status' })
    await userApply(api, database(namespace, 'sleepy', { backup: BACKUP, hibernate: true }))
    const name = `sleepy-hibernate-${metadata.uid?.slice(0, 8)}-${Number(metadata.generation) + 1}-1`
    await inPhase(name, 'Pending')
    const replicas = async () => ((await find(api, STATEFUL_SETS, namespace, 'sleepy')) as Any).spec.replicas as number
    expect(await replicas()).toBe(1)
    const job = await jobOf('kvidx.io/backup', name)
    await end(job.metadata.name, 2)
    await inPhase(name, 'Failed')
    await eventually(
      () => find(api, DATABASES, namespace, 'sleepy'),
      object => conditionOf(object, 'Stalled')?.reason === 'HibernateBlocked',
    )
    expect(await replicas()).toBe(1)
    const annotations = { 'kvidx.io/force-hibernate': 'true' }
    await api.patch(DATABASES, { namespace, name: 'sleepy' }, { metadata: { annotations } })
    await eventually(replicas, count => count === 0)
    await eventually(
      () => find(api, CRON_JOBS, namespace, 'sleepy-backup-daily'),
      daily => daily?.spec.suspend === true,
    )
  })

  it('restores in place by a pod, once', async () => {
    await made('restored')
    const spec = { database: 'restored', from: { time: '2026-11-23T14:02:00Z' }, atEpoch: 3 }
    const object = {
      apiVersion: 'kvidx.io/v1alpha1',
      kind: 'KvidxRestore',
      metadata: { namespace, name: 'back' },
      spec,
    }
    await api.create(RESTORES, object as KubeObject)
    const job = await jobOf('kvidx.io/restore', 'back')
    const asked: unknown[] = []
    let looks = 0
    const server = {
      begin: (query: object) => {
        asked.push(query)
        return Promise.resolve({ phase: 'Staging' })
      },
      progress: () =>
        Promise.resolve(
          ++looks === 1
            ? { phase: 'Swapping', target: '3.70' }
            : { phase: 'Completed', target: '3.70', epoch: '4', records: '7', quarantine: 'q-restored' },
        ),
      epochs: () => Promise.resolve([]),
    }
    const never = context('restored', job.metadata.name, () => {
      throw new Error('this must not run')
    })
    expect(await runRestore(never, server, 'back')).toBe(0)
    await end(job.metadata.name, 0)
    const done = (await find(api, RESTORES, namespace, 'back')) as Any
    expect(done.status).toMatchObject({
      phase: 'Completed',
      target: '3.70',
      epoch: 4,
      records: 7,
      quarantine: 'q-restored',
    })
    expect(asked).toEqual([{ time: '2026-11-23T14:02:00Z', atEpoch: '3', wait: 'false' }])
    expect(await runRestore(never, server, 'back')).toBe(0)
    expect(asked.length).toBe(1)
  })

  it('writes nothing at rest', async () => {
    const versions = async () => {
      const lists = await Promise.all(
        [BACKUPS, RESTORES, CRON_JOBS, PERSISTENT_VOLUME_CLAIMS, JOBS, DATABASES].map(one =>
          api.list(one, { namespace }),
        ),
      )
      return lists.flatMap(({ items }) =>
        items.map(({ kind, metadata }) => `${kind}/${metadata.name}@${metadata.resourceVersion}`),
      )
    }
    // what the tests before set off comes to its end first
    const settled = await eventually(
      async () => {
        const before = await versions()
        await new Promise(resolve => setTimeout(resolve, 1500))
        return { before, after: await versions() }
      },
      ({ before, after }) => JSON.stringify(before) === JSON.stringify(after),
      15_000,
    )
    expect(settled.before.length).toBeGreaterThan(10)
    await new Promise(resolve => setTimeout(resolve, 4000))
    expect(await versions()).toEqual(settled.after)
  })
  it('tries to remove files again, ten minutes after that failed', async () => {
    await made('removal')
    await byHand('stuck', 'removal', { deletionPolicy: 'Delete' })
    await eventually(
      () => backup('stuck'),
      object => object?.metadata.finalizers?.includes('kvidx.io/stored-backup') ?? false,
    )
    const status = { phase: 'Completed', location: 'file:///backups/stuck/' }
    await api.patch(BACKUPS, { namespace, name: 'stuck' }, { status }, { subresource: 'status' })
    await api.delete(BACKUPS, { namespace, name: 'stuck' })
    const removal = () => jobOf('kvidx.io/task=delete,kvidx.io/backup', 'stuck')
    const first = await removal()
    await end(first.metadata.name, 2)
    await eventually(removal, ({ status }) =>
      status.conditions?.some(({ type }: { type: string }) => type === 'Failed'),
    )
    const look = (mark: string) =>
      api.patch(BACKUPS, { namespace, name: 'stuck' }, { metadata: { annotations: { look: mark } } })
    await look('early')
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect((await removal()).metadata.uid).toBe(first.metadata.uid)
    ahead = 600_001
    await look('late')
    await eventually(removal, ({ metadata }) => metadata.uid !== first.metadata.uid, 20_000)
    await end((await removal()).metadata.name, 0)
    await eventually(
      () => backup('stuck'),
      object => object === undefined,
    )
  }, 60_000)
})
