import type { EngineFigures, EngineShare, IntegrityReport, KeyRange } from '../engine/engine.ts'
import type { ScanOptions } from './database.ts'
import type { PackedChunk } from './packed-stream.ts'
import type { PlainError } from './plain-error.ts'

/** What goes between the servers' thread and a reader's thread. */

export interface ReaderData {
  readonly share: EngineShare
}

export type StreamSpec =
  /** Records in a format; `now` (Unix ms) decides what is visible. */
  | { readonly kind: 'records'; readonly options: ScanOptions; readonly now: bigint }
  /** The file `expiries.bin` of the snapshot. */
  | { readonly kind: 'expiries' }

/** What a scan of everything gives. */
export interface ScanTotals {
  readonly count: bigint
  readonly dataBytes: bigint
  readonly digest: bigint
  readonly expiring: bigint
}

/** Calls on a snapshot. */
export interface SnapshotCalls {
  /** Records of a range that are visible at `now`; without `now` all that are stored. */
  count: [{ range: KeyRange; now: bigint | undefined }, { count: number }]
  /** See EngineSnapshot.pack; the buffer is used again. */
  pack: [{ range: KeyRange; visibleAt: bigint | undefined; buffer: ArrayBuffer | undefined }, PackedChunk]
  /** One frame with the first stored records of a range. */
  slice: [{ range: KeyRange; bytes: number }, Uint8Array]
  bounds: [Record<string, never>, { minKey?: bigint; maxKey?: bigint }]
  totals: [Record<string, never>, ScanTotals]
}

/** Calls that need no snapshot. */
export interface ReaderCalls {
  /** How many stored records have expired by `until`. */
  expired: [{ until: bigint }, { count: number }]
  figures: [Record<string, never>, EngineFigures]
  integrity: [Record<string, never>, IntegrityReport]
  /** Copies the WAL back beside the writer, where the engine has one. */
  checkpoint: [Record<string, never>, { walBytes: number }]
  /** Whole frames behind `afterSeq`, at most about `maxBytes` and none beyond `untilSeq`. Empty: nothing newer. */
  log: [{ afterSeq: bigint; untilSeq: bigint; maxBytes: number }, { frames: Uint8Array; lastSeq: bigint; base: bigint }]
  close: [Record<string, never>, Record<string, never>]
}

export type ToReader =
  | { readonly type: 'snapshot'; readonly id: number }
  | { readonly type: 'release'; readonly snapshot: number }
  | { readonly type: 'stream'; readonly id: number; readonly snapshot: number; readonly spec: StreamSpec }
  | { readonly type: 'pull'; readonly id: number }
  | {
      readonly type: 'call'
      readonly id: number
      readonly snapshot?: number
      readonly name: keyof SnapshotCalls | keyof ReaderCalls
      readonly args: unknown
    }
  | { readonly type: 'cancel'; readonly id: number }

export type FromReader =
  | { readonly type: 'ready' }
  /** Answer to `snapshot`: the state it holds. */
  | { readonly type: 'state'; readonly id: number; readonly state: Uint8Array }
  /** Answer to a `pull`; `end` with the last one. */
  | { readonly type: 'chunk'; readonly id: number; readonly chunk: Uint8Array; readonly end: boolean }
  | { readonly type: 'progress'; readonly id: number; readonly done: number; readonly total: number }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'failed'; readonly id: number; readonly error: PlainError }
