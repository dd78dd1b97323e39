/** What decides whether writes are refused. Bytes. */
export interface Room {
  /** Of the file system. */
  readonly size: number
  readonly free: number
  /** In the engine's log: a checkpoint gives it back. */
  readonly log: number
  /** By which a checkpoint makes the database's own files grow before that. */
  readonly pending: number
  /** Pages in the engine's files that the next records can use. */
  readonly reusable: number
  /** What the engine's own limit (LMDB's map) leaves above the file; undefined: it has none. */
  readonly below?: { readonly limit: number; readonly used: number }
}

export interface SpaceRules {
  readonly reserve: number
  /** Released on entering; room for it must be there before leaving. */
  readonly ballast: number
}

export interface SpaceState {
  readonly active: boolean
  /** Why, while active. */
  readonly message?: string
  /** Not left before, monotonic ms: an engine that said it is full knows better than our figures. */
  readonly holdUntil: number
}

export const ENOUGH_SPACE: SpaceState = { active: false, holdUntil: 0 }

/** Leaving needs a quarter more than entering, so that the state does not flap around the reserve. */
const HYSTERESIS = 1.25
/** How long an engine's own "full" holds, ms. */
const HOLD = 5000
/** Part of an engine's own limit that is kept free as the reserve of it. */
const LIMIT_RESERVE = 0.05

/** The next state. Pure. @param now monotonic ms */
export function judgeSpace(before: SpaceState, room: Room, rules: SpaceRules, now: number): SpaceState {
  const available = Math.max(0, room.free - room.pending) + room.reusable
  const enough = before.active ? rules.reserve * HYSTERESIS + rules.ballast : rules.reserve
  const belowLimit = room.below && room.below.limit - room.below.used
  const enoughBelow = room.below ? room.below.limit * LIMIT_RESERVE * (before.active ? HYSTERESIS : 1) : 0
  const full =
    available < enough
      ? `${mebibytes(available)} of ${mebibytes(room.size)} are free, the reserve is ${mebibytes(rules.reserve)}`
      : belowLimit !== undefined && belowLimit < enoughBelow
        ? `${mebibytes(belowLimit)} are left below the map's limit of ${mebibytes(room.below?.limit ?? 0)}`
        : undefined
  if (full !== undefined) return { active: true, message: full, holdUntil: before.holdUntil }
  if (before.active && now < before.holdUntil) return before
  return ENOUGH_SPACE
}

/** The engine refused a write for want of space: that counts whatever the figures say. @param now monotonic ms */
export function engineIsFull(message: string, now: number): SpaceState {
  return { active: true, message, holdUntil: now + HOLD }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`
}
