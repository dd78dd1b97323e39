import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { chartCrds } from '../../../scripts/chart-crds.ts'
import { namesOf } from '../../../src/controllers/database/names.ts'
import { roles } from '../../../src/controllers/database/objects/access.ts'
import type { Blueprint } from '../../../src/controllers/database/objects/blueprint.ts'

const CHART = 'charts/kvidx-operator'
const read = (path: string): string => readFileSync(`${CHART}/${path}`, 'utf8')

describe('the chart', () => {
  test('has the definitions as they are generated (npm run generate)', () => {
    const { generated, inChart } = chartCrds()
    expect(generated.size).toBeGreaterThan(0)
    expect(inChart).toEqual(generated)
  })

  test('can mark every definition to be kept: nothing stands between metadata and name', () => {
    // templates/crds.yaml puts the annotation in as text
    for (const [name, text] of chartCrds().inChart) expect(text, name).toMatch(/\nmetadata:\n {2}name: /)
  })

  test('has the version of the program', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect(parse(read('Chart.yaml'))).toMatchObject({ version, appVersion: version })
  })

  test('has default values that its own schema allows, and describes every value', () => {
    const schema = JSON.parse(read('values.schema.json')) as { properties: Record<string, unknown> }
    const values = parse(read('values.yaml')) as Record<string, unknown>
    const validate = new Ajv({ strict: true, allErrors: true }).compile(schema)
    expect(validate(values), JSON.stringify(validate.errors)).toBe(true)
    const documented = new Set(Object.keys(schema.properties))
    documented.delete('global')
    expect([...documented].toSorted()).toEqual(Object.keys(values).toSorted())
  })

  test('asks for no wildcard rights', () => {
    const rules = `${read('templates/_helpers.tpl')}${read('templates/rbac.yaml')}`
    const lists = [...rules.matchAll(/(?:verbs|resources|apiGroups): \[(.*)\]/g)].map(match => match[1] ?? '')
    expect(lists.length).toBeGreaterThan(30)
    expect(lists.filter(list => list.includes('*'))).toEqual([])
  })
})

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

test('the operator may do all that it lets backup jobs do: the API server refuses to let anybody grant more', () => {
  const template =
    /define "kvidx\.namespaceRules" -}}\n(.*?){{- end }}/s.exec(read('templates/_helpers.tpl'))?.[1] ?? ''
  const has = parse(template) as readonly Rule[]
  const blueprint = { names: namesOf('orders'), namespace: 'shop', name: 'orders', owner: {} } as unknown as Blueprint
  const granted = roles(blueprint).flatMap(role => (role as unknown as { rules: readonly Rule[] }).rules)
  expect(granted.length).toBeGreaterThan(0)
  for (const { apiGroups, resources, verbs } of granted)
    for (const group of apiGroups)
      for (const resource of resources)
        for (const verb of verbs)
          expect(
            has.some(
              rule => rule.apiGroups.includes(group) && rule.resources.includes(resource) && rule.verbs.includes(verb),
            ),
            `${verb} ${resource}.${group}`,
          ).toBe(true)
})
