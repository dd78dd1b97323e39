/** What a token allows; each contains the one before. */
export type Rights = 'none' | 'read' | 'write' | 'admin'

export type Method = 'GET' | 'HEAD' | 'PUT' | 'PATCH' | 'POST' | 'DELETE'

/** What a request has to know of the call that it makes. */
export interface Endpoint {
  readonly method: Method
  /** operationId, and the `operation` label of the metrics. */
  readonly name: string
  readonly rights: Rights
  /** Streams and tasks: never in the slow-operation log. */
  readonly long?: true
}
