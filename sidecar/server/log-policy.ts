import type { Rights } from './endpoint.ts'

/** Which calls of the data API are written to the log. Read at each call, so that a change counts at once. */
export interface LogPolicy {
  /** Calls slower than this are logged, ms. Streams are not: they take as long as their client. */
  readonly slowOperation: number
  /** Calls that are logged whatever they take: administration, changes too, or everything. */
  readonly audit: 'None' | 'Admin' | 'Write' | 'All'
}

export const DEFAULT_LOG_POLICY: LogPolicy = { slowOperation: 100, audit: 'None' }

const AUDITED: Readonly<Record<LogPolicy['audit'], readonly Rights[]>> = {
  None: [],
  Admin: ['admin'],
  Write: ['admin', 'write'],
  All: ['admin', 'write', 'read'],
}

/** By the rights that a call needs, whether its caller has them or not: who was refused is worth knowing, too. */
export function isAudited({ audit }: LogPolicy, needed: Rights): boolean {
  return audit !== 'None' && AUDITED[audit].includes(needed)
}

/** The keys that a call names: one, or a range in its query. Never data. */
export function keysOf(
  key: string,
  query: string,
): { readonly key?: string; readonly start?: string; readonly end?: string } {
  if (key !== '') return { key }
  const parameters = new URLSearchParams(query)
  const [start, end] = [parameters.get('start'), parameters.get('end')]
  // as they came: what is no key is cut, and was refused
  return { ...(start !== null && { start: start.slice(0, 40) }), ...(end !== null && { end: end.slice(0, 40) }) }
}
