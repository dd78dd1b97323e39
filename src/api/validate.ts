import type { TSchema } from '@sinclair/typebox'
import { fieldOf, type Problem, problemsOf } from '../common/check.ts'
import { celValue, holds, isTransition, type Typed } from './cel.ts'
import { applyDefaults } from './defaults.ts'
import type { Rule } from './schema-types.ts'

type Path = readonly (string | number)[]

interface Node extends Typed {
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
  readonly additionalProperties?: Node | boolean
  readonly 'x-kubernetes-validations'?: readonly Rule[]
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
}

/**
 * Everything that is wrong with an object, as the API server would judge it: first its structure, then, if that is sound, the rules
 * between fields. Defaults are filled in before. Pure.
 * @param old the object before the change, for rules about changes
 */
export function validate(schema: TSchema, value: unknown, old?: unknown): readonly Problem[] {
  const problems = problemsOf(schema, value)
  if (problems.length > 0) return problems
  const found: Problem[] = []
  const root = schema as object as Node
  const typed = (object: unknown): unknown => celValue(root, applyDefaults(schema, object))
  walk(root, typed(value), old === undefined ? undefined : typed(old), [], found)
  return found
}

function walk(node: Node, value: unknown, old: unknown, path: Path, found: Problem[]): void {
  for (const rule of node['x-kubernetes-validations'] ?? []) {
    if (isTransition(rule) && old === undefined) continue
    if (holds(rule, value, old)) continue
    const full = [...path, ...(rule.fieldPath ?? '').split('.').slice(1)]
    found.push({ field: fieldOf(full), path: full, message: rule.message })
  }
  if (Array.isArray(value)) {
    const keys = node['x-kubernetes-list-map-keys']
    const before = byKey(old, keys)
    const seen = new Set<string>()
    for (const [index, item] of value.entries()) {
      const key = keyOf(item, keys)
      if (key !== undefined && seen.has(key)) {
        const full = [...path, index]
        found.push({
          field: fieldOf(full),
          path: full,
          message: `${(keys ?? []).join(', ')} '${key}' is there twice; it must be unique in the list`,
        })
      }
      if (key !== undefined) seen.add(key)
      if (node.items) walk(node.items, item, key === undefined ? undefined : before.get(key), [...path, index], found)
    }
    return
  }
  if (!(value instanceof Map)) return
  const others = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined
  for (const [name, member] of value as ReadonlyMap<string, unknown>) {
    const child = node.properties?.[name] ?? others
    const before: unknown = old instanceof Map ? old.get(name) : undefined
    if (child) walk(child, member, before, [...path, name], found)
  }
}

function keyOf(item: unknown, keys: readonly string[] | undefined): string | undefined {
  if (keys === undefined || !(item instanceof Map)) return undefined
  return keys.map(key => String(item.get(key))).join('/')
}

function byKey(list: unknown, keys: readonly string[] | undefined): ReadonlyMap<string, unknown> {
  const items = Array.isArray(list) ? list : []
  return new Map(
    items.flatMap(item => {
      const key = keyOf(item, keys)
      return key === undefined ? [] : [[key, item] as const]
    }),
  )
}
