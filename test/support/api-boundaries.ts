import type { TSchema } from '@sinclair/typebox'
import type { KindDefinition } from '../../src/api/kind.ts'
import { formatDuration, parseDuration } from '../../src/common/duration.ts'
import { bytesAsBigint } from '../../src/common/quantity.ts'
import { type ApiCase, baseFor, type Json, type Path, setAt } from './api-objects.ts'

/** For each field with a range, a list of words, a length or a pattern: both ends, and just beyond them. */
export function boundaryCases(kind: KindDefinition): readonly ApiCase[] {
  const cases: ApiCase[] = []
  visit(kind.spec, ['spec'])
  return cases

  function add(path: Path, what: string, value: unknown, taken: boolean): void {
    const field = path
      .map(step => (typeof step === 'number' ? `[${step}]` : `.${step}`))
      .join('')
      .slice(1)
    cases.push({
      title: `${kind.kind} ${field}: ${what} is ${taken ? 'taken' : 'refused'}`,
      kind,
      object: setAt(baseFor(kind, path), path, value),
      ...(taken ? {} : { field }),
    })
  }

  function visit(schema: TSchema, path: Path): void {
    if (schema.properties) {
      for (const [name, property] of Object.entries(schema.properties as Record<string, TSchema>))
        visit(property, [...path, name])
      return
    }
    const quantity = schema.kvidxQuantity as
      | { min?: string; max?: string; percent?: boolean; words?: string[] }
      | undefined
    const duration = schema.kvidxDuration as { min?: string; max?: string } | undefined
    if (quantity) {
      if (quantity.min !== undefined) {
        add(path, `the least, ${quantity.min},`, quantity.min, true)
        const below = bytesAsBigint(quantity.min, 'min') - 1n
        add(path, `below the least, ${below},`, below < 0n ? '-1' : String(below), false)
      }
      if (quantity.max !== undefined) {
        add(path, `the most, ${quantity.max},`, quantity.max, true)
        add(path, 'above the most', String(bytesAsBigint(quantity.max, 'max') + 1n), false)
      }
      add(path, 'text that is no quantity', '10GB', false)
      add(path, quantity.percent ? '10%' : 'a percentage', '10%', quantity.percent === true)
      if (quantity.percent) for (const bad of ['0%', '101%']) add(path, bad, bad, false)
      for (const word of quantity.words ?? []) add(path, word, word, true)
    } else if (duration) {
      const least = parseDuration(duration.min ?? '0s') ?? 0
      const most = parseDuration(duration.max ?? '0s') ?? 0
      add(path, `the least, ${duration.min},`, duration.min, true)
      if (least > 0) add(path, 'below the least', formatDuration(least - 1), false)
      add(path, `the most, ${duration.max},`, duration.max, true)
      add(path, 'above the most', `${most + 1}ms`, false)
      const days = Math.floor(most / 86_400_000)
      if (days > 0) add(path, `${days}d`, `${days}d`, true)
      add(path, `${days + 1}d`, `${days + 1}d`, false)
      add(path, 'a bare number', '30', false)
      add(path, 'text that is no duration', '5 minutes', false)
    } else if (schema.type === 'integer') {
      add(path, `the least, ${schema.minimum},`, schema.minimum, true)
      add(path, 'below the least', Number(schema.minimum) - 1, false)
      // replicas: only 1 until replication exists
      if (path.at(-1) !== 'replicas') add(path, `the most, ${schema.maximum},`, schema.maximum, true)
      add(path, 'above the most', Number(schema.maximum) + 1, false)
      add(path, 'text', 'many', false)
    } else if (schema.enum) {
      add(path, 'an unknown word', 'Nonsense', false)
      // what depends on other fields has cases of its own
      if (!['engine', 'type'].includes(String(path.at(-1))))
        for (const word of schema.enum as string[]) add(path, word, word, true)
    } else if (schema.type === 'string') {
      if (schema.pattern !== undefined) add(path, 'text of another form', '/No such THING!', false)
      if (schema.format === 'date-time') add(path, 'text that is no time', 'yesterday at 14:03 or so', false)
      add(path, 'text that is too long', 'a'.repeat(Number(schema.maxLength) + 1), false)
    } else if (schema.type === 'boolean') {
      add(path, 'text', 'yes', false)
    } else if (schema.type === 'array') {
      visitList(schema, path)
    } else if (typeof schema.additionalProperties === 'object') {
      const many = Array.from({ length: Number(schema.maxProperties) + 1 }, (_, index) => [`k${index}`, '1'])
      add(path, 'a map that is too large', Object.fromEntries(many), false)
      visit(schema.additionalProperties as TSchema, [...path, 'some'])
    }
  }

  function visitList(schema: TSchema, path: Path): void {
    const current = path.reduce<unknown>(
      (node, step) => (node as Json | undefined)?.[step as string],
      baseFor(kind, path),
    )
    const [example] = (current as Json[] | undefined) ?? []
    if (example === undefined) throw new Error(`${path.join('.')}: the full object has no example item`)
    const items = (length: number): unknown[] =>
      Array.from({ length }, (_, index) => ('name' in example ? { ...example, name: `n${index}` } : example))
    const most = Number(schema.maxItems)
    add(path, `a list of ${most}`, items(most), true)
    add(path, `a list of ${most + 1}`, items(most + 1), false)
    visit(schema.items as TSchema, [...path, 0])
  }
}
