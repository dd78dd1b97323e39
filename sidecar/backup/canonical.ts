import { createHash } from 'node:crypto'
import { KvidxError } from '../../src/common/errors.ts'

/** Plain data: what a manifest is made of. Numbers are whole and safe; larger ones are decimal strings. */
export type Json = string | number | boolean | readonly Json[] | { readonly [name: string]: Json | undefined }

/** `"sha256":"` + 64 digits + `"}` */
const SEAL_BYTES = 76

/** JSON without white space, members in ascending order of their names. Members that are undefined are left out. */
export function canonicalJson(value: Json): string {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new KvidxError('internal', `${value} is not a whole number that JSON keeps exactly`)
  if (typeof value !== 'object') return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(item => canonicalJson(item as Json)).join(',')}]`
  const members = Object.entries(value as Record<string, Json | undefined>)
    .filter((entry): entry is [string, Json] => entry[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`)
  return `{${members.join(',')}}`
}

/** Canonical JSON of the object with a last member `sha256`: the SHA-256 of all bytes before that member, the comma included. Nothing follows, not even a line end. */
export function seal(value: { readonly [name: string]: Json | undefined }): Buffer {
  const body = canonicalJson(value)
  const before = body === '{}' ? '{' : `${body.slice(0, -1)},`
  return Buffer.from(`${before}"sha256":"${sha256(Buffer.from(before))}"}`)
}

/** Checks the seal and gives the object without it. Errors: backup_corrupt saying what is wrong with `what`. */
export function unseal(bytes: Uint8Array, what: string): Record<string, unknown> {
  const damaged = (why: string) => new KvidxError('backup_corrupt', `${what} ${why}`, { file: what })
  if (bytes.length === 0) throw damaged('is empty')
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const split = source.length - SEAL_BYTES
  const last = split < 1 ? undefined : /^"sha256":"([0-9a-f]{64})"\}$/.exec(source.toString('latin1', split))
  if (!last)
    throw damaged(
      `does not end in its "sha256" member: it is cut off, something follows it, or it was edited (${source.length} bytes)`,
    )
  const found = sha256(source.subarray(0, split))
  if (found !== last[1]) throw damaged(`is damaged: its content has SHA-256 ${found}, it says ${last[1]}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(source.toString('utf8'))
  } catch (thrown) {
    throw damaged(`is not JSON: ${(thrown as Error).message}`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw damaged('is not a JSON object')
  const { sha256: _, ...rest } = parsed as Record<string, unknown>
  return rest
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
