import { createHash } from 'node:crypto'
import { milliseconds } from '../../../common/duration.ts'
import type { KubeObject } from '../../../kube/object.ts'
import { cronJobName, drillName, type JobTask, pruneName, TASK_LABEL } from '../../backup/names.ts'
import { ownedMeta } from '../names.ts'
import type { Blueprint } from './blueprint.ts'
import { type JobPodInput, jobLabels, jobSpec } from './job-pod.ts'

export interface CronJob extends KubeObject {
  readonly spec: { readonly schedule: string; readonly timeZone?: string; readonly suspend?: boolean }
  readonly status?: {
    readonly lastScheduleTime?: string
    readonly lastSuccessfulTime?: string
    readonly active?: readonly { readonly name?: string }[]
  }
}

/** Failed Jobs that nobody looked at go after this long, and successful ones, seconds. */
const TTL_SECONDS = 7 * 24 * 3600
const EXTRA_DEADLINE = '6h'
const DRILL_TIMEOUT = '12h'
const PRUNE_TIMEOUT = '2h'

type Backup = NonNullable<Blueprint['spec']['backup']>
type Schedule = Backup['schedules'][number]

/** One for each schedule, one that prunes, and one for drills. They sleep with the database. */
export function cronJobs(blueprint: Blueprint): readonly KubeObject[] {
  const { name, spec } = blueprint
  const { backup } = spec
  if (!backup) return []
  const asleep = blueprint.replicas === 0 || backup.suspend
  const schedules = backup.schedules.map(schedule =>
    cronJob(blueprint, {
      name: cronJobName(name, schedule.name),
      schedule: schedule.schedule,
      task: 'backup',
      suspend: asleep || schedule.suspend,
      startingDeadline: seconds(schedule, 'startingDeadline'),
      timeout: seconds(schedule, 'timeout'),
      pod: { args: ['pod-job', 'backup', '--schedule', schedule.name], store: schedule.type !== 'VolumeSnapshot' },
    }),
  )
  return [...schedules, ...drill(blueprint, backup, asleep), ...prune(blueprint, asleep)]
}

function drill(blueprint: Blueprint, { drill: its }: Backup, asleep: boolean): readonly KubeObject[] {
  if (!its) return []
  const input = {
    name: drillName(blueprint.name),
    schedule: its.schedule,
    task: 'drill' as const,
    suspend: asleep || its.suspend,
    startingDeadline: milliseconds(EXTRA_DEADLINE, 'drill') / 1000,
    timeout: milliseconds(DRILL_TIMEOUT, 'drill') / 1000,
    pod: { args: ['pod-job', 'drill'], store: true },
  }
  return [cronJob(blueprint, input)]
}

/** Also where the bucket decides what is kept: VolumeSnapshots and records are not in it. */
function prune(blueprint: Blueprint, asleep: boolean): readonly KubeObject[] {
  const input = {
    name: pruneName(blueprint.name),
    schedule: pruneSchedule(blueprint.name),
    task: 'prune' as const,
    suspend: asleep,
    startingDeadline: milliseconds(EXTRA_DEADLINE, 'prune') / 1000,
    timeout: milliseconds(PRUNE_TIMEOUT, 'prune') / 1000,
    pod: { args: ['pod-job', 'prune'], store: true },
  }
  return [cronJob(blueprint, input)]
}

interface CronJobInput {
  readonly name: string
  readonly schedule: string
  readonly task: JobTask
  readonly suspend: boolean
  /** seconds */
  readonly startingDeadline: number
  /** seconds */
  readonly timeout: number
  readonly pod: JobPodInput
}

function cronJob(blueprint: Blueprint, input: CronJobInput): KubeObject {
  const { namespace, name, owner, spec } = blueprint
  const job = spec.backup?.job
  const labels = { ...jobLabels(name), [TASK_LABEL]: input.task }
  return {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: ownedMeta(input.name, namespace, name, owner),
    spec: {
      schedule: withoutSeven(input.schedule),
      timeZone: spec.backup?.timeZone ?? 'Etc/UTC',
      suspend: input.suspend,
      // two at once would read the same snapshot twice and want the same volume
      concurrencyPolicy: 'Forbid',
      startingDeadlineSeconds: input.startingDeadline,
      successfulJobsHistoryLimit: job?.successfulHistory ?? 1,
      failedJobsHistoryLimit: job?.failedHistory ?? 3,
      jobTemplate: {
        metadata: { labels },
        spec: { ...jobSpec(blueprint, input.pod, input.timeout), ttlSecondsAfterFinished: TTL_SECONDS },
      },
    },
  } as KubeObject
}

/** Kubernetes knows Sunday as 0 alone. The days that a field with a 7 means, otherwise the schedule as it was written. */
export function withoutSeven(schedule: string): string {
  const fields = schedule.split(' ')
  const days = fields[4]
  if (days === undefined || !days.includes('7')) return schedule
  const numbers = days.split(',').flatMap(part => {
    const [range = '', step = '1'] = part.split('/')
    const [from = '', to = from] = (range === '*' ? '0-6' : range).split('-').map(day => dayNumber(day))
    return Array.from({ length: Number(to) - Number(from) + 1 }, (_, index) => Number(from) + index).filter(
      (_, index) => index % Number(step) === 0,
    )
  })
  return [...fields.slice(0, 4), [...new Set(numbers.map(day => day % 7))].toSorted().join(',')].join(' ')
}

function dayNumber(day: string): string {
  const index = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'].indexOf(day.toUpperCase())
  return index < 0 ? day : String(index)
}

/** Once a day, each database at its own minute, so that a hundred of them do not list one bucket at the same moment. */
export function pruneSchedule(database: string): string {
  const hash = createHash('sha256').update(database).digest().readUInt16BE()
  return `${hash % 60} ${3 + (Math.floor(hash / 60) % 3)} * * *`
}

function seconds(schedule: Schedule, field: 'startingDeadline' | 'timeout'): number {
  return Math.ceil(milliseconds(schedule[field], `spec.backup.schedules[${schedule.name}].${field}`) / 1000)
}
