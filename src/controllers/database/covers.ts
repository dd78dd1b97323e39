import { createHash } from 'node:crypto'
import { parseNano } from '../../common/quantity.ts'

/**
 * Whether a live object has everything that is desired: every field named here has the same value there; what the API server added does not
 * count. Quantities are compared by amount, empty and missing are the same. Pure.
 */
export function covers(desired: unknown, live: unknown): boolean {
  if (desired === undefined || desired === null) return true
  if (Array.isArray(desired)) {
    const there = Array.isArray(live) ? live : []
    return desired.length === there.length && desired.every((item, index) => covers(item, there[index]))
  }
  if (typeof desired === 'object') {
    const there = (typeof live === 'object' && live !== null ? live : {}) as Record<string, unknown>
    return Object.entries(desired).every(
      ([name, value]) =>
        (covers(value, there[name]) || isDropped(name, value, there[name])) &&
        (!WHOLE.has(name) || sameKeys(value, there[name])),
    )
  }
  return desired === live || sameQuantity(desired, live)
}

/** Of most fields the API server does not store the zero value: `readOnly: false` of a mount is not there when it is read. */
function isDropped(name: string, desired: unknown, live: unknown): boolean {
  return live === undefined && (desired === false || desired === '' || desired === 0) && !KEPT_ZEROS.has(name)
}

/** Whose absence means something else than false: one that is not there was removed. */
const KEPT_ZEROS = new Set([
  'automountServiceAccountToken',
  'enableServiceLinks',
  'allowPrivilegeEscalation',
  'readOnlyRootFilesystem',
  'runAsNonRoot',
  'hostUsers',
])

/** Maps that the API replaces as a whole: an entry that somebody added there is drift, elsewhere it may be another's field. */
const WHOLE = new Set(['selector', 'matchLabels', 'nodeSelector'])

function sameKeys(desired: unknown, live: unknown): boolean {
  const keys = (value: unknown) => Object.keys((value ?? {}) as object).length
  return keys(desired) === keys(live)
}

function sameQuantity(a: unknown, b: unknown): boolean {
  if ((typeof a !== 'string' && typeof a !== 'number') || (typeof b !== 'string' && typeof b !== 'number')) return false
  const amount = parseNano(a)
  return amount !== undefined && amount === parseNano(b)
}

/** Hash of a desired object; fields that are dropped from it change the hash, which a comparison with the live object could not tell. */
export function hashOf(desired: unknown): string {
  return createHash('sha256').update(JSON.stringify(desired)).digest('hex').slice(0, 16)
}
