import type { TSchema } from '@sinclair/typebox'
import { describeDuration, describeQuantity } from '../common/check.ts'
import { DURATION_PATTERN, parseDuration } from '../common/duration.ts'
import type { DurationKeyword, QuantityKeyword } from '../common/schema.ts'
import { applyDefaults } from './defaults.ts'
import type { KindDefinition } from './kind.ts'
import type { Rule } from './schema-types.ts'

/** JSON of a structural schema as the API server takes it. */
export type StructuralSchema = { [name: string]: unknown }

/** What only this process understands; the API server gets CEL for it, or a pattern. */
const OURS = new Set(['kvidxQuantity', 'kvidxDuration', 'kvidxForm', 'kvidxCron', 'kvidxTimeZone'])

const FRACTION_PATTERN = '^[0-9]+([.][0-9]+)?([munkMGTPE]|[KMGTPE]i)?$'

/** The custom resource definition of a kind, as plain JSON. Pure. */
export function customResourceDefinition(kind: KindDefinition): StructuralSchema {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${kind.plural}.${kind.group}` },
    spec: {
      group: kind.group,
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: [...kind.shortNames],
        categories: ['kvidx', 'all'],
      },
      scope: 'Namespaced',
      versions: [
        {
          name: kind.version,
          served: true,
          storage: true,
          additionalPrinterColumns: kind.columns.map(({ priority, ...column }) => ({
            ...column,
            ...(priority ? { priority } : {}),
          })),
          subresources: { status: {}, ...(kind.scale ? { scale: { ...kind.scale } } : {}) },
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: kind.description,
              required: ['spec'],
              properties: {
                apiVersion: { type: 'string', description: 'Version of the API.' },
                kind: { type: 'string', description: 'Kind of the object.' },
                metadata: { type: 'object' },
                spec: structural(kind.spec),
                status: structural(kind.status),
              },
              ...(kind.rules.length > 0 ? { 'x-kubernetes-validations': kind.rules.map(ruleForServer) } : {}),
            },
          },
        },
      ],
    },
  }
}

/** A schema of ours as a structural schema: without our keywords, with their CEL rules. Pure. */
export function structural(schema: TSchema): StructuralSchema {
  const result: StructuralSchema = {}
  for (const [name, value] of Object.entries(schema)) {
    if (OURS.has(name)) continue
    // unknown fields are refused by strict field validation, and pruned otherwise
    if (name === 'additionalProperties' && value === false) continue
    if (name === 'properties') {
      result.properties = Object.fromEntries(
        Object.entries(value as Record<string, TSchema>).map(([key, property]) => [key, structural(property)]),
      )
    } else if (name === 'items' || name === 'additionalProperties') result[name] = structural(value as TSchema)
    else result[name] = value
  }
  if (schema['x-kubernetes-int-or-string'] === true) {
    delete result.type
    delete result.maxLength
    if ((schema.kvidxQuantity as QuantityKeyword | undefined)?.fraction) result.pattern = FRACTION_PATTERN
  }
  // the API server judges rules on the default as it stands, before defaults inside of it
  if (isPlainObject(schema.default)) result.default = applyDefaults(schema, schema.default)
  // the rule says the same as the pattern, in words
  if (schema.kvidxDuration !== undefined) delete result.pattern
  const rules = [
    ...generatedRules(schema),
    ...((schema['x-kubernetes-validations'] as readonly Rule[] | undefined) ?? []),
  ]
  if (rules.length > 0) result['x-kubernetes-validations'] = rules.map(ruleForServer)
  return result
}

/** The API server refuses field paths into metadata, which its schema does not have. */
function ruleForServer({ fieldPath, ...rule }: Rule): Rule {
  return fieldPath === undefined || fieldPath.startsWith('.metadata') ? rule : { ...rule, fieldPath }
}

function isPlainObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The CEL rules that stand for our keywords. */
export function generatedRules(schema: TSchema): readonly Rule[] {
  const rules: Rule[] = []
  const quantity = schema.kvidxQuantity as QuantityKeyword | undefined
  // fractions (resources) stand in maps, where rules are dear: the API server gets a pattern for them
  if (quantity !== undefined && !quantity.fraction)
    rules.push({ rule: quantityRule(quantity), message: `must be ${describeQuantity(quantity)}` })
  const duration = schema.kvidxDuration as DurationKeyword | undefined
  if (duration !== undefined)
    rules.push({ rule: durationRule(duration), message: `must be ${describeDuration(duration)}` })
  return rules
}

function quantityRule({ words = [], percent, min, max }: QuantityKeyword): string {
  const alternatives = words.map(word => `string(self) == '${word}'`)
  if (percent) alternatives.push("string(self).matches('^([1-9][0-9]?|100)%$')")
  const bounds = ['isQuantity(string(self))']
  const compare = (bound: string): string => `quantity(string(self)).compareTo(quantity('${bound}'))`
  bounds.push(`${compare(min ?? '0')} >= 0`)
  if (max !== undefined) bounds.push(`${compare(max)} <= 0`)
  alternatives.push(bounds.join(' && '))
  return alternatives.length === 1
    ? (alternatives[0] ?? '')
    : alternatives.map(part => (part.includes('&&') ? `(${part})` : part)).join(' || ')
}

/** Days are not known to CEL's `duration`. `split` and arithmetic on text would break the API server's budget of cost. */
function durationRule({ min, max }: DurationKeyword): string {
  const matches = `self.size() >= 2 && self.matches('${DURATION_PATTERN}')`
  if (min === undefined && max === undefined) return matches
  const within = (value: string, low: string | number | undefined, high: string | number | undefined): string =>
    [...(low === undefined ? [] : [`${value} >= ${low}`]), ...(high === undefined ? [] : [`${value} <= ${high}`])].join(
      ' && ',
    )
  const days = within(
    'int(self.substring(0, self.size() - 1))',
    min === undefined ? undefined : Math.ceil(msOf(min) / DAY),
    max === undefined ? undefined : Math.floor(msOf(max) / DAY),
  )
  const others = within('duration(self)', min && celDuration(min), max && celDuration(max))
  return `${matches} && (self.endsWith('d') ? ${days} : ${others})`
}

const DAY = 86_400_000

function celDuration(text: string): string {
  const ms = msOf(text)
  return ms % 1000 === 0 ? `duration('${ms / 1000}s')` : `duration('${ms}ms')`
}

function msOf(text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined) throw new RangeError(`'${text}' is not a duration`)
  return ms
}
