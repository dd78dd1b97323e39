import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { applyDatabase, ready } from './support/database.ts'
import { e2e } from './support/environment.ts'
import { eventually } from './support/eventually.ts'
import { RELEASE } from './support/helm.ts'
import { get, type Manifest } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'
import { type Right, type Rule, requestsOf, rightsOf } from './support/rights.ts'

// Runs last (vitest.e2e.config.ts): the audit log has what the operator asked for in all files before this one.
const namespace = testNamespace('rights')
const account = `system:serviceaccount:${e2e.operatorNamespace}:${RELEASE}`

/** Rights that the API server asks about by itself, in no request of their own: it would refuse an object with such an owner. */
const ENFORCED: readonly Right[] = ['kvidxdatabases', 'kvidxbackups', 'kvidxrestores'].map(
  kind => `update ${kind}/finalizers.kvidx.io`,
)

/** A removal of files that failed is tried again after ten minutes: test/integration/controllers/backup.test.ts. */
const LATE: readonly Right[] = ['delete jobs.batch']

const rulesOf = (object: Manifest): readonly Rule[] => object.rules as readonly Rule[]

describe.skipIf(e2e.auditLog === undefined)('the rights of the operator', () => {
  const log = (): string => readFileSync(e2e.auditLog ?? '', 'utf8')
  const given = async (): Promise<ReadonlySet<Right>> => {
    const roles = await Promise.all([
      get('default', 'clusterrole', RELEASE),
      get('default', 'clusterrole', `${RELEASE}-cluster`),
      get(e2e.operatorNamespace, 'role', `${RELEASE}-leader`),
    ])
    return rightsOf(roles.flatMap(rulesOf))
  }

  test('are enough: nothing was refused in the whole suite', () => {
    const { allowed, refused } = requestsOf(log(), account)
    expect(allowed.size).toBeGreaterThan(50)
    // an API server that has just started refuses anybody, until it has read its roles; what is lacking is never allowed
    expect([...refused].filter(right => !allowed.has(right))).toEqual([])
  })

  test('are needed: each was used in the suite', async () => {
    const { allowed } = requestsOf(log(), account)
    // an account can give away only what it has: the rights of backup jobs
    await applyDatabase(namespace, 'orders')
    await ready(namespace, 'orders')
    const handedOn = rightsOf(rulesOf(await get(namespace, 'role', 'orders-backup')).map(withoutNames))
    const unused = [...(await given())].filter(
      right => !allowed.has(right) && !handedOn.has(right) && ![...ENFORCED, ...LATE].includes(right),
    )
    expect(unused).toEqual([])
  })

  test('are used sparingly: at rest it writes nothing, and asks for nothing but watches and its lease', async () => {
    await eventually(
      'twenty quiet seconds',
      async () => {
        const before = log().length
        await sleep(20_000)
        const { allowed } = requestsOf(log().slice(before), account)
        expect([...allowed].filter(right => !/^watch |^(get|update) leases/.test(right))).toEqual([])
      },
      { timeout: 120_000 },
    )
  })
})

function withoutNames({ apiGroups, resources, verbs }: Rule): Rule {
  return { apiGroups, resources, verbs }
}
