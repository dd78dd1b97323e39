import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'

const ROOT = new URL('../../../', import.meta.url).pathname
const read = (file: string) => readFileSync(`${ROOT}${file}`, 'utf8')

interface Rule {
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}

/** Resource to verbs. */
type Rights = ReadonlyMap<string, string>

function rightsOf(rules: readonly Rule[]): Rights {
  return new Map(rules.flatMap(({ resources, verbs }) => resources.map(name => [name, verbs.join(', ')] as const)))
}

/** A table of the document: its first two or three columns; what stands in brackets is a remark. */
function rightsIn(section: string): Rights {
  const rows = section.split('\n').filter(line => /^\| [a-z]/.test(line) && !line.startsWith('| resources'))
  return new Map(
    rows.flatMap(line => {
      const [, names = '', verbs = ''] = line.split('|').map(cell => cell.replaceAll(/\([^)]*\)/g, '').trim())
      return names.split(', ').map(name => [name.trim(), verbs] as const)
    }),
  )
}

const document = read('docs/security.md')
const between = (from: string, to: string) => document.split(from)[1]?.split(to)[0] ?? ''

describe('docs/security.md', () => {
  it('has the rights of the operator in a namespace as the chart gives them', () => {
    const helpers = read('charts/kvidx-operator/templates/_helpers.tpl')
    const rules = /define "kvidx.namespaceRules" -}}\n([\s\S]*?)\n\{\{- end }}/.exec(helpers)?.[1] ?? ''
    const given = rightsOf(parse(rules) as Rule[])
    expect(given.size).toBeGreaterThan(10)
    expect(rightsIn(between('In each namespace that is watched:', 'In its own namespace'))).toEqual(given)
  })

  it('has the rights in the whole cluster as the chart gives them', () => {
    const template = read('charts/kvidx-operator/templates/rbac.yaml')
    const rules = /^rules:\n([\s\S]*?)^---$/m.exec(template)?.[1] ?? ''
    const given = rightsOf(parse(rules) as Rule[])
    expect(given.size).toBeGreaterThan(0)
    expect(rightsIn(between('In the whole cluster:', 'In each namespace'))).toEqual(given)
  })

  it('is right that no verb and no resource is a wildcard', () => {
    for (const file of ['_helpers.tpl', 'rbac.yaml'])
      expect(read(`charts/kvidx-operator/templates/${file}`)).not.toMatch(/(?:verbs|resources|apiGroups): \[[^\]]*\*/)
  })
})
