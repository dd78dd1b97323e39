/** A rule of a Role or ClusterRole. */
export interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
  readonly resourceNames?: readonly string[]
}

/** One line of the API server's audit log, as far as it is looked at. */
interface AuditEvent {
  readonly verb: string
  readonly user: { readonly username: string }
  readonly objectRef?: {
    readonly apiGroup?: string
    readonly resource: string
    readonly subresource?: string
    readonly name?: string
  }
  readonly responseStatus?: { readonly code?: number }
}

/** `create pods`, `patch kvidxdatabases/status.kvidx.io`, `update leases.coordination.k8s.io kvidx-operator` */
export type Right = string

const right = (verb: string, resource: string, group: string, name?: string): Right =>
  [verb, group === '' ? resource : `${resource}.${group}`, ...(name === undefined ? [] : [name])].join(' ')

/** All that rules allow, one by one. */
export function rightsOf(rules: readonly Rule[]): ReadonlySet<Right> {
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs, resourceNames = [undefined] }) =>
      apiGroups.flatMap(group =>
        resources.flatMap(resource =>
          verbs.flatMap(verb => resourceNames.map(name => right(verb, resource, group, name))),
        ),
      ),
    ),
  )
}

/** What an account asked for in an audit log: what it got, and what it was refused. Names only where a rule has them. */
export function requestsOf(
  log: string,
  username: string,
): { readonly allowed: ReadonlySet<Right>; readonly refused: ReadonlySet<Right> } {
  const allowed = new Set<Right>()
  const refused = new Set<Right>()
  for (const line of log.split('\n')) {
    if (!line.includes(username)) continue
    const { verb, user, objectRef, responseStatus } = JSON.parse(line) as AuditEvent
    if (user.username !== username || !objectRef) continue
    const { resource, subresource, apiGroup = '', name } = objectRef
    const full = subresource === undefined ? resource : `${resource}/${subresource}`
    const names = name === undefined ? [undefined] : [undefined, name]
    for (const each of names) (responseStatus?.code === 403 ? refused : allowed).add(right(verb, full, apiGroup, each))
  }
  return { allowed, refused }
}
