import type { Static, TArray, TObject, TOptional, TProperties, TSchema, TUnsafe } from '@sinclair/typebox'
import { Type } from '@sinclair/typebox'

/**
 * How the API's schemas are written. One schema gives the type of what people write (`Static`: everything with a default is optional), the type
 * after defaulting (`Resolved`), the custom resource definition (crd.ts) and the check of this process (validate.ts).
 */

declare const defaulted: unique symbol

/** A property that is always there after defaulting. */
export type Defaulted<T extends TSchema> = TOptional<T> & { readonly [defaulted]: true }

/** The type of a value after its defaults were filled in. */
export type Resolved<T extends TSchema> =
  T extends TObject<infer P> ? ResolvedObject<P> : T extends TArray<infer I> ? readonly Resolved<I>[] : Static<T>

type Absent<P extends TProperties> = {
  [K in keyof P]: P[K] extends { readonly [defaulted]: true } ? never : P[K] extends TOptional<TSchema> ? K : never
}[keyof P]

type ResolvedObject<P extends TProperties> = {
  readonly [K in Exclude<keyof P, Absent<P>>]: Resolved<P[K]>
} & { readonly [K in Absent<P>]?: Resolved<P[K]> }

/** One CEL rule of the API server. `message` says what is allowed, not what is wrong. */
export interface Rule {
  readonly rule: string
  readonly message: string
  /** Path below the schema that the message is about: `.size`. */
  readonly fieldPath?: string
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired' | 'FieldValueDuplicate'
}

/** A property that may be absent and has no default. */
export function optional<T extends TSchema>(schema: T): TOptional<T> {
  return Type.Optional(schema) as unknown as TOptional<T>
}

/** A property with a default: the API server writes it into the object, and so do we. */
export function defaults<T extends TSchema>(schema: T, value: Static<T>): Defaulted<T> {
  return Type.Optional({ ...schema, default: value }) as unknown as Defaulted<T>
}

interface BlockOptions {
  readonly description: string
  readonly rules?: readonly Rule[]
}

/** An object with known members only. */
export function block<P extends TProperties>(options: BlockOptions, properties: P): TObject<P> {
  const { description, rules = [] } = options
  return Type.Object(properties, {
    description,
    additionalProperties: false,
    ...(rules.length > 0 ? { 'x-kubernetes-validations': [...rules] } : {}),
  })
}

/** A block whose members all have defaults: it is there even if nobody wrote it. */
export function defaultBlock<P extends TProperties>(options: BlockOptions, properties: P): Defaulted<TObject<P>> {
  return Type.Optional({ ...block(options, properties), default: {} }) as unknown as Defaulted<TObject<P>>
}

/** Text with a length; `form` says in words what the pattern means. */
export function text(options: {
  readonly description: string
  readonly minLength?: number
  readonly maxLength: number
  readonly pattern?: string
  readonly form?: string
  readonly format?: string
  readonly rules?: readonly Rule[]
}): TUnsafe<string> {
  const { form, rules, ...rest } = options
  return Type.Unsafe<string>({
    type: 'string',
    ...rest,
    ...(form === undefined ? {} : { kvidxForm: form }),
    ...(rules === undefined ? {} : { 'x-kubernetes-validations': [...rules] }),
  })
}

export function integer(options: {
  readonly description: string
  readonly minimum: number
  readonly maximum: number
  readonly rules?: readonly Rule[]
}): TUnsafe<number> {
  const { rules, ...rest } = options
  return Type.Unsafe<number>({
    type: 'integer',
    format: rest.maximum > 2 ** 31 - 1 ? 'int64' : 'int32',
    ...rest,
    ...(rules === undefined ? {} : { 'x-kubernetes-validations': [...rules] }),
  })
}

export function flag(description: string): TUnsafe<boolean> {
  return Type.Unsafe<boolean>({ type: 'boolean', description })
}

/** A list whose items have a key (server-side apply merges by it) or are replaced as a whole. */
export function list<T extends TSchema>(
  items: T,
  options: {
    readonly description: string
    readonly minItems?: number
    readonly maxItems: number
    readonly keys?: readonly string[]
    readonly set?: true
  },
): TArray<T> {
  const { keys, set, ...rest } = options
  return Type.Array(items, {
    ...rest,
    'x-kubernetes-list-type': keys ? 'map' : set ? 'set' : 'atomic',
    ...(keys ? { 'x-kubernetes-list-map-keys': [...keys] } : {}),
  })
}

/** Free keys, one kind of value. */
export function map<T extends TSchema>(
  values: T,
  options: { readonly description: string; readonly maxProperties: number },
): TUnsafe<Readonly<Record<string, Static<T>>>> {
  return Type.Unsafe<Readonly<Record<string, Static<T>>>>({ type: 'object', additionalProperties: values, ...options })
}

/** A piece of the Kubernetes API that we hand on as it is; its own server checks it. */
export function passThrough<T = Readonly<Record<string, unknown>>>(description: string): TUnsafe<T> {
  return Type.Unsafe<T>({ type: 'object', description, 'x-kubernetes-preserve-unknown-fields': true })
}
