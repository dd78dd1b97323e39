import { isDeepStrictEqual } from 'node:util'
import { findCondition, messageOf } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabaseStatus } from '../../api/v1alpha1/database-status.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { REASONS, type Reason } from '../../api/v1alpha1/reasons.ts'
import type { Clock } from '../../common/clock.ts'
import type { KubeApi } from '../../kube/api.ts'
import { isConflict, isNotFound } from '../../kube/api-error.ts'
import { type KubeObject, keyOf } from '../../kube/object.ts'
import type { EventRecorder } from '../../kube/recorder.ts'
import { DATABASES } from './resource.ts'

/** Progress of a database that is being made is told at most so often, ms: its pods take seconds, its objects milliseconds. */
const PROGRESS_INTERVAL = 1000
/** Within this time the cache may still hold the status before our last write, ms. */
const ECHO = 2000

interface Written {
  /** Monotonic ms */
  readonly time: number
  readonly status: KvidxDatabaseStatus
}

export interface StatusWriterOptions {
  readonly api: KubeApi
  readonly recorder: EventRecorder
  readonly clock: Clock
}

/** Writes the status of databases when it differs, and makes an event of each transition. */
export class StatusWriter {
  readonly #options: StatusWriterOptions
  readonly #written = new Map<string, Written>()

  constructor(options: StatusWriterOptions) {
    this.#options = options
  }

  forget(key: string): void {
    this.#written.delete(key)
  }

  /** Resolves with undefined, or with the ms after which a write that can wait is due. Rejects with KubeApiError. */
  async write(
    database: KvidxDatabase & KubeObject,
    status: KvidxDatabaseStatus,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { api, clock } = this.#options
    const after = JSON.parse(JSON.stringify(status)) as KvidxDatabaseStatus
    const now = clock.monotonic()
    const key = keyOf(database.metadata)
    const last = this.#written.get(key)
    const fresh = last !== undefined && now - last.time < ECHO
    // the watch may not have told of our last write yet
    const before = fresh ? last.status : (database.status ?? {})
    if (isDeepStrictEqual(withoutTimes(before), withoutTimes(after))) return undefined
    if (last && now - last.time < PROGRESS_INTERVAL && isProgress(before, after))
      return last.time + PROGRESS_INTERVAL - now
    const { name, namespace } = database.metadata
    try {
      await api.apply(
        DATABASES,
        {
          apiVersion: database.apiVersion,
          kind: database.kind,
          metadata: { name, ...(namespace !== undefined && { namespace }) },
          status: after,
        } as KubeObject,
        { subresource: 'status', signal },
      )
    } catch (error) {
      if (isNotFound(error) || isConflict(error)) return undefined
      throw error
    }
    this.#written.set(key, { time: now, status: after })
    this.#tell(database, before, after)
    return undefined
  }

  #tell(database: KvidxDatabase & KubeObject, before: KvidxDatabaseStatus, after: KvidxDatabaseStatus): void {
    const { updateAvailable, image } = after
    if (updateAvailable !== undefined && updateAvailable !== before.updateAvailable)
      this.#options.recorder.record(database, {
        type: 'Normal',
        reason: 'UpdateAvailable',
        action: 'CompareImages',
        note: messageOf('UpdateAvailable', { image: updateAvailable, current: image ?? '' }),
      })
    const said = new Set<string>()
    for (const condition of after.conditions ?? []) {
      const old = findCondition(before.conditions, condition.type as 'Ready')
      if ((old?.reason === condition.reason && old.status === condition.status) || said.has(condition.reason)) continue
      said.add(condition.reason)
      const entry = REASONS[condition.reason as Reason]
      this.#options.recorder.record(database, {
        type: entry?.severity === 'Normal' ? 'Normal' : 'Warning',
        reason: condition.reason,
        action: `Set${condition.type}`,
        note: condition.message,
      })
    }
  }
}

/** Still on the way, of the same generation, and nothing that a person must know at once. */
function isProgress(before: KvidxDatabaseStatus, after: KvidxDatabaseStatus): boolean {
  if (before.observedGeneration !== after.observedGeneration) return false
  const onItsWay = (status: KvidxDatabaseStatus) =>
    findCondition(status.conditions, 'Ready')?.status === 'False' &&
    (status.conditions ?? []).every(
      ({ type, reason }) =>
        (type !== 'Ready' && type !== 'Reconciling' && type !== 'Stalled') ||
        REASONS[reason as Reason]?.severity === 'Normal',
    )
  return onItsWay(before) && onItsWay(after)
}

/** A transition that the cache does not know yet would get another second each time. */
function withoutTimes(status: KvidxDatabaseStatus): unknown {
  return {
    ...status,
    conditions: status.conditions?.map(({ lastTransitionTime: _time, ...condition }) => condition),
  }
}
