import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KVIDX_DATABASE } from '../../src/api/v1alpha1/kvidx-database.ts'
import { boundaryCases } from '../support/api-boundaries.ts'
import { RULE_CASES } from '../support/api-cases.ts'
import type { CommandResult } from './support/command.ts'
import { eventually } from './support/eventually.ts'
import { condition, get, kubectl, list, type Manifest, tryKubectl } from './support/kubectl.ts'
import { testNamespace } from './support/namespace.ts'

const namespace = testNamespace('invalid')
const CRD = 'kvidxdatabases.kvidx.io'

/** One object for each rule and each end of each range, which breaks it. What breaks rules of changes and of names is tried without a cluster's nodes: test/integration/api. */
const cases = [...RULE_CASES, ...boundaryCases(KVIDX_DATABASE)]
  .filter(({ kind, field, old }) => kind === KVIDX_DATABASE && field?.startsWith('spec') && old === undefined)
  .map(({ title, object, field = '' }, index) => ({ name: `case-${index}`, title, object, field }))

const objects = cases.map(({ name, object }) => ({ ...object, metadata: { name } }))

/** `create`, not `apply`: half the requests. */
const create = (manifests: readonly unknown[], ...options: readonly string[]): Promise<CommandResult> =>
  tryKubectl(['-n', namespace, 'create', ...options, '-f', '-'], {
    input: manifests.map(object => JSON.stringify(object)).join('\n---\n'),
  })

const patchDefinition = (operations: readonly object[]): Promise<string> =>
  kubectl(['patch', 'crd', CRD, '--type=json', '-p', JSON.stringify(operations)])

const versionsOf = async (): Promise<Manifest['spec']> => (await get('default', 'crd', CRD)).spec.versions

describe('specs that break a rule', () => {
  test('are refused by the API server, all of them', async () => {
    const { code, stderr } = await create(objects, '--dry-run=server')
    expect(code).not.toBe(0)
    // kubectl goes on after each refusal, and says one line for each
    const refused = cases.filter(({ name }) => !stderr.includes(`"${name}"`))
    expect(refused.map(({ title }) => title)).toEqual([])
  })

  // as with definitions of an older version, which a cluster administrator did not update
  describe('where the definition does not know the rules', () => {
    let versions: Manifest['spec']

    beforeAll(async () => {
      versions = await versionsOf()
      const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
      const schema = { openAPIV3Schema: { type: 'object', properties: { spec: anything, status: anything } } }
      await patchDefinition([
        { op: 'replace', path: '/spec/versions/0/schema', value: schema },
        // the scale subresource wants replicas to be a number
        { op: 'replace', path: '/spec/versions/0/subresources', value: { status: {} } },
      ])
      await eventually('the API server takes anything', async () => {
        // the last thing that it would refuse, and one of the first
        const { code, stderr } = await create([objects[0], objects.at(-1)], '--dry-run=server')
        expect(code, stderr).toBe(0)
      })
    })

    afterAll(async () => {
      await kubectl(['delete', '--raw', `/apis/kvidx.io/v1alpha1/namespaces/${namespace}/kvidxdatabases`])
      await eventually('all are gone', async () => (await list(namespace, 'kvdb')).length === 0)
      await patchDefinition([{ op: 'replace', path: '/spec/versions', value: versions }])
      expect(await versionsOf()).toEqual(versions)
    })

    test('are refused by the operator, with the field, once and for all', async () => {
      const { code, stderr } = await create(objects)
      expect(code, stderr).toBe(0)
      const databases = await eventually('all have their condition', async () => {
        const found = await list(namespace, 'kvdb')
        const open = found.filter(object => condition(object, 'Stalled') === undefined)
        expect(open.map(({ metadata }) => titleOf(metadata.name))).toEqual([])
        return found
      })
      expect(databases).toHaveLength(cases.length)
      const wrong = cases.flatMap(({ name, title, field }) => {
        const database = databases.find(({ metadata }) => metadata.name === name)
        const { reason, message = '' } = condition(database, 'Stalled') ?? {}
        return reason === 'InvalidSpec' && message.startsWith(field) ? [] : [`${title}: ${reason}: ${message}`]
      })
      expect(wrong).toEqual([])
      expect(await list(namespace, 'statefulset,pvc,service,secret', 'kvidx.io/database')).toEqual([])
      const versions = (found: readonly Manifest[]) => found.map(({ metadata }) => metadata.resourceVersion)
      await sleep(5000)
      expect(versions(await list(namespace, 'kvdb'))).toEqual(versions(databases))
    })
  })
})

function titleOf(name: string): string | undefined {
  return cases.find(each => each.name === name)?.title
}
