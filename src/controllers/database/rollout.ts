import { isTrue } from '../../api/v1alpha1/conditions.ts'
import type { KvidxDatabase } from '../../api/v1alpha1/kvidx-database.ts'
import { milliseconds } from '../../common/duration.ts'
import { TEMPLATE_ANNOTATION } from './names.ts'
import { knowsTemplate, NEWEST_TEMPLATE, type StatefulSet } from './objects/stateful-set.ts'
import { scheduleTimes } from './schedule-times.ts'

/** What the pods of a database run. */
export interface Rollout {
  readonly image: string
  readonly templateVersion: number
  /** A newer default image, which nobody has asked for yet. */
  readonly available?: string
  /** The window is open: the image is the newer default from now on, and must stand in the status before the pods get it. */
  readonly begins?: true
}

export interface RolloutInput {
  readonly database: KvidxDatabase
  readonly statefulSet: StatefulSet | undefined
  /** The operator's. */
  readonly defaultImage: string | undefined
  /** Unix ms */
  readonly now: number
}

/**
 * spec.image, else the image that runs, else the operator's: a newer operator restarts nothing. A newer default is rolled out by updatePolicy
 * Window alone. The template of the pods moves to the newest version only together with the image, since both cost the same restart.
 * Undefined: no image is known. Pure but for time zone data.
 */
export function rolloutOf({ database, statefulSet, defaultImage, now }: RolloutInput): Rollout | undefined {
  const { spec, status } = database
  const current = status?.image ?? imageIn(statefulSet) ?? defaultImage
  if (spec.image !== undefined)
    return { image: spec.image, templateVersion: templateOf(database, spec.image, statefulSet) }
  if (current === undefined) return undefined
  const stays = { image: current, templateVersion: templateOf(database, current, statefulSet) }
  if (defaultImage === undefined || defaultImage === current || isOlder(defaultImage, current)) return stays
  if (!isOpen(database, now)) return { ...stays, available: defaultImage }
  return { image: defaultImage, templateVersion: templateOf(database, defaultImage, statefulSet), begins: true }
}

/** The renderer for a database that is to run an image. Where the status was lost, the StatefulSet says what runs. */
export function templateOf({ status }: KvidxDatabase, image: string, statefulSet: StatefulSet | undefined): number {
  const version = status?.templateVersion ?? versionIn(statefulSet)
  if (version === undefined) return NEWEST_TEMPLATE
  const runs = status?.image ?? imageIn(statefulSet)
  // of a version that only a later operator knows, nothing is to be changed
  return runs === image || runs === undefined || !knowsTemplate(version) ? version : NEWEST_TEMPLATE
}

function versionIn(statefulSet: StatefulSet | undefined): number | undefined {
  const text = statefulSet?.metadata.annotations?.[TEMPLATE_ANNOTATION]
  return text !== undefined && /^\d{1,6}$/.test(text) ? Number(text) : undefined
}

function imageIn(statefulSet: StatefulSet | undefined): string | undefined {
  return statefulSet?.spec.template.spec.containers.find(container => container.name === 'kvidx')?.image
}

/** In the window, and all is well: a database with other trouble is not made to move. */
function isOpen({ spec, status }: KvidxDatabase, now: number): boolean {
  const { type, window } = spec.updatePolicy ?? {}
  if (type !== 'Window' || !window || spec.suspend) return false
  const { conditions } = status ?? {}
  if (!isTrue(conditions, 'Ready') || isTrue(conditions, 'Reconciling') || isTrue(conditions, 'Stalled')) return false
  const { previous } = scheduleTimes(window.schedule, window.timeZone ?? 'Etc/UTC', now)
  return previous !== undefined && now - previous < milliseconds(window.duration ?? '2h', 'spec.updatePolicy.window')
}

const TAGGED = /^(.+):v?(\d+)\.(\d+)\.(\d+)$/

/** The same image with a lower version: an operator that was taken back takes no database back. */
function isOlder(candidate: string, current: string): boolean {
  const [a, b] = [TAGGED.exec(candidate), TAGGED.exec(current)]
  if (!a || !b || a[1] !== b[1]) return false
  const difference = [2, 3, 4].map(part => Number(a[part]) - Number(b[part])).find(part => part !== 0)
  return difference !== undefined && difference < 0
}
