import { KvidxError } from '../common/errors.ts'

/** A port number from a flag. Errors: invalid_parameter. */
export function portFlag(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN
  if (!(port <= 65535))
    throw new KvidxError('invalid_parameter', `${flag}: '${text}' is not a port (allowed: 0 to 65535)`, { field: flag })
  return port
}
