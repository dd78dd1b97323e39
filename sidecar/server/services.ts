import type { SnapshotSource } from '../backup/snapshot-source.ts'
import type { Position } from '../database/operation.ts'
import type { KeyRange } from '../engine/engine.ts'
import type { RestoreRequest, RestoreStatus } from '../restore/in-place.ts'
import type { QuarantineEntry } from '../restore/quarantine.ts'

/** What the admin calls of backup and restore need beside the database; only the engine process of a real volume has it. */
export interface AdminServices {
  readonly namespace: string
  readonly name: string
  /** The configured store without credentials, as a URL; absent: none is configured. */
  readonly store?: string | undefined
  /** Directory of the encryption keys and the name of the one in use. */
  readonly encryption?: { readonly directory: string; readonly keyId: string } | undefined
  /** Release it. */
  snapshot(signal: AbortSignal): Promise<SnapshotSource>
  /** One frame with the first stored records of a range. */
  slice(range: KeyRange, bytes: number, signal: AbortSignal): Promise<Uint8Array>
  consumers(): Promise<Readonly<Record<string, { readonly position: string; readonly seen: number }>>>
  /** @param lease milliseconds */
  setConsumer(name: string, position: Position, lease?: number): Promise<void>
  removeConsumer(name: string): Promise<void>
  /** A job tells how its work ended. */
  report(document: Readonly<Record<string, unknown>>): Promise<void>
  /** Starts an in-place restore, or joins the one that was asked for in the same words. Errors: conflict while another one runs. */
  restore(request: RestoreRequest): Promise<RestoreStatus>
  /** Stops a restore before its swap; false when none runs, or when it is too late. */
  cancelRestore(): boolean
  readonly restoreStatus: RestoreStatus | undefined
  quarantine(): Promise<readonly QuarantineEntry[]>
  /** Errors: not_found. */
  removeQuarantine(name: string): Promise<void>
}
