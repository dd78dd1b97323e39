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
  readonly annotations?: Readonly<Record<string, string>>
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

/** What an account asked for in an audit log: what it may do (whatever came of it), and what it may not. With and without the name of the object. */
export function requestsOf(
  log: string,
  username: string,
): { readonly allowed: ReadonlySet<Right>; readonly refused: ReadonlySet<Right> } {
  const allowed = new Set<Right>()
  const refused = new Set<Right>()
  for (const line of log.split('\n')) {
    if (!line.includes(username)) continue
    const { verb, user, objectRef, annotations } = JSON.parse(line) as AuditEvent
    if (user.username !== username || !objectRef) continue
    const { resource, subresource, apiGroup = '', name } = objectRef
    const full = subresource === undefined ? resource : `${resource}/${subresource}`
    // a refusal of admission, as in a namespace that is being deleted, is another matter
    if (annotations?.['authorization.k8s.io/decision'] === 'forbid') refused.add(right(verb, full, apiGroup))
    else for (const each of [undefined, name]) allowed.add(right(verb, full, apiGroup, each))
  }
  return { allowed, refused }
}
