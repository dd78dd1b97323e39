import { ERRORS, type ErrorCode, KvidxError } from '../common/errors.ts'

/** The error of a result that is no success, so that the exit code says so. */
export function resultError({ name, error, code }: { name?: string; error?: string; code?: string }): KvidxError {
  const known = code !== undefined && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'internal'
  return new KvidxError(known, `${name === undefined ? '' : `${name}: `}${error ?? 'it failed'}`)
}
