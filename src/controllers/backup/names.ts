import { createHash } from 'node:crypto'

/** On a KvidxBackup: the schedule that made it. Together with JOB_LABEL it says that the operator never starts a Job for it. */
export const SCHEDULE_LABEL = 'kvidx.io/schedule'
/** On a KvidxBackup: the Job whose pod made it. */
export const JOB_LABEL = 'kvidx.io/job'
/** On a Job of the operator: the KvidxBackup or KvidxRestore that it works for. */
export const BACKUP_LABEL = 'kvidx.io/backup'
export const RESTORE_LABEL = 'kvidx.io/restore'
/** On a Job: what it does, one of JOB_TASKS. */
export const TASK_LABEL = 'kvidx.io/task'
/** On a KvidxBackup that was rebuilt from the store: it is a catalogue entry, and nothing is ever run for it. */
export const IMPORTED_LABEL = 'kvidx.io/imported'
/** On the last KvidxBackup before hibernation: which database asked for it, and in which generation: `<8 digits of its uid>-<generation>`. */
export const HIBERNATE_LABEL = 'kvidx.io/hibernate'
/** Keeps a KvidxBackup with deletionPolicy Delete until its files are gone. */
export const STORED_FINALIZER = 'kvidx.io/stored-backup'
/** On a KvidxDatabase: `true` lets it go to sleep without a last backup. */
export const FORCE_HIBERNATE = 'kvidx.io/force-hibernate'
/** Put on Jobs by the CronJob controller: the moment they were due, RFC 3339. */
export const SLOT_ANNOTATION = 'batch.kubernetes.io/cronjob-scheduled-timestamp'

export type JobTask = 'backup' | 'prune' | 'delete' | 'drill' | 'restore' | 'catalog' | 'verify' | 'check'

/** Kubernetes' own bound of a Job's name: it is the value of a label of its pods. */
const LONGEST_JOB_NAME = 63

export function cronJobName(database: string, schedule: string): string {
  return `${database}-backup-${schedule}`
}

export function pruneName(database: string): string {
  return `${database}-prune`
}

export function drillName(database: string): string {
  return `${database}-drill`
}

/**
 * Name of the record of a scheduled run: the same for every attempt at one slot, so that a retry finds what the one before it began.
 * @param slot Unix ms; whole minutes give the minute, anything else (a run by hand) the second
 */
export function scheduledName(database: string, schedule: string, slot: number): string {
  const digits = new Date(slot)
    .toISOString()
    .replaceAll(/[-:]|\.\d+/g, '')
    .toLowerCase() // 20261123t020000z
  return `${database}-${schedule}-${slot % 60_000 === 0 ? digits.replace(/00z$/, 'z') : digits}`
}

/** Name of the Job of an object: at most 63 characters, and of this very object even if an earlier one had its name. */
export function jobName(object: string, uid: string, task: JobTask): string {
  const suffix = `-${createHash('sha256').update(`${uid}/${task}`).digest('hex').slice(0, 8)}`
  const readable = object.replaceAll('.', '-').slice(0, LONGEST_JOB_NAME - suffix.length)
  return `${readable.replace(/-+$/, '')}${suffix}`
}
