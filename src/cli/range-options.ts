import type { Command } from 'commander'

export interface RangeFlags {
  readonly start?: string
  readonly end?: string
  readonly startExclusive?: true
  readonly endExclusive?: true
}

/** The bounds of every command on a range. */
export function withRange(command: Command): Command {
  return command
    .option('--start <key>', 'first key, decimal or 0x hex')
    .option('--end <key>', 'last key, decimal or 0x hex')
    .option('--start-exclusive', 'begin behind --start')
    .option('--end-exclusive', 'end before --end')
}

/** As parameters of the data API. */
export function rangeQuery(flags: RangeFlags): Record<string, string | boolean | undefined> {
  return {
    start: flags.start,
    end: flags.end,
    startExclusive: flags.startExclusive,
    endExclusive: flags.endExclusive,
  }
}
