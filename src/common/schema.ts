import { type TSchema, type TUnsafe, Type } from '@sinclair/typebox'
import type { DurationRange } from './duration.ts'
import { DURATION_PATTERN } from './duration.ts'
import type { QuantityRange } from './quantity.ts'

/**
 * Parts of schemas that TypeBox does not have: one definition gives the TypeScript type, the check of this process (check.ts) and, for Kubernetes, the
 * structural schema with its CEL rule (src/api/crd.ts).
 */

/** Keywords of ours in a schema; check.ts gives them their meaning, crd.ts turns them into CEL. */
export interface QuantityKeyword extends QuantityRange {
  /** Words that are allowed instead of a quantity, such as `auto`. */
  readonly words?: readonly string[]
  /** `10%` is allowed too: a whole percentage, 1 to 100. */
  readonly percent?: boolean
  /** Parts of a unit are allowed, as in `cpu: 250m`. */
  readonly fraction?: boolean
}
export type DurationKeyword = DurationRange

interface Common {
  readonly description: string
}

/** One of a few words. */
export function words<const T extends readonly string[]>(
  values: T,
  options: Common & { readonly default?: T[number] } & Record<string, unknown>,
): TUnsafe<T[number]> {
  return Type.Unsafe<T[number]>({ type: 'string', enum: [...values], ...options })
}

/** A Kubernetes quantity: a whole number, or text such as `10Gi`. Bounds are inclusive. */
export function quantity(options: Common & QuantityKeyword & { readonly default?: string }): TUnsafe<string | number> {
  const { min, max, words: choices, percent, ...rest } = options
  const keyword: QuantityKeyword = {
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    ...(choices === undefined ? {} : { words: choices }),
    ...(percent === undefined ? {} : { percent }),
  }
  return Type.Unsafe<string | number>({
    type: ['integer', 'string'],
    maxLength: 32,
    'x-kubernetes-int-or-string': true,
    kvidxQuantity: keyword,
    ...rest,
  })
}

/** A duration such as `1h30m` or `7d`. Bounds are inclusive. */
export function duration(options: Common & DurationKeyword & { readonly default?: string }): TUnsafe<string> {
  const { min, max, ...rest } = options
  const keyword: DurationKeyword = { ...(min === undefined ? {} : { min }), ...(max === undefined ? {} : { max }) }
  return Type.Unsafe<string>({
    type: 'string',
    minLength: 2,
    maxLength: 32,
    pattern: DURATION_PATTERN,
    kvidxDuration: keyword,
    ...rest,
  })
}

/** Unsigned 64-bit integer as a decimal string. */
export function u64(options: Common): TUnsafe<string> {
  return Type.Unsafe<string>({ type: 'string', maxLength: 20, pattern: '^(0|[1-9][0-9]{0,19})$', ...options })
}

/** An object whose unknown members are refused. */
export function strict<T extends Record<string, TSchema>>(properties: T, options: Common & Record<string, unknown>) {
  return Type.Object(properties, { ...options, additionalProperties: false })
}
