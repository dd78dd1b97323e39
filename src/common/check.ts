import type { Static, TSchema } from '@sinclair/typebox'
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { Cron } from 'croner'
import { DURATION_FORM, isDurationWithin, parseDuration } from './duration.ts'
import { type ErrorCode, KvidxError } from './errors.ts'
import { describeRange, isWithin, parseNano, QUANTITY_FORM } from './quantity.ts'
import type { DurationKeyword, QuantityKeyword } from './schema.ts'
import { suggest } from './suggest.ts'

/** One thing that is wrong with a document. */
export interface Problem {
  /** Path of the field: `spec.backup.schedules[0].name`; empty for the document itself. */
  readonly field: string
  /** Keys and indexes that lead to the field. */
  readonly path: readonly (string | number)[]
  /** What is wrong and what is allowed, without the field. */
  readonly message: string
  readonly value?: unknown
  readonly allowed?: string
}

/** More would help nobody. */
const MOST_PROBLEMS = 20

const ajv = new Ajv({
  allErrors: true,
  verbose: true,
  strict: true,
  strictTypes: false,
  strictRequired: false,
  allowUnionTypes: true,
})

ajv.addVocabulary([
  'x-kubernetes-int-or-string',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-validations',
  'x-kubernetes-embedded-resource',
  // what the pattern means, in words, for the message
  'kvidxForm',
])
ajv.addKeyword({
  keyword: 'kvidxQuantity',
  validate: (keyword: QuantityKeyword, value: unknown) => isQuantityValue(keyword, value),
  errors: false,
})
ajv.addKeyword({
  keyword: 'kvidxDuration',
  type: 'string',
  validate: (keyword: DurationKeyword, value: string) => {
    const ms = parseDuration(value)
    return ms !== undefined && isDurationWithin(ms, keyword)
  },
  errors: false,
})

ajv.addKeyword({
  keyword: 'kvidxCron',
  type: 'string',
  validate: (_: true, value: string) => isCron(value),
  errors: false,
})
ajv.addKeyword({
  keyword: 'kvidxTimeZone',
  type: 'string',
  validate: (_: true, value: string) => isTimeZone(value),
  errors: false,
})
ajv.addFormat('date-time', isRfc3339)
ajv.addFormat('int32', true)
ajv.addFormat('int64', true)
ajv.addFormat('double', true)

const compiled = new WeakMap<TSchema, ValidateFunction>()

/** Everything that is wrong with a value, at most 20 things; empty when it fits the schema. */
export function problemsOf(schema: TSchema, value: unknown): readonly Problem[] {
  let validate = compiled.get(schema)
  if (validate === undefined) {
    validate = ajv.compile(schema)
    compiled.set(schema, validate)
  }
  if (validate(value)) return []
  const problems = new Map<string, Problem>()
  for (const error of validate.errors ?? []) {
    const problem = problemOf(error)
    // one problem a field: a wrong type breaks the pattern and the range too
    if (!problems.has(problem.field)) problems.set(problem.field, problem)
    if (problems.size === MOST_PROBLEMS) break
  }
  return [...problems.values()]
}

/**
 * The value as the schema's type. Throws KvidxError with `code` whose message names every field, its value and what is allowed; `details.problems` has
 * them one by one.
 * @param what name of the document, for the message: `config file /etc/kvidx/config.json`
 */
export function check<T extends TSchema>(
  schema: T,
  value: unknown,
  what: string,
  code: ErrorCode = 'invalid_parameter',
): Static<T> {
  const problems = problemsOf(schema, value)
  if (problems.length > 0) throw problemError(problems, what, code)
  return value as Static<T>
}

/** Problems as one error. */
export function problemError(problems: readonly Problem[], what: string, code: ErrorCode): KvidxError {
  const text = problems.map(problem =>
    problem.field === '' ? problem.message : `${problem.field}: ${problem.message}`,
  )
  const first = problems[0]
  return new KvidxError(code, `${what}: ${text.join('; ')}`, {
    ...(first ? { field: first.field } : {}),
    ...(first?.allowed === undefined ? {} : { allowed: first.allowed }),
    problems: problems.map(({ field, message }) => ({ field, message })),
  })
}

/** `['spec', 'schedules', 0, 'a.b']` -> `spec.schedules[0]['a.b']` */
export function fieldOf(path: readonly (string | number)[]): string {
  let text = ''
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`
    else if (/^[A-Za-z_][\w-]*$/.test(step)) text += text === '' ? step : `.${step}`
    else text += `['${step}']`
  }
  return text
}

/** A value for a message: short, on one line. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) ?? String(value))
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

/** What runs at these times exists: `0 0 31 2 *` never does and is refused. */
function isCron(value: string): boolean {
  try {
    const cron = new Cron(value, { paused: true, timezone: 'Etc/UTC' })
    return cron.nextRun() !== null
  } catch {
    return false
  }
}

/** Those that were asked for and exist: a formatter is dear to make. */
const timeZones = new Set<string>()

function isTimeZone(value: string): boolean {
  if (timeZones.has(value)) return true
  try {
    new Intl.DateTimeFormat('en', { timeZone: value })
    timeZones.add(value)
    return true
  } catch {
    return false
  }
}

function isRfc3339(value: string): boolean {
  return (
    /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(value) && !Number.isNaN(Date.parse(value))
  )
}

function isQuantityValue({ words, percent, fraction, ...range }: QuantityKeyword, value: unknown): boolean {
  if (typeof value !== 'string' && typeof value !== 'number') return true // the type is checked beside this
  if (words?.includes(String(value))) return true
  if (percent && /^([1-9]\d?|100)%$/.test(String(value))) return true
  const nano = parseNano(value)
  return (
    nano !== undefined && nano >= 0n && (fraction === true || nano % 1_000_000_000n === 0n) && isWithin(nano, range)
  )
}

/** What a quantity field allows, in words. Also the message of its CEL rule. */
export function describeQuantity({ words, percent, fraction, ...range }: QuantityKeyword): string {
  if (fraction) return 'a quantity such as 250m, 2 or 512Mi'
  const bounds =
    range.min === undefined && range.max === undefined ? QUANTITY_FORM : `a quantity ${describeRange(range)}`
  const others = [...(words ?? []).map(word => `'${word}'`), ...(percent ? ['a percentage such as 10%'] : [])]
  return [...others, bounds].join(' or ')
}

/** What a duration field allows, in words. Also the message of its CEL rule. */
export function describeDuration({ min, max }: DurationKeyword): string {
  if (min === undefined && max === undefined) return DURATION_FORM
  return `${DURATION_FORM}, ${describeRange({ ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) })}`
}

function problemOf(error: ErrorObject): Problem {
  const path = error.instancePath
    .split('/')
    .slice(1)
    .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'))
  const steps = withIndexes(path)
  const { keyword, params, parentSchema, data } = error
  const at = (allowed: string, message = `${show(data)} is not allowed; it must be ${allowed}`): Problem => ({
    field: fieldOf(steps),
    path: steps,
    message,
    value: data,
    allowed,
  })
  switch (keyword) {
    case 'additionalProperties': {
      const name = String(params.additionalProperty)
      const known = Object.keys((parentSchema as { properties?: object }).properties ?? {})
      const near = suggest(name, known)
      const full = [...steps, name]
      return {
        field: fieldOf(full),
        path: full,
        message: `there is no such field${near === undefined ? '' : `; did you mean '${near}'?`}${known.length > 0 ? ` (known: ${known.join(', ')})` : ''}`,
        allowed: known.join(', '),
      }
    }
    case 'required': {
      const full = [...steps, String(params.missingProperty)]
      return { field: fieldOf(full), path: full, message: 'this field is required' }
    }
    case 'enum': {
      const values = (params.allowedValues as readonly unknown[]).map(String)
      const near = typeof data === 'string' ? suggest(data, values) : undefined
      const hint = near === undefined ? '' : `; did you mean '${near}'?`
      return at(`one of ${values.join(', ')}`, `${show(data)} is not one of ${values.join(', ')}${hint}`)
    }
    case 'const':
      return at(show(params.allowedValue))
    case 'type': {
      const wanted = `of type ${[params.type].flat().join(' or ')}`
      // YAML makes a boolean of Off, On, Yes and No without quotes
      const quote =
        typeof data === 'boolean' && params.type === 'string' ? ' (a word such as "Off" needs quotes in YAML)' : ''
      return at(wanted, `${show(data)} is not allowed; it must be ${wanted}${quote}`)
    }
    case 'pattern': {
      const form = (parentSchema as { kvidxForm?: string; kvidxDuration?: DurationKeyword }) ?? {}
      if (form.kvidxDuration) return at(describeDuration(form.kvidxDuration))
      return at(form.kvidxForm ?? `text that matches ${String(params.pattern)}`)
    }
    case 'kvidxQuantity':
      return at(describeQuantity(error.schema as QuantityKeyword))
    case 'kvidxDuration':
      return at(describeDuration(error.schema as DurationKeyword))
    case 'kvidxCron':
      return at('a cron schedule that has a next time')
    case 'kvidxTimeZone':
      return at('a time zone that is known here, such as Etc/UTC or Europe/Berlin')
    case 'format':
      return at(`a time in RFC 3339, such as 2026-03-01T14:03:00Z`)
    case 'minimum':
    case 'maximum': {
      const { minimum, maximum } = parentSchema as { minimum?: number; maximum?: number }
      return at(
        minimum !== undefined && maximum !== undefined
          ? `from ${minimum} to ${maximum}`
          : `${keyword === 'minimum' ? 'at least' : 'at most'} ${String(params.limit)}`,
      )
    }
    case 'minLength':
      return at(Number(params.limit) === 1 ? 'not empty' : `at least ${String(params.limit)} characters long`)
    case 'maxLength':
      return at(`at most ${String(params.limit)} characters long`)
    case 'minItems':
      return at(`a list of at least ${String(params.limit)}`)
    case 'maxItems':
      return at(`a list of at most ${String(params.limit)}`)
    case 'maxProperties':
      return at(`a map of at most ${String(params.limit)}`)
    default:
      return at(error.message ?? keyword, `${show(data)} ${error.message ?? 'is not allowed'}`)
  }

  /** Array positions come as text; what looks like one is one unless it is the name of a field. */
  function withIndexes(parts: readonly string[]): (string | number)[] {
    return parts.map(part => (/^\d+$/.test(part) ? Number(part) : part))
  }
}
