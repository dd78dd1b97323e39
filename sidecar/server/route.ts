import type { TSchema } from '@sinclair/typebox'
import type { Endpoint } from './endpoint.ts'
import type { Exchange } from './exchange.ts'
import type { Parameters } from './parameters.ts'

/** Bodies by media type; `null` stands for bytes. */
export type MediaTypes = Readonly<Record<string, TSchema | null>>

export interface HeaderDoc {
  readonly description: string
  readonly schema: TSchema
}

/** One call of the data API: what the server does and what the OpenAPI document says, in one place. */
export interface Route extends Endpoint {
  /** With `{key}` where the key stands. */
  readonly path: string
  readonly summary: string
  readonly query: Parameters
  readonly requestHeaders?: Readonly<Record<string, HeaderDoc>>
  readonly requestBody?: MediaTypes
  /** Answers that are no problem document. */
  readonly answers: Readonly<
    Record<number, { readonly description: string; readonly headers?: readonly string[]; readonly body?: MediaTypes }>
  >
  /** Codes beside those that every call can give. */
  readonly problems?: readonly number[]
  readonly handle: (exchange: Exchange) => void | Promise<void>
}
