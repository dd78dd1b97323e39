import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { backup, ended, says } from './support/backup.ts'
import { Bucket } from './support/bucket.ts'
import { applyDatabase, ready } from './support/database.ts'
import { eventually } from './support/eventually.ts'
import { canBreak, fault } from './support/fault.ts'
import { Direct } from './support/forward.ts'
import { apply, find, get, kubectl, list, type Manifest, patch } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { group } from './support/steps.ts'

const namespace = testNamespace('jobs')
const bucket = new Bucket(namespace)

const MIB = 1024 * 1024
/** With 64 KiB a second a backup of 12 MiB that does not shrink takes minutes: time enough to break it. */
const SLOW = { bandwidthLimit: '64Ki' }

const toBucket = (more: object = {}) => ({
  destination: { s3: bucket.place },
  schedules: [{ name: 'yearly', schedule: '0 0 1 1 *' }],
  scratch: { size: '256Mi' },
  ...more,
})

async function filled(name: string, block: object): Promise<void> {
  await applyDatabase(namespace, name, { backup: block })
  await ready(namespace, name, 240_000)
  const database = new Direct(namespace, name)
  try {
    for (let key = 1; key <= 12; key++) {
      expect((await database.request(`/v1/records/${key}`, { method: 'PUT', body: randomBytes(MIB) })).ok).toBe(true)
    }
  } finally {
    await database.stop()
  }
}

const podsOf = (job: string) => list(namespace, 'pods', `batch.kubernetes.io/job-name=${job}`)

/** Waits until a pod of the backup's Job reads and stores. Not one of those named. */
const working = (name: string, but: readonly string[] = []): Promise<{ job: string; pod: Manifest }> =>
  eventually(
    `a pod works for ${name}`,
    async () => {
      const record = await find(namespace, 'kvbak', name)
      expect(record?.status?.phase, JSON.stringify(record?.status)).toBe('Running')
      const pods = await podsOf(record?.status.job)
      const pod = pods.find(({ metadata, status }) => status?.phase === 'Running' && !but.includes(metadata.name))
      const said = JSON.stringify(record?.status.conditions)
      return pod && said.includes(`pod ${pod.metadata.name}`) ? { job: record?.status.job, pod } : null
    },
    { timeout: 120_000, interval: 500 },
  )

const fast = (name: string) => patch(namespace, 'kvdb', name, { spec: { backup: { bandwidthLimit: null } } })

/** No record says that something is under way when nothing is. */
/** Of this database: the other group's schedule has a run at any time. */
async function nothingRuns(): Promise<void> {
  for (const { metadata, spec, status } of await list(namespace, 'kvbak'))
    if (spec.database === 'killed') expect(status?.phase, metadata.name).toMatch(/^(Completed|Failed)$/)
}

group('a job whose pod dies', [
  [
    'by a signal: a second pod makes the backup',
    async () => {
      await filled('killed', toBucket(SLOW))
      await apply([backup(namespace, 'of-killed', { database: 'killed' })])
      const { pod, job } = await working('of-killed')
      await fast('killed')
      if (canBreak) await fault('container-kill', namespace, pod.metadata.name, 'job')
      else await kubectl(['-n', namespace, 'delete', 'pod', pod.metadata.name, '--grace-period=0', '--force'])
      const { status } = await ended(namespace, 'kvbak', 'of-killed', 300_000)
      expect(status).toMatchObject({ phase: 'Completed', verification: 'Verified', records: 12, job })
      expect(status.error).toBeUndefined()
      expect((await podsOf(job)).length).toBeGreaterThan(1)
    },
  ],
  [
    'by an eviction: it is not counted as a failure, and the record says that it is repeated',
    async () => {
      await patch(namespace, 'kvdb', 'killed', { spec: { backup: SLOW } })
      // what the kubelet mounts is a minute old at most
      await eventually('the limit is in the configuration', async () => {
        const { data } = (await get(namespace, 'configmap', 'killed-config')) as unknown as {
          data: Record<string, string>
        }
        expect(data['config.json']).toContain('"bandwidthLimit": 65536')
      })
      await apply([backup(namespace, 'of-evicted', { database: 'killed' })])
      const { pod, job } = await working('of-evicted')
      await fast('killed')
      const { name } = pod.metadata
      const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace } }
      await kubectl(['create', '--raw', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, '-f', '-'], {
        input: JSON.stringify(eviction),
      })
      const { status } = await ended(namespace, 'kvbak', 'of-evicted', 300_000)
      expect(status).toMatchObject({ phase: 'Completed', verification: 'Verified', records: 12 })
      expect((await get(namespace, 'job', job)).status.failed ?? 0).toBe(0)
    },
  ],
  [
    'because its Job was deleted: the record is closed and says so',
    async () => {
      await patch(namespace, 'kvdb', 'killed', { spec: { backup: SLOW } })
      await apply([backup(namespace, 'of-deleted', { database: 'killed' })])
      const { job } = await working('of-deleted')
      await kubectl(['-n', namespace, 'delete', 'job', job, '--wait=false'])
      const { status } = await ended(namespace, 'kvbak', 'of-deleted')
      expect(status).toMatchObject({ phase: 'Failed', code: 'job_gone' })
      await eventually('its pod is gone', async () => expect(await podsOf(job)).toEqual([]), { timeout: 90_000 })
      await eventually('nothing is left running', nothingRuns)
    },
  ],
])

const SLOT = 60_000
const minute = (schedule: string) => [{ name: 'minute', schedule, timeout: '80s' }]

group('a schedule whose run is too slow', [
  [
    'starts no second one beside it, and ends it at the deadline',
    async () => {
      await filled('slow', toBucket({ ...SLOW, schedules: minute('* * * * *') }))
      const jobs = () => list(namespace, 'jobs', 'kvidx.io/database=slow,kvidx.io/task=backup')
      const first = await eventually(
        'the first run is under way',
        async () => (await jobs()).find(({ status }) => status?.active) ?? null,
        { timeout: 120_000 },
      )
      const began = Date.parse(first.status.startTime)
      const nextSlot = (Math.floor(began / SLOT) + 1) * SLOT
      await new Promise(resolve => setTimeout(resolve, nextSlot + 5000 - Date.now()))
      expect((await jobs()).map(({ metadata }) => metadata.name)).toEqual([first.metadata.name])
      // the run that was due is not to begin as soon as this one has ended
      const block = { bandwidthLimit: null, schedules: minute('0 0 1 1 *') }
      await patch(namespace, 'kvdb', 'slow', { spec: { backup: block } })
      const record = await eventually(
        'its record is closed',
        async () => {
          const [found] = await list(namespace, 'kvbak', `kvidx.io/job=${first.metadata.name}`)
          return found?.status?.phase === 'Failed' ? found : null
        },
        { timeout: 90_000 },
      )
      expect(record.status.error).toContain('DeadlineExceeded')
      const ended = await get(namespace, 'job', first.metadata.name)
      const conditions = ended.status.conditions as { type: string; lastTransitionTime: string }[]
      const failed = conditions.find(({ type }) => type === 'Failed')
      expect(Date.parse(failed?.lastTransitionTime ?? '') - began).toBeGreaterThanOrEqual(80_000)
    },
  ],
  [
    'is told as a failure, until a run succeeds',
    async () => {
      await says(namespace, 'slow', 'BackupsHealthy', { status: 'False', reason: 'BackupFailed' })
      await kubectl(['-n', namespace, 'create', 'job', '--from=cronjob/slow-backup-minute', 'slow-now'])
      await says(namespace, 'slow', 'BackupsHealthy', { status: 'True', reason: 'BackupsCurrent' }, 120_000)
      const { status } = await says(namespace, 'slow', 'BackupVerified', { status: 'True', reason: 'Verified' })
      expect(status.backup.schedules[0].lastSuccess).toBeDefined()
    },
  ],
])
