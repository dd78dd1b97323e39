import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import type { SegmentRange } from './layout.ts'
import { follow, Line, type Piece } from './line.ts'
import { type ZonedDate, zonedDate } from './zoned-date.ts'

/** What retention has to know of a backup. */
export interface RetainedBackup {
  /** Unique among the backups given. */
  readonly id: string
  readonly kind: 'Full' | 'Incremental' | 'VolumeSnapshot'
  /** Unix ms: the day, week and month that it counts for. */
  readonly time: number
  /** Of the last commit in it, Unix ms. */
  readonly commitTime: number
  readonly position: Position
  /** Verified, or complete where no verification was asked for. */
  readonly good: boolean
  readonly verified: boolean
  /** Made by hand: never touched. */
  readonly manual: boolean
  /** Increments: what they continue. */
  readonly parent?: { readonly id: string; readonly position: Position }
}

export interface RetainedSegment extends SegmentRange {
  readonly id: string
  /** When it was stored, Unix ms. */
  readonly time: number
}

export interface RetentionPolicy {
  /** How many of the latest days, ISO weeks and months that hold a good Full keep one: 0 or more. */
  readonly daily: number
  readonly weekly: number
  readonly monthly: number
  /** The newest so many good Fulls: 0 or more. */
  readonly last: number
  /** Every moment of so many milliseconds before now stays restorable, as far as it ever was; 0: none. */
  readonly windowMs: number
  /** IANA name: whose midnight ends a day. */
  readonly timeZone: string
  /** The lineage is the database's no more, and somebody named it to be pruned: nothing stays for being the newest verified or a possible parent. */
  readonly ended?: boolean
}

/** Everything of one lineage. */
export interface RetentionInput {
  readonly backups: readonly RetainedBackup[]
  readonly segments: readonly RetainedSegment[]
  readonly epochs: readonly EpochRecord[]
}

export interface Decision {
  readonly id: string
  readonly keep: boolean
  /** Why: all rules that keep it, or the one sentence that lets it go. Never empty. */
  readonly reasons: readonly string[]
}

export interface RetentionPlan {
  /** In the order of the input. */
  readonly backups: readonly Decision[]
  readonly segments: readonly Decision[]
}

const DAY_MS = 86_400_000
const LAST_SEQ = 0xffff_ffff_ffff_ffffn

/**
 * Decides what of one lineage stays. Pure: the same input gives the same plan. Errors: invalid_parameter for a time zone that is not
 * known. @param now Unix ms
 */
export function planRetention(input: RetentionInput, policy: RetentionPolicy, now: number): RetentionPlan {
  const plan = new Plan(input.backups)
  const byTime = [...input.backups].sort((a, b) => a.time - b.time || (a.id < b.id ? -1 : 1))
  keepByCalendar(byTime, 'Full', policy, plan)
  keepByCalendar(byTime, 'VolumeSnapshot', policy, plan)
  if (!policy.ended) keepNewestVerified(byTime, plan)
  const fulls = byTime.filter(backup => backup.kind === 'Full')
  const windowStart = now - policy.windowMs
  const base = windowBase(fulls, policy.windowMs > 0 ? windowStart : now)
  if (policy.windowMs > 0) keepWindow(input, fulls, base, windowStart, plan)
  if (!policy.ended) keepRecent(byTime, now, plan)
  for (const backup of byTime) {
    if (backup.manual) plan.keep(backup, 'made by hand')
    if (!backup.good) keepUnproven(backup, byTime, plan)
  }
  // last: every rule above may have kept an increment
  for (const backup of input.backups) if (plan.isKept(backup.id)) keepParents(backup, plan)
  const nothingLeft = policy.ended && !fulls.some(full => plan.isKept(full.id))
  const segments = input.segments.map(segment =>
    nothingLeft
      ? { id: segment.id, keep: false, reasons: ['no Full of the lineage is kept'] }
      : decideSegment(segment, input.epochs, base, policy.windowMs > 0 ? windowStart : now),
  )
  return { backups: input.backups.map(backup => plan.decision(backup)), segments }
}

class Plan {
  readonly #byId: ReadonlyMap<string, RetainedBackup>
  readonly #reasons = new Map<string, string[]>()

  constructor(backups: readonly RetainedBackup[]) {
    this.#byId = new Map(backups.map(backup => [backup.id, backup]))
  }

  keep(backup: RetainedBackup, reason: string): void {
    const reasons = this.#reasons.get(backup.id)
    if (!reasons) this.#reasons.set(backup.id, [reason])
    else if (!reasons.includes(reason)) reasons.push(reason)
  }

  find(id: string): RetainedBackup | undefined {
    return this.#byId.get(id)
  }

  isKept(id: string): boolean {
    return this.#reasons.has(id)
  }

  decision(backup: RetainedBackup): Decision {
    const reasons = this.#reasons.get(backup.id)
    if (reasons) return { id: backup.id, keep: true, reasons }
    const why =
      backup.kind === 'Incremental'
        ? 'outside the window, and nothing kept continues it'
        : backup.good
          ? 'no rule keeps it'
          : 'not verified, and a newer good backup of its kind exists'
    return { id: backup.id, keep: false, reasons: [why] }
  }
}

/** The last of each of the latest days and ISO weeks, the first of each of the latest months; and the newest few. */
function keepByCalendar(
  byTime: readonly RetainedBackup[],
  kind: 'Full' | 'VolumeSnapshot',
  policy: RetentionPolicy,
  plan: Plan,
): void {
  const good = byTime.filter(backup => backup.kind === kind && backup.good)
  const dated = good.map(backup => ({ backup, date: zonedDate(backup.time, policy.timeZone) }))
  keepUnits(dated, 'day', policy.daily, 'last', plan)
  keepUnits(dated, 'week', policy.weekly, 'last', plan)
  keepUnits(dated, 'month', policy.monthly, 'first', plan)
  if (policy.last > 0)
    for (const backup of good.slice(-policy.last)) plan.keep(backup, `one of the last ${policy.last}`)
}

function keepUnits(
  dated: readonly { readonly backup: RetainedBackup; readonly date: ZonedDate }[],
  unit: keyof ZonedDate,
  count: number,
  which: 'first' | 'last',
  plan: Plan,
): void {
  const chosen = new Map<string, RetainedBackup>()
  for (const { backup, date } of dated) if (which === 'last' || !chosen.has(date[unit])) chosen.set(date[unit], backup)
  const latest = [...chosen.keys()].sort().slice(-count || chosen.size)
  if (count === 0) return
  for (const name of latest) plan.keep(chosen.get(name) as RetainedBackup, `${which} of ${unit} ${name}`)
}

function keepNewestVerified(byTime: readonly RetainedBackup[], plan: Plan): void {
  for (const kind of ['Full', 'VolumeSnapshot'] as const) {
    const newest = byTime.findLast(backup => backup.kind === kind && backup.verified)
    if (newest) plan.keep(newest, `newest verified ${kind}`)
  }
}

/** The Full from which the window's first moment is restored: the newest good one whose commits are all before it, else the oldest. */
function windowBase(fulls: readonly RetainedBackup[], start: number): RetainedBackup | undefined {
  const good = fulls.filter(backup => backup.good)
  return good.findLast(backup => backup.commitTime <= start) ?? good[0]
}

function keepWindow(
  input: RetentionInput,
  fulls: readonly RetainedBackup[],
  base: RetainedBackup | undefined,
  windowStart: number,
  plan: Plan,
): void {
  if (base) plan.keep(base, 'base of the recovery window')
  const inWindow = (backup: RetainedBackup) => backup.time >= windowStart || backup.commitTime >= windowStart
  for (const backup of input.backups) {
    if (backup.kind === 'Incremental' && (inWindow(backup) || (base && backup.commitTime > base.commitTime)))
      plan.keep(backup, 'recovery window')
  }
  // a Full that the changes before it do not lead to is the only way to its moment
  const bases = base ? [base] : []
  for (const full of fulls) {
    if (!full.good || full === base || !inWindow(full) || bases.some(from => leadsTo(input, from, full))) continue
    plan.keep(full, 'recovery window: the changes before it have a gap')
    bases.push(full)
  }
}

/** Whether the changes in the store lead from the one state to the other. */
function leadsTo(input: RetentionInput, from: RetainedBackup, to: RetainedBackup): boolean {
  const line = lineOf(input.epochs, to.position)
  if (!line?.holds(from.position)) return false
  const pieces: Piece<string>[] = []
  for (const { id, epoch, first, last } of input.segments) {
    const limit = line.limit(epoch)
    if (limit !== undefined) pieces.push({ from: first - 1n, to: last < limit ? last : limit, source: id })
  }
  for (const { id, parent, position } of input.backups) {
    if (parent && line.holds(parent.position) && line.holds(position))
      pieces.push({ from: parent.position.seq, to: position.seq, source: id })
  }
  return follow(pieces, from.position.seq, to.position.seq).reached >= to.position.seq
}

/** An increment that is being made now may name any of these as its parent. */
function keepRecent(byTime: readonly RetainedBackup[], now: number, plan: Plan): void {
  const parents = byTime.filter(backup => backup.kind !== 'VolumeSnapshot')
  const dayAgo = now - DAY_MS
  const newestBefore = parents.findLast(backup => backup.time < dayAgo)
  const newestFullBefore = parents.findLast(backup => backup.time < dayAgo && backup.kind === 'Full')
  for (const backup of parents) {
    if (backup.time >= dayAgo || backup === newestBefore || backup === newestFullBefore)
      plan.keep(backup, 'possible parent in the last 24 h')
  }
}

/** What was never proven stays until something newer of its kind is. */
function keepUnproven(backup: RetainedBackup, byTime: readonly RetainedBackup[], plan: Plan): void {
  const newer = byTime.some(other => other.kind === backup.kind && other.good && other.time > backup.time)
  if (!newer && backup.kind !== 'Incremental') plan.keep(backup, 'no newer good backup of its kind exists')
}

function keepParents(backup: RetainedBackup, plan: Plan): void {
  const seen = new Set([backup.id])
  for (let at = backup; at.parent && !seen.has(at.parent.id); ) {
    const parent = plan.find(at.parent.id)
    if (!parent) return
    plan.keep(parent, `${at.id} needs it`)
    seen.add(parent.id)
    at = parent
  }
}

function decideSegment(
  segment: RetainedSegment,
  epochs: readonly EpochRecord[],
  base: RetainedBackup | undefined,
  windowStart: number,
): Decision {
  const keep = (reason: string): Decision => ({ id: segment.id, keep: true, reasons: [reason] })
  const line = base && lineOf(epochs, base.position)
  if (!base || !line) return keep('no good Full comes before it')
  const limit = line.limit(segment.epoch)
  if (limit !== undefined && segment.last <= limit)
    return { id: segment.id, keep: false, reasons: [`before the base of the window, ${base.id}`] }
  // its epoch came after the base, or it left the base's line: another branch, whose moments are in the window for as long
  const known = epochs.find(record => record.epoch === segment.epoch)
  const after = known === undefined || lineOf(epochs, { epoch: segment.epoch, seq: LAST_SEQ })?.holds(base.position)
  if (after) return keep('changes after the base of the window')
  if (segment.time >= windowStart - DAY_MS) return keep('another branch, within the window')
  return { id: segment.id, keep: false, reasons: ['another branch, outside the window'] }
}

function lineOf(epochs: readonly EpochRecord[], head: Position): Line | undefined {
  try {
    return new Line(epochs, head)
  } catch {
    // an incomplete history proves nothing
    return undefined
  }
}
