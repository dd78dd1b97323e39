import type { TSchema } from '@sinclair/typebox'
import type { Exchange } from './exchange.ts'
import type { Parameters } from './parameters.ts'

/** What a token allows; each contains the one before. */
export type Rights = 'none' | 'read' | 'write' | 'admin'

export type Method = 'GET' | 'HEAD' | 'PUT' | 'PATCH' | 'POST' | 'DELETE'

/** Bodies by media type; `null` stands for bytes. */
export type MediaTypes = Readonly<Record<string, TSchema | null>>

export interface HeaderDoc {
  readonly description: string
  readonly schema: TSchema
}

/** One call of the data API: what the server does and what the OpenAPI document says, in one place. */
export interface Route {
  readonly method: Method
  /** With `{key}` where the key stands. */
  readonly path: string
  /** operationId, and the `operation` label of the metrics. */
  readonly name: string
  readonly rights: Rights
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
  /** Streams and tasks: never in the slow-operation log. */
  readonly long?: true
  readonly handle: (exchange: Exchange) => void | Promise<void>
}
