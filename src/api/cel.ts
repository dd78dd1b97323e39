import { Environment } from '@marcbachmann/cel-js'
import { bytesAsBigint, compareQuantities, parseNano } from '../common/quantity.ts'
import type { Rule } from './schema-types.ts'

/**
 * The CEL rules of the custom resource definitions, judged in this process: reconcile and `kvidx run` refuse what the API server refuses,
 * by the same text.
 */

class Quantity {
  readonly text: string

  constructor(value: string) {
    if (parseNano(value) === undefined) throw new Error(`'${value}' is not a quantity`)
    this.text = value
  }
}

/** Kubernetes' quantity library, as far as the rules use it. */
const environment = new Environment()
  .registerType('Quantity', { ctor: Quantity, fields: { text: 'string' } })
  .registerVariable('self', 'dyn')
  .registerVariable('oldSelf', 'dyn')
  .registerFunction('isQuantity(string): bool', (value: string) => parseNano(value) !== undefined)
  .registerFunction('quantity(string): Quantity', (value: string) => new Quantity(value))
  .registerFunction('Quantity.asInteger(): int', ({ text }: Quantity) => bytesAsBigint(text, 'quantity'))
  .registerFunction('Quantity.compareTo(Quantity): int', (a: Quantity, b: Quantity) =>
    BigInt(compareQuantities(a.text, b.text)),
  )

/** Field names that are words of CEL: the API server wants them in underscores. */
const ESCAPED = /\b__(as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return)__\b/g

const compiled = new Map<string, (context: Record<string, unknown>) => unknown>()

/** A rule that looks at the value before the change holds for every new object. */
export function isTransition(rule: Rule): boolean {
  return /\boldSelf\b/.test(rule.rule)
}

/**
 * Whether a rule holds. A rule that cannot be evaluated does not hold, as in the API server. Integers must be bigint: see celValue.
 * @param oldSelf for transition rules: the value before the change
 */
export function holds(rule: Rule, self: unknown, oldSelf?: unknown): boolean {
  let program = compiled.get(rule.rule)
  if (program === undefined) {
    program = environment.parse(rule.rule.replaceAll(ESCAPED, '$1'))
    compiled.set(rule.rule, program)
  }
  try {
    return program(oldSelf === undefined ? { self } : { self, oldSelf }) === true
  } catch {
    return false
  }
}

/** What celValue reads of a schema. */
export interface Typed {
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, Typed>>
  readonly items?: Typed
  readonly additionalProperties?: Typed | boolean
}

/** The value as CEL sees it, by the schema: integers as bigint, objects as maps (a field may be called `constructor`). */
export function celValue(schema: Typed, value: unknown): unknown {
  if (typeof value === 'number')
    return [schema.type].flat().includes('integer') && Number.isInteger(value) ? BigInt(value) : value
  if (Array.isArray(value)) return value.map(item => celValue(schema.items ?? {}, item))
  if (typeof value !== 'object' || value === null) return value
  const others = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined
  const result = new Map<string, unknown>()
  for (const [name, member] of Object.entries(value)) {
    const child = (Object.hasOwn(schema.properties ?? {}, name) ? schema.properties?.[name] : undefined) ?? others
    // the rest of a preserved object is not visible to rules
    if (child !== undefined) result.set(name, celValue(child, member))
  }
  return result
}
