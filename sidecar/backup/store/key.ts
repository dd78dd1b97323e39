import { KvidxError } from '../../../src/common/errors.ts'

/** S3 allows 1,024 bytes for the whole key; a prefix of the bucket needs some of them. */
const LONGEST_KEY = 900

/**
 * Refuses keys that could leave the store's root or that one of the stores would change on the way: empty segments, `.`, `..`,
 * anything but printable ASCII, and the directory store's own names. Errors: invalid_parameter.
 */
export function checkKey(key: string): void {
  if (key.length === 0 || key.length > LONGEST_KEY)
    throw refused(key, `has ${key.length} characters (allowed: 1 to ${LONGEST_KEY})`)
  for (const segment of key.split('/')) checkSegment(key, segment)
}

/** A prefix of keys: like a key, but its last segment may be incomplete or empty, and all of it may be empty. */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  const segments = prefix.split('/')
  const last = segments.pop() ?? ''
  for (const segment of segments) checkSegment(prefix, segment)
  if (last !== '') checkSegment(prefix, last)
}

function checkSegment(key: string, segment: string): void {
  if (segment === '') throw refused(key, 'has an empty part')
  if (segment === '.' || segment === '..') throw refused(key, `has '${segment}' as a part`)
  if (segment.length > 255) throw refused(key, `has a part of ${segment.length} characters (allowed: 255)`)
  if (!/^[!-.0-[\]-~]+$/.test(segment))
    throw refused(key, 'has a character other than printable ASCII without \\ and space')
  if (segment.startsWith(TEMPORARY)) throw refused(key, `uses the reserved name ${TEMPORARY}`)
}

/** Directory of the directory store in which objects grow until they are whole. */
export const TEMPORARY = '.kvidx-tmp'

function refused(key: string, what: string): KvidxError {
  return new KvidxError('invalid_parameter', `the store key ${JSON.stringify(key.slice(0, 200))} ${what}`, {
    field: 'key',
  })
}
