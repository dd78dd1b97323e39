/** One look at both clocks, ms. */
export interface Reading {
  /** Unix */
  readonly wall: number
  readonly monotonic: number
}

export interface ClockState {
  /** What the next readings are compared with. */
  readonly anchor: Reading
  /** Set while the clock is not trusted: why, and since which monotonic moment it has been stable. */
  readonly jump?: { readonly message: string; readonly stableSince: number }
}

/** The wall clock moved more than this against the monotonic one. */
const JUMP = 60_000
/** A database that nobody wrote to for longer may have been away, or the clock is wrong. */
const GAP = 24 * 3600_000
const STABLE = 600_000

/** At the start: is the clock more than a day past the last commit? @param lastCommit Unix ms, 0: none */
export function firstReading(now: Reading, lastCommit: number): ClockState {
  const gap = now.wall - lastCommit
  if (lastCommit === 0 || (gap <= GAP && gap >= -JUMP)) return { anchor: now }
  return { anchor: now, jump: { message: describe(gap, 'the last commit'), stableSince: now.monotonic } }
}

/** The next state. Pure. Slewing, as NTP does it, is no jump: the anchor follows every ten minutes. */
export function nextReading(state: ClockState, now: Reading): ClockState {
  const moved = now.wall - state.anchor.wall - (now.monotonic - state.anchor.monotonic)
  if (Math.abs(moved) > JUMP)
    return { anchor: now, jump: { message: describe(moved, 'where it was'), stableSince: now.monotonic } }
  const anchor = now.monotonic - state.anchor.monotonic > STABLE ? now : state.anchor
  if (state.jump && now.monotonic - state.jump.stableSince < STABLE) return { anchor, jump: state.jump }
  return { anchor }
}

function describe(ms: number, from: string): string {
  const seconds = Math.round(Math.abs(ms) / 1000)
  const amount = seconds > 172_800 ? `${Math.round(seconds / 86_400)} days` : `${seconds} s`
  return `the clock is ${amount} ${ms < 0 ? 'behind' : 'past'} ${from}`
}
