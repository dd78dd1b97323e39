import type { Finding } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../api/v1alpha1/database-status.ts'
import { formatDuration, milliseconds } from '../../common/duration.ts'
import { cronJobName, SCHEDULE_LABEL } from '../backup/names.ts'
import type { BackupRecord } from '../backup/record.ts'
import { timeText, wantsVerification } from '../backup/record.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { CronJob } from './objects/cron-jobs.ts'
import { type ScheduleTimes, scheduleTimes } from './schedule-times.ts'

type BackupBlock = NonNullable<KvidxDatabaseStatus['backup']>
type ScheduleBlock = NonNullable<BackupBlock['schedules']>[number]
type Backup = NonNullable<Blueprint['spec']['backup']>
type Schedule = Backup['schedules'][number]

/** What the engine process says of the backups that it makes itself: member `backup` of its /status. */
export interface ShippingStatus {
  /** Age of the oldest acknowledged change that is not in the store, ms. */
  readonly age?: number
  /** Changes that are not in the store. */
  readonly changes?: number
  /** Every moment from here on can be restored, Unix ms. */
  readonly from?: number
  readonly error?: { readonly code: string; readonly message: string }
  /** When changes were last lost on the way, Unix ms: only a Full ends that. */
  readonly gap?: number
  readonly drill?: NonNullable<BackupBlock['drill']>
}

type Members = Readonly<Record<string, unknown>>

/** Reads the member `backup` of /status; what it does not know is left out, since a pod can be older or newer than the operator. */
export function shippingOf(backup: Members | undefined): ShippingStatus | undefined {
  if (!backup) return undefined
  const { continuous, catalog, recoveryWindow, drill } = backup as Readonly<Record<string, Members | undefined>>
  const failing = continuous?.failing as Members | undefined
  const conflict = continuous?.state === 'HistoryConflict'
  const message = failing?.message ?? catalog?.error
  const code = conflict ? 'history_conflict' : (failing?.code ?? 'store_unreachable')
  const from = moment(textOf(recoveryWindow?.from))
  const gaps = Array.isArray(continuous?.gaps) ? (continuous.gaps as readonly Members[]) : []
  const gap = Number(gaps.at(-1)?.time)
  return {
    ...(typeof continuous?.rpoMs === 'number' && { age: continuous.rpoMs }),
    ...(typeof continuous?.backlogChanges === 'number' && { changes: continuous.backlogChanges }),
    ...(!Number.isNaN(from) && { from }),
    ...((conflict || message !== undefined) && { error: { code: String(code), message: String(message ?? code) } }),
    ...(!Number.isNaN(gap) && { gap }),
    ...(drill && { drill: drillOf(drill) }),
  }
}

function drillOf(drill: Members): NonNullable<BackupBlock['drill']> {
  const ended = moment(textOf(drill.completedAt))
  const target = textOf(drill.time) ?? textOf(drill.position)
  const error = textOf(drill.error)
  return {
    ...(!Number.isNaN(ended) && { time: timeText(ended) }),
    result: drill.phase === 'Completed' ? 'Succeeded' : 'Failed',
    ...(target !== undefined && { target: target.slice(0, 64) }),
    ...(typeof drill.rtoMs === 'number' && { restoreSeconds: Math.round(drill.rtoMs / 1000) }),
    ...(error !== undefined && { message: error.slice(0, 1024) }),
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

export interface BackupStatusInput {
  readonly blueprint: Blueprint
  /** KvidxBackups of this database. */
  readonly records: readonly BackupRecord[]
  readonly cronJobs: readonly CronJob[]
  readonly shipping: ShippingStatus | undefined
  /** Consumers of the change log that no longer find in it what they need. */
  readonly trimmed?: readonly string[] | undefined
  /** status.backup as it is. */
  readonly before: BackupBlock | undefined
  /** When the database object was made, RFC 3339. */
  readonly created?: string | undefined
  /** Whether BackupVerified stands in the status. */
  readonly judged?: boolean
  /** The store whose backups have records. */
  readonly catalog?: string | undefined
  /** Unix ms */
  readonly now: number
}

export interface BackupStatusOutput {
  readonly block: BackupBlock | undefined
  readonly findings: readonly Finding[]
}

/** Changes that wait longer than this many intervals are behind, but never less than a minute. */
const BEHIND_INTERVALS = 30
const BEHIND_LEAST = 60_000
const TYPES = ['BackupsHealthy', 'BackupVerified'] as const
const NOT_VERIFIED: Finding = { type: 'BackupVerified', status: 'Unknown', reason: 'NotVerified' }
const STORE_CODES = ['store_unreachable', 'store_denied']

/** status.backup, BackupsHealthy and BackupVerified. Pure but for time zone data: the same input at rest gives equal results, whatever `now` is. */
export function backupStatus(input: BackupStatusInput): BackupStatusOutput {
  const { blueprint, before } = input
  const { backup } = blueprint.spec
  if (!backup)
    return {
      block: undefined,
      findings: TYPES.filter(type => type === 'BackupsHealthy' || input.judged).map(type => ({
        type,
        status: 'Unknown',
        reason: 'NoBackups',
      })),
    }
  const view = viewOf(input, backup)
  const block = blockOf(input, view, before)
  // what a sleeping database had stays true, and nothing is due
  const asleep = blueprint.replicas === 0
  return {
    // server-side apply turns an empty object into null, which the schema refuses
    block: Object.keys(block).length > 0 ? block : undefined,
    findings: asleep
      ? []
      : [
          healthy(input, backup, view),
          // what was said of a backup that nobody knows any more must not stand for ever
          verified(view, blueprint.name, block.drill) ?? (input.judged ? NOT_VERIFIED : undefined),
        ].filter(found => found !== undefined),
  }
}

interface View {
  readonly schedules: readonly ScheduleView[]
  readonly successful: BackupRecord | undefined
  readonly verified: BackupRecord | undefined
  /** Newest first, finished ones. */
  readonly finished: readonly BackupRecord[]
}

interface ScheduleView {
  readonly schedule: Schedule
  readonly cronJob: CronJob | undefined
  readonly suspended: boolean
  /** When it last went on after a suspension, RFC 3339. */
  readonly resumed: string | undefined
  readonly times: ScheduleTimes
  /** Newest first. */
  readonly records: readonly BackupRecord[]
  readonly success: BackupRecord | undefined
}

function viewOf({ blueprint, records, cronJobs, before, created, now }: BackupStatusInput, backup: Backup): View {
  const { lineage, name } = blueprint
  // a backup of an earlier life of this name does not protect this one, and one that failed before it came to a lineage does not speak against it
  const ours = records.filter(
    ({ metadata, spec, status }) =>
      spec.database === name &&
      (status?.lineage === undefined
        ? !(moment(metadata.creationTimestamp) < moment(created))
        : !lineage || status.lineage === lineage),
  )
  const finished = ours
    .filter(({ status }) => status?.phase === 'Completed' || status?.phase === 'Failed')
    .toSorted((a, b) => endOf(b) - endOf(a))
  const completed = finished.filter(({ status }) => status?.phase === 'Completed')
  const schedules = backup.schedules.map((schedule): ScheduleView => {
    const mine = finished.filter(({ metadata }) => metadata.labels?.[SCHEDULE_LABEL] === schedule.name)
    const times = scheduleTimes(schedule.schedule, backup.timeZone, now)
    const suspended = blueprint.replicas === 0 || backup.suspend || schedule.suspend
    const known = before?.schedules?.find(({ name }) => name === schedule.name)
    // only a suspended one has no next run, or one whose schedule has none
    const goesOn = known !== undefined && known.nextRun === undefined && !suspended && times.next !== undefined
    return {
      schedule,
      cronJob: cronJobs.find(({ metadata }) => metadata.name === cronJobName(name, schedule.name)),
      suspended,
      resumed: goesOn ? timeText(now) : known?.resumed,
      times,
      records: mine,
      success: mine.find(({ status }) => status?.phase === 'Completed'),
    }
  })
  const verified = completed
    .filter(({ status }) => status?.verifiedAt !== undefined)
    .toSorted((a, b) => moment(b.status?.verifiedAt) - moment(a.status?.verifiedAt))[0]
  return { schedules, successful: completed[0], verified, finished }
}

function blockOf(input: BackupStatusInput, view: View, before: BackupBlock | undefined): BackupBlock {
  const { shipping, blueprint, catalog } = input
  const { successful, verified } = view
  const drill = shipping?.drill ?? before?.drill
  // without an answer of the pod what it said before is the best there is
  const from = shipping?.from === undefined ? before?.recoveryWindow?.from : timeText(shipping.from)
  const continuous = blueprint.spec.backup?.continuous.enabled ?? false
  return {
    ...(successful && { lastSuccessful: referenceTo(successful, successful.status?.completedAt) }),
    ...(verified && { lastVerified: referenceTo(verified, verified.status?.verifiedAt) }),
    // up to now, less what unshippedSeconds says: a `to` that moves would be a write for each look
    ...(continuous && from !== undefined && { recoveryWindow: { from } }),
    ...(view.schedules.length > 0 && { schedules: view.schedules.map(schedule => scheduleBlock(schedule)) }),
    ...(continuous && unshipped(shipping, before)),
    ...(drill && { drill }),
    ...(catalog !== undefined && { catalog }),
  }
}

function referenceTo({ metadata, status }: BackupRecord, time: string | undefined) {
  return {
    name: metadata.name,
    ...(time !== undefined && { time }),
    ...(status?.position !== undefined && { position: status.position }),
  }
}

function scheduleBlock({
  schedule,
  cronJob,
  suspended,
  resumed,
  times,
  records,
  success,
}: ScheduleView): ScheduleBlock {
  const lastRun = cronJob?.status?.lastScheduleTime
  const last = records[0]
  const lastSuccess = success?.status?.completedAt
  return {
    name: schedule.name,
    ...(!suspended && times.next !== undefined && { nextRun: timeText(times.next) }),
    ...(resumed !== undefined && { resumed }),
    ...(lastRun !== undefined && { lastRun }),
    ...(lastSuccess !== undefined && { lastSuccess }),
    ...(last && { lastBackup: last.metadata.name }),
  }
}

/** In coarse steps: a backlog that comes and goes with each write is not worth a write of ours. */
function unshipped(
  shipping: ShippingStatus | undefined,
  before: BackupBlock | undefined,
): Pick<BackupBlock, 'unshippedSeconds'> {
  if (shipping?.age === undefined) return {}
  const seconds = Math.floor(shipping.age / 1000)
  if (shipping.age < BEHIND_LEAST) return { unshippedSeconds: 0 }
  const known = before?.unshippedSeconds ?? 0
  return { unshippedSeconds: known > seconds / 2 && known < seconds * 2 ? known : seconds }
}

/** The worst of what is the matter with making backups. */
function healthy({ shipping, trimmed = [], now }: BackupStatusInput, backup: Backup, view: View): Finding {
  const bad = (reason: Finding['reason'], values: Finding['values'] = {}): Finding => ({
    type: 'BackupsHealthy',
    status: 'False',
    reason,
    values,
  })
  const { error } = shipping ?? {}
  if (error?.code === 'history_conflict') return bad('HistoryConflict', { position: error.message })
  if (error && STORE_CODES.includes(error.code)) return bad('StoreUnreachable', { error: error.message })
  // hand-made ones count as proof that the store works, not as a schedule that does
  const last = view.finished[0]
  if (last?.status?.phase === 'Failed' && STORE_CODES.includes(last.status.code ?? ''))
    return bad('StoreUnreachable', { error: last.status.error ?? '' })
  const failed = view.schedules.find(({ records, suspended }) => !suspended && records[0]?.status?.phase === 'Failed')
  const record = failed?.records[0]
  if (record) return bad('BackupFailed', { backup: record.metadata.name, error: record.status?.error ?? 'unknown' })
  const late = view.schedules.find(schedule => isOverdue(schedule, now))
  if (late)
    return bad('BackupOverdue', {
      schedule: late.schedule.name,
      time: late.success?.status?.completedAt ?? 'never',
    })
  const gap = shipping?.gap
  const full = view.finished.find(({ status }) => status?.phase === 'Completed' && status.type !== 'Incremental')
  if (gap !== undefined && !(endOf(full) > gap)) return bad('ChangeLogTrimmed', { consumer: 'continuous backup' })
  // a name may be that of a schedule that is gone
  const cut = view.schedules.find(
    ({ schedule, suspended }) => !suspended && trimmed.includes(`schedule/${schedule.name}`),
  )
  if (cut) return bad('ChangeLogTrimmed', { consumer: `schedule ${cut.schedule.name}` })
  const behind = behindBy(shipping, backup)
  if (behind) return bad('BackupBehind', behind)
  if (view.schedules.length > 0 && view.schedules.every(({ suspended }) => suspended)) return bad('BackupsSuspended')
  if (view.successful)
    return {
      type: 'BackupsHealthy',
      status: 'True',
      reason: 'BackupsCurrent',
      values: { backup: view.successful.metadata.name, time: view.successful.status?.completedAt ?? '' },
    }
  const next = view.schedules.map(({ times }) => times.next ?? Number.POSITIVE_INFINITY)
  const first = Math.min(...next)
  return {
    type: 'BackupsHealthy',
    status: 'Unknown',
    reason: 'NoBackupYet',
    values: { time: Number.isFinite(first) ? timeText(first) : 'no time: there is no schedule' },
  }
}

/** A whole period has passed since a run was due, and none has succeeded since then. */
export function isOverdue(view: ScheduleView, now: number): boolean {
  const { times, success } = view
  const { beforePrevious } = times
  if (beforePrevious === undefined || beforePrevious > now || !wasDue(view, beforePrevious)) return false
  return !(moment(success?.status?.completedAt) >= beforePrevious)
}

/** A run was due only if the schedule was there and not suspended. @param time Unix ms */
function wasDue({ cronJob, suspended, resumed }: ScheduleView, time: number): boolean {
  if (suspended || !cronJob) return false
  return moment(cronJob.metadata.creationTimestamp) < time && !(moment(resumed) >= time)
}

function behindBy(shipping: ShippingStatus | undefined, backup: Backup): Record<string, string> | undefined {
  const { age, changes = 0 } = shipping ?? {}
  if (!backup.continuous.enabled || age === undefined) return undefined
  const interval = milliseconds(backup.continuous.interval, 'spec.backup.continuous.interval')
  if (age < Math.max(BEHIND_LEAST, BEHIND_INTERVALS * interval)) return undefined
  // in steps of doubling, so that the message does not change at every look
  const step = BEHIND_LEAST * 2 ** Math.floor(Math.log2(age / BEHIND_LEAST))
  return { age: `more than ${formatDuration(step)}`, bytes: `up to ${2 ** Math.ceil(Math.log2(changes + 1))} changes` }
}

function verified(view: View, name: string, drill: BackupBlock['drill']): Finding | undefined {
  const { verified: proof, finished } = view
  const refuted = finished.find(({ status }) => status?.verification === 'Failed')
  const since = moment(proof?.status?.verifiedAt)
  if (refuted && !(since >= endOf(refuted)))
    return {
      type: 'BackupVerified',
      status: 'False',
      reason: 'VerificationFailed',
      values: { backup: refuted.metadata.name, error: refuted.status?.error ?? 'unknown', name },
    }
  // as with a backup: until something newer held
  if (drill?.result === 'Failed' && !(since >= moment(drill.time)))
    return {
      type: 'BackupVerified',
      status: 'False',
      reason: 'DrillFailed',
      values: { time: drill.time ?? 'unknown', error: drill.message ?? 'unknown' },
    }
  if (!proof) {
    const wanted = view.schedules.some(({ schedule }) => schedule.verify) || finished.some(wantsVerification)
    return wanted ? NOT_VERIFIED : undefined
  }
  const values = { backup: proof.metadata.name, time: proof.status?.verifiedAt ?? '' }
  const late = view.schedules.some(
    schedule =>
      schedule.schedule.verify &&
      schedule.times.beforePrevious !== undefined &&
      wasDue(schedule, schedule.times.beforePrevious) &&
      since < schedule.times.beforePrevious,
  )
  return late
    ? { type: 'BackupVerified', status: 'False', reason: 'VerificationOverdue', values }
    : { type: 'BackupVerified', status: 'True', reason: 'Verified', values }
}

function endOf(record: BackupRecord | undefined): number {
  const { metadata, status } = record ?? {}
  return moment(status?.completedAt ?? status?.startedAt ?? metadata?.creationTimestamp)
}

/** Unix ms; NaN when there is no time. */
function moment(text: string | undefined): number {
  return text === undefined ? Number.NaN : Date.parse(text)
}
