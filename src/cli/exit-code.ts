import { CommanderError } from 'commander'
import { type ErrorCode, KvidxError } from '../common/errors.ts'

/** What the shell is told; `kvidx help` lists them. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  conditionFailed: 4,
  unreachable: 5,
  denied: 6,
  later: 7,
  interrupted: 130,
} as const

export const EXIT_HELP = `Exit codes:
  0    done
  1    failed
  2    wrong usage: an argument, a value, a file that cannot be read as what it should be
  3    there is no such record, or no such thing
  4    a condition does not hold, or a key exists already
  5    the server cannot be reached
  6    the token is missing, wrong, or does not allow this
  7    not now: overloaded, starting, stopping or out of space; the same command can succeed later
  130  interrupted`

/** The server did not answer: refused, unknown host, cut. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable'
}

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  not_found: EXIT.notFound,
  backup_not_found: EXIT.notFound,
  condition_failed: EXIT.conditionFailed,
  duplicate_key: EXIT.conditionFailed,
  unauthorized: EXIT.denied,
  forbidden: EXIT.denied,
  store_denied: EXIT.denied,
  store_unreachable: EXIT.unreachable,
  too_large: EXIT.usage,
}

export function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (thrown instanceof Unreachable) return EXIT.unreachable
  if (!(thrown instanceof KvidxError)) return EXIT.failed
  const known = BY_CODE[thrown.code]
  if (known !== undefined) return known
  if (thrown.retryable) return EXIT.later
  return thrown.status === 400 || thrown.status === 422 ? EXIT.usage : EXIT.failed
}
