import type { TObject, TProperties, TSchema } from '@sinclair/typebox'
import { Type } from '@sinclair/typebox'
import type { Rule } from './schema-types.ts'

export const GROUP = 'kvidx.io'

/** A column of `kubectl get`. */
export interface Column {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date' | 'boolean'
  readonly jsonPath: string
  readonly description: string
  /** 0 (default): always; 1: with -o wide */
  readonly priority?: 0 | 1
  readonly format?: string
}

/** Everything that a custom resource definition is made of. */
export interface KindDefinition<Spec extends TSchema = TSchema, Status extends TSchema = TSchema> {
  readonly group: typeof GROUP
  readonly version: string
  readonly kind: string
  readonly plural: string
  readonly singular: string
  readonly shortNames: readonly string[]
  readonly description: string
  readonly namespaced: true
  readonly spec: Spec
  readonly status: Status
  /** Of the whole object: only metadata.name can be read of its metadata. */
  readonly rules: readonly Rule[]
  readonly columns: readonly Column[]
  readonly scale?: {
    readonly specReplicasPath: string
    readonly statusReplicasPath: string
    readonly labelSelectorPath: string
  }
}

/** The schema of whole objects of a kind, for the checks of this process. */
export function objectSchema(kind: KindDefinition): TObject<TProperties> {
  return Type.Object(
    {
      apiVersion: Type.Literal(`${kind.group}/${kind.version}`),
      kind: Type.Literal(kind.kind),
      metadata: Type.Object({ name: Type.String({ minLength: 1, maxLength: 253 }) }, { additionalProperties: true }),
      spec: kind.spec,
      status: Type.Optional(Type.Unknown()),
    },
    { additionalProperties: false, 'x-kubernetes-validations': [...kind.rules] },
  )
}

/** Metadata of our objects, as far as it is read. */
export interface ObjectMetadata {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly generation?: number
  readonly resourceVersion?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly finalizers?: readonly string[]
  readonly deletionTimestamp?: string
  readonly creationTimestamp?: string
}
