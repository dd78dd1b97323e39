import type { Finding } from '../../api/v1alpha1/conditions.ts'
import { FORCE_HIBERNATE, HIBERNATE_LABEL } from '../backup/names.ts'
import { BACKUPS, type BackupRecord, newRecord } from '../backup/record.ts'
import type { Blueprint } from './objects/blueprint.ts'
import type { Action, Observed } from './observed.ts'

/** How a database goes to sleep: not before its last backup is stored. */
export interface HibernationPlan {
  /** With its replicas until it may sleep. */
  readonly blueprint: Blueprint
  readonly actions: readonly Action[]
  readonly findings: readonly Finding[]
}

/** A last backup that failed is tried again after so long, ms. */
const AGAIN = 600_000

/**
 * `hibernate: true` with a destination: first a Full, then zero pods. A failure keeps the database awake unless the annotation
 * kvidx.io/force-hibernate=true says otherwise. Pure. @param now Unix ms
 */
export function planHibernation(blueprint: Blueprint, observed: Observed, now: number): HibernationPlan {
  const { spec, name, namespace } = blueprint
  const { database, statefulSet } = observed
  const sleep: HibernationPlan = { blueprint, actions: [], findings: [] }
  if (!spec.hibernate || !spec.backup) return sleep
  if (database.metadata.annotations?.[FORCE_HIBERNATE] === 'true') return sleep
  // it sleeps already, or never had data
  if (!statefulSet || statefulSet.spec.replicas === 0 || database.status?.lineage === undefined) return sleep
  const { uid = '', generation = 0 } = database.metadata
  // with the uid: backups outlive a database, and one made again under its name counts its generations from 1
  const request = `${uid.slice(0, 8)}-${generation}`
  const attempts = (observed.backups ?? [])
    .filter(({ metadata }) => metadata.labels?.[HIBERNATE_LABEL] === request)
    .toSorted((a, b) => numberOf(a) - numberOf(b))
  const last = attempts.at(-1)
  if (last?.status?.phase === 'Completed') return sleep
  const awake = { ...blueprint, replicas: spec.replicas }
  const reconciling = (detail: string): readonly Finding[] => [
    { type: 'Reconciling', status: 'True', reason: 'Hibernating', values: { detail } },
  ]
  if (last && last.status?.phase !== 'Failed')
    return { blueprint: awake, actions: [], findings: reconciling(`waiting for the last backup ${last.metadata.name}`) }
  const blocked: readonly Finding[] = last
    ? [
        {
          type: 'Stalled',
          status: 'True',
          reason: 'HibernateBlocked',
          values: { error: last.status?.error ?? 'unknown' },
        },
      ]
    : reconciling('making the last backup')
  if (last && Math.abs(now - failedAt(last)) < AGAIN) return { blueprint: awake, actions: [], findings: blocked }
  const object = newRecord({
    namespace,
    name: `${name}-hibernate-${request}-${(last ? numberOf(last) : 0) + 1}`,
    database: name,
    type: 'Full',
    verify: spec.backup.schedules.some(schedule => schedule.verify ?? schedule.type === 'Full'),
    labels: { [HIBERNATE_LABEL]: request },
  })
  return {
    blueprint: awake,
    actions: [{ kind: 'create', resource: BACKUPS, object, why: 'the last backup before it sleeps' }],
    findings: blocked,
  }
}

function numberOf({ metadata }: BackupRecord): number {
  return Number(/-(\d+)$/.exec(metadata.name)?.[1] ?? 0)
}

function failedAt({ status, metadata }: BackupRecord): number {
  const stalled = status?.conditions?.find(({ type }) => type === 'Stalled')?.lastTransitionTime
  return Date.parse(stalled ?? status?.startedAt ?? metadata.creationTimestamp ?? '') || 0
}
