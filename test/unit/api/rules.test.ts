import type { TSchema } from '@sinclair/typebox'
import { describe, expect, it } from 'vitest'
import { celValue, holds, isTransition } from '../../../src/api/cel.ts'
import { customResourceDefinition, type StructuralSchema } from '../../../src/api/crd.ts'
import { applyDefaults } from '../../../src/api/defaults.ts'
import { type KindDefinition, objectSchema } from '../../../src/api/kind.ts'
import { KINDS } from '../../../src/api/kinds.ts'
import type { Rule } from '../../../src/api/schema-types.ts'
import { validate } from '../../../src/api/validate.ts'
import { boundaryCases } from '../../support/api-boundaries.ts'
import { RULE_CASES } from '../../support/api-cases.ts'
import type { ApiCase, Json } from '../../support/api-objects.ts'

const schemas = new Map(KINDS.map(kind => [kind, objectSchema(kind)]))
const CASES: readonly ApiCase[] = [...RULE_CASES, ...KINDS.flatMap(boundaryCases)]

const schemaOf = (kind: KindDefinition): TSchema => schemas.get(kind)!

/** Structural schema of the served version. */
function structuralOf(kind: KindDefinition): StructuralSchema {
  const { spec } = customResourceDefinition(kind) as {
    spec: { versions: { schema: { openAPIV3Schema: StructuralSchema } }[] }
  }
  return spec.versions[0]!.schema.openAPIV3Schema
}

interface Judged {
  readonly id: string
  readonly rule: Rule
  readonly holds: boolean
}

/** Every rule of the CRD that meets the object, judged. */
function judge(node: StructuralSchema, self: unknown, old: unknown, path: string, found: Judged[]): Judged[] {
  for (const rule of (node['x-kubernetes-validations'] as Rule[] | undefined) ?? []) {
    if (isTransition(rule) && old === undefined) continue
    found.push({ id: `${path}: ${rule.rule}`, rule, holds: holds(rule, self, old) })
  }
  if (Array.isArray(self))
    for (const item of self) judge((node.items as StructuralSchema) ?? {}, item, undefined, `${path}[]`, found)
  else if (self instanceof Map) {
    for (const [name, member] of self as Map<string, unknown>) {
      const child =
        (node.properties as Record<string, StructuralSchema> | undefined)?.[name] ??
        (node.additionalProperties as StructuralSchema | undefined)
      if (child) judge(child, member, (old as Map<string, unknown> | undefined)?.get(name), `${path}.${name}`, found)
    }
  }
  return found
}

/** Identities of all rules that stand in a CRD. */
function everyRule(node: StructuralSchema, path: string): string[] {
  const own = ((node['x-kubernetes-validations'] as Rule[] | undefined) ?? []).map(({ rule }) => `${path}: ${rule}`)
  const items = node.items ? everyRule(node.items as StructuralSchema, `${path}[]`) : []
  const properties = Object.entries((node.properties as Record<string, StructuralSchema> | undefined) ?? {})
  return [...own, ...items, ...properties.flatMap(([name, child]) => everyRule(child, `${path}.${name}`))]
}

function judgeCase({ kind, object, old }: ApiCase): Judged[] {
  const typed = (value: Json): unknown => celValue(schemaOf(kind) as never, applyDefaults(schemaOf(kind), value))
  return judge(structuralOf(kind), typed(object), old && typed(old), kind.kind, [])
}

describe('the check of this process', () => {
  it.each(CASES.map(apiCase => [apiCase.title, apiCase] as const))('%s', (_, { kind, object, old, field, message }) => {
    const problems = validate(schemaOf(kind), object, old)
    if (field === undefined) expect(problems).toEqual([])
    else {
      const named = problems.map(problem => problem.field)
      expect(named).toContain(field)
      // exactly one mistake is in each case
      expect(new Set(named).size).toBe(1)
      expect(problems[0]!.message).toContain(message ?? '')
    }
  })
})

describe('the CEL rules in the custom resource definitions', () => {
  it('hold for every object that must be taken', () => {
    for (const apiCase of CASES.filter(({ field }) => field === undefined)) {
      expect(
        judgeCase(apiCase).filter(judged => !judged.holds),
        apiCase.title,
      ).toEqual([])
    }
  })

  it('are each broken by at least one case and kept by another', () => {
    const broken = new Set<string>()
    const kept = new Set<string>()
    for (const apiCase of CASES) for (const judged of judgeCase(apiCase)) (judged.holds ? kept : broken).add(judged.id)
    const all = KINDS.flatMap(kind => everyRule(structuralOf(kind), kind.kind))
    expect(all.length).toBeGreaterThan(70)
    expect(all.filter(id => !broken.has(id))).toEqual([])
    expect(all.filter(id => !kept.has(id))).toEqual([])
  })
})
