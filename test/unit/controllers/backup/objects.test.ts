import { Cron } from 'croner'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cronJobName, jobName, pruneName, scheduledName } from '../../../../src/controllers/backup/names.ts'
import { planBackupClaim } from '../../../../src/controllers/database/objects/backup-claim.ts'
import {
  type CronJob,
  cronJobs,
  pruneSchedule,
  withoutSeven,
} from '../../../../src/controllers/database/objects/cron-jobs.ts'
import { jobPod } from '../../../../src/controllers/database/objects/job-pod.ts'
import type { Claim } from '../../../../src/controllers/database/observed.ts'
import { blueprint, type Spec, TO_BUCKET, TO_VOLUME } from './blueprints.ts'

const yamlOf = (value: unknown) => `${JSON.stringify(value, undefined, 2)}\n`

// biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
const rendered = (spec: Spec): any[] => cronJobs(blueprint(spec)) as any[]
// biome-ignore lint/suspicious/noExplicitAny: as above
const podOf = (cronJob: any) => cronJob.spec.jobTemplate.spec.template.spec

describe('the CronJobs of a database', () => {
  test.each([
    ['volume', TO_VOLUME],
    ['bucket', TO_BUCKET],
  ])('are as agreed for a %s', async (name, spec) => {
    await expect(yamlOf(cronJobs(blueprint(spec)))).toMatchFileSnapshot(`golden/cron-jobs-${name}.json`)
  })

  test('are none without spec.backup, and prune also where the store manages retention: VolumeSnapshots and records are not in it', () => {
    expect(cronJobs(blueprint({ storage: { size: '1Gi' } }))).toEqual([])
    const backup = { ...TO_BUCKET.backup, retention: { managedBy: 'Store' } } as Spec['backup']
    expect(rendered({ ...TO_BUCKET, backup } as Spec).map(job => job.metadata.name)).toEqual([
      'orders-backup-daily',
      'orders-prune',
    ])
  })

  test('run at the times that were asked for, without a day 7, which Kubernetes does not know', () => {
    expect(withoutSeven('0 2 * * 7')).toBe('0 2 * * 0')
    expect(withoutSeven('7 7 7 7 *')).toBe('7 7 7 7 *')
    expect(withoutSeven('@weekly')).toBe('@weekly')
    const day = fc.constantFrom('0', '1', '5', '6', '7', 'MON', 'sat', '5-7', 'FRI-7', '1-7/2', '0-7', '2-4')
    fc.assert(
      fc.property(fc.array(day, { minLength: 1, maxLength: 4 }), days => {
        const schedule = `0 2 * * ${days.join(',')}`
        const rendered = withoutSeven(schedule)
        expect(rendered.split(' ')[4]).not.toContain('7')
        const runs = (text: string) => new Cron(text, { timezone: 'Etc/UTC', paused: true }).nextRuns(20, new Date(0))
        expect(runs(rendered)).toEqual(runs(schedule))
      }),
    )
  })

  test('sleep with the database, with backup.suspend, and each by itself', () => {
    const suspended = (spec: Spec) => rendered(spec).map(job => job.spec.suspend)
    expect(suspended(TO_VOLUME)).toEqual([false, false, true, false])
    expect(suspended({ ...TO_VOLUME, hibernate: true })).toEqual([true, true, true, true])
    const backup = { ...TO_VOLUME.backup, suspend: true } as Spec['backup']
    expect(suspended({ ...TO_VOLUME, backup } as Spec)).toEqual([true, true, true, true])
  })

  test('take deadlines from the schedule, in whole seconds', () => {
    const hourly = rendered(TO_VOLUME)[1]
    expect(hourly.spec.startingDeadlineSeconds).toBe(3600)
    expect(hourly.spec.jobTemplate.spec.activeDeadlineSeconds).toBe(1800)
  })

  test('give the destination to no pod that does not write to it', () => {
    const [, , disk] = rendered(TO_VOLUME)
    const names = podOf(disk).volumes.map((volume: { name: string }) => volume.name)
    expect(names).toEqual(['config', 'auth', 'tmp'])
    expect(podOf(disk).affinity).toBeUndefined()
  })

  test('run beside the database where the volume can be on one node alone', () => {
    const [daily] = rendered(TO_VOLUME)
    const [term] = podOf(daily).affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution
    expect(term.labelSelector.matchLabels).toEqual({
      'kvidx.io/database': 'orders',
      'app.kubernetes.io/component': 'database',
    })
    expect(podOf(rendered(TO_BUCKET)[0]).affinity).toBeUndefined()
  })

  test('have scratch space on the node up to 5Gi, and a volume of its own above', () => {
    const scratch = (size: string) => {
      const backup = { ...TO_BUCKET.backup, scratch: { size, storageClassName: 'scratch' } } as Spec['backup']
      return podOf(rendered({ ...TO_BUCKET, backup } as Spec)[0]).volumes.find(
        (volume: { name: string }) => volume.name === 'scratch',
      )
    }
    expect(scratch('5Gi')).toEqual({ name: 'scratch', emptyDir: { sizeLimit: '5Gi' } })
    expect(scratch('5121Mi').ephemeral.volumeClaimTemplate.spec).toEqual({
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '5121Mi' } },
      storageClassName: 'scratch',
    })
  })

  test('mount the admin token alone, and never the private key of TLS', () => {
    for (const spec of [TO_VOLUME, TO_BUCKET])
      for (const job of rendered(spec)) {
        const secrets = podOf(job).volumes.filter((volume: { secret?: unknown }) => volume.secret)
        for (const { name, secret } of secrets) {
          if (name === 'auth') expect(secret.items).toEqual([{ key: 'admin', path: 'admin' }])
          if (name === 'tls') expect(secret.items.map((item: { key: string }) => item.key)).toEqual(['ca.crt'])
        }
      }
  })

  test('are not selected by the Services of the database', () => {
    for (const job of rendered(TO_VOLUME))
      expect(job.spec.jobTemplate.spec.template.metadata.labels['app.kubernetes.io/component']).toBe('backup')
  })

  test('prune each database at a minute of its own, between 3 and 6', () => {
    const schedules = Array.from({ length: 200 }, (_, index) => pruneSchedule(`db-${index}`))
    for (const schedule of schedules) expect(schedule).toMatch(/^([0-9]|[1-5][0-9]) [345] \* \* \*$/)
    expect(new Set(schedules).size).toBeGreaterThan(80)
  })
})

describe('names', () => {
  test('fit their kinds for the longest names that are allowed', () => {
    const database = 'd'.repeat(32)
    expect(cronJobName(database, 's'.repeat(12)).length).toBeLessThanOrEqual(52)
    expect(pruneName(database).length).toBeLessThanOrEqual(52)
    expect(scheduledName(database, 's'.repeat(12), Date.UTC(2026, 10, 23, 2, 0, 1)).length).toBeLessThanOrEqual(63)
  })

  test('of a scheduled record say the minute, and the second of a run by hand', () => {
    const slot = Date.UTC(2026, 10, 23, 2, 0)
    expect(scheduledName('orders', 'daily', slot)).toBe('orders-daily-20261123t0200z')
    expect(scheduledName('orders', 'daily', slot + 7_123)).toBe('orders-daily-20261123t020007z')
  })

  test('of Jobs are labels and host names, and belong to one object', () => {
    const name = fc.stringMatching(/^[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?$/)
    fc.assert(
      fc.property(name, fc.uuid(), (object, uid) => {
        const job = jobName(object, uid, 'backup')
        expect(job).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/)
        expect(jobName(object, `${uid}x`, 'backup')).not.toBe(job)
        expect(jobName(object, uid, 'delete')).not.toBe(job)
      }),
    )
  })
})

describe('the volume of backups', () => {
  const claim = (storage: string, phase = 'Bound'): Claim => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'orders-backups', namespace: 'shop' },
    spec: { resources: { requests: { storage } } },
    status: { phase },
  })

  test('is made once, without owner and without the label that GitOps tools prune by', () => {
    const [action, ...rest] = planBackupClaim(blueprint(TO_VOLUME), undefined)
    expect(rest).toEqual([])
    expect(action).toMatchObject({
      kind: 'create',
      object: { metadata: { name: 'orders-backups', namespace: 'shop' } },
    })
    const { metadata } = (action as unknown as { object: Claim }).object
    expect(metadata.ownerReferences).toBeUndefined()
    expect(Object.keys(metadata.labels ?? {})).not.toContain('app.kubernetes.io/instance')
  })

  test('grows, does not shrink, and is left alone while it is not bound', () => {
    expect(planBackupClaim(blueprint(TO_VOLUME), claim('10Gi'))).toMatchObject([
      { kind: 'patch', name: 'orders-backups', body: { spec: { resources: { requests: { storage: '20Gi' } } } } },
    ])
    for (const size of ['20Gi', '20480Mi', '30Gi'])
      expect(planBackupClaim(blueprint(TO_VOLUME), claim(size))).toEqual([])
    expect(planBackupClaim(blueprint(TO_VOLUME), claim('10Gi', 'Pending'))).toEqual([])
  })

  test('is never touched when backups go elsewhere or nowhere', () => {
    expect(planBackupClaim(blueprint(TO_BUCKET), claim('1Gi'))).toEqual([])
    expect(planBackupClaim(blueprint({ storage: { size: '1Gi' } }), claim('1Gi'))).toEqual([])
  })
})

test('a pod of a job has what Pod Security restricted asks for, and bounds', () => {
  for (const spec of [TO_VOLUME, TO_BUCKET]) {
    // biome-ignore lint/suspicious/noExplicitAny: rendered objects are looked into freely
    const pod = (jobPod(blueprint(spec), { args: ['pod-job', 'prune'], store: true }) as any).spec
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      runAsUser: 10001,
      seccompProfile: { type: 'RuntimeDefault' },
    })
    const [container] = pod.containers
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    expect(container.resources.limits.memory).toBeDefined()
    expect(pod.serviceAccountName).toBe('orders-backup')
  }
})

test('a CronJob of the status type is what is rendered', () => {
  const [first] = cronJobs(blueprint(TO_VOLUME)) as readonly CronJob[]
  expect(first?.spec.timeZone).toBe('Europe/Berlin')
})
