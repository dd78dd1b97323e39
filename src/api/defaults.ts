import type { TSchema } from '@sinclair/typebox'
import type { Resolved } from './schema-types.ts'

interface Node {
  readonly properties?: Readonly<Record<string, Node>>
  readonly items?: Node
  readonly additionalProperties?: Node | boolean
  readonly default?: unknown
}

/**
 * A copy of the value with the schema's defaults, filled in as the API server does: a property that is absent gets its default, and defaults
 * inside of what is there follow. Pure; values that do not fit the schema are left as they are.
 */
export function applyDefaults<T extends TSchema>(schema: T, value: unknown): Resolved<T> {
  return fill(schema as unknown as Node, value) as Resolved<T>
}

function fill(node: Node, value: unknown): unknown {
  if (Array.isArray(value)) {
    const { items } = node
    return items ? value.map(item => fill(items, item)) : value
  }
  if (!isObject(value)) return value
  const result: Record<string, unknown> = { ...value }
  for (const [name, property] of Object.entries(node.properties ?? {})) {
    // null counts as absent, as in the API server
    const present = Object.hasOwn(result, name) && !(result[name] === null && property.default !== undefined)
    if (present) result[name] = fill(property, result[name])
    else if (property.default !== undefined) result[name] = fill(property, structuredClone(property.default))
  }
  const values = node.additionalProperties
  if (typeof values === 'object') {
    for (const [name, item] of Object.entries(result)) {
      if (node.properties === undefined || !(name in node.properties)) result[name] = fill(values, item)
    }
  }
  return result
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
