import type { Key, KeyRange } from '../engine/engine.ts'

/** `(epoch, seq)`, written `epoch.seq`. Ordered only along one ancestry. */
export interface Position {
  readonly epoch: bigint
  readonly seq: bigint
}

/** What must hold for the visible record, judged inside the commit. All given ones must hold. */
export interface Condition {
  readonly absent?: true
  readonly present?: true
  /** The record's own digest (its ETag as a number). */
  readonly digest?: bigint
  readonly term?: bigint
}

/** An absolute time (Unix ms), or a duration from the moment of the commit, or 0n to clear. */
export type ExpiryChange = { readonly at: bigint } | { readonly after: bigint }

interface Conditional {
  readonly condition?: Condition
  /** The result carries what was visible before. */
  readonly returnPrevious?: true
  /** A condition that does not hold skips this operation alone and not the whole request. */
  readonly optional?: true
}

/** One change that a client asks for. Ranges of u64 fields: 0 … 2^64-1. */
export type Operation =
  | (Conditional & {
      readonly op: 'put'
      readonly key: Key
      readonly term: bigint
      readonly cmd: bigint
      readonly data: Uint8Array
      readonly expiry?: ExpiryChange
    })
  | (Conditional & {
      readonly op: 'append' | 'prepend'
      readonly key: Key
      readonly term: bigint
      readonly cmd: bigint
      readonly data: Uint8Array
    })
  | (Conditional & { readonly op: 'splice'; readonly key: Key; readonly offset: number; readonly data: Uint8Array })
  | (Conditional & { readonly op: 'remove'; readonly key: Key })
  | (Conditional & {
      readonly op: 'expiry'
      readonly key: Key /** undefined clears it */
      readonly expiry?: ExpiryChange
    })
  | { readonly op: 'removeRange'; readonly range: KeyRange }

/** A record as a client sees it: not expired. */
export interface VisibleRecord {
  readonly key: Key
  readonly term: bigint
  readonly cmd: bigint
  readonly data: Uint8Array
  readonly expiresAt?: bigint
}

export type OperationOutcome =
  /** The operation changed something; `digest` is the new record's (absent after a removal); `removed` counts visible records of a range removal. */
  | {
      readonly outcome: 'changed'
      readonly created?: true
      readonly digest?: bigint
      readonly removed?: number
      readonly length?: number
      readonly previous?: VisibleRecord
    }
  /** Nothing to do: remove of an absent key, expiry already so. */
  | { readonly outcome: 'unchanged'; readonly digest?: bigint }
  | { readonly outcome: 'condition_failed'; readonly digest?: bigint }
  /** splice or expiry of an absent record */
  | { readonly outcome: 'not_found' }

/** One atomic request: either all its operations are done or none. */
export interface WriteRequest {
  readonly operations: readonly Operation[]
  /** Filled in when the request was judged, whatever came of it. */
  readonly timing?: WriteTiming
}

/** What the writer's thread says of the group that a request was in. */
export interface WriteTiming {
  /** Changes, log and the way to the disk of the whole group, ms. */
  commit: number
}

export interface WriteResult {
  /** The commit's position; for a failed or empty request the position it was judged at. */
  readonly position: Position
  /** False: a condition failed or a record was missing, so nothing of this request was done. */
  readonly applied: boolean
  /** One for each operation, in order; after the first failure the rest is missing. */
  readonly outcomes: readonly OperationOutcome[]
}
