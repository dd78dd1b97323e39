import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import { ancestry } from '../database/position.ts'

const UNSEEN: readonly EpochRecord['reason'][] = ['imported', 'foreignWrites', 'salvaged', 'adopted']

/**
 * The epoch began with a change that stands in no log: everything was imported, or written by somebody else. It has the seq behind the fork, which no file of
 * changes holds; only a Full leads over it.
 */
export function beganUnseen({ parentEpoch, reason }: EpochRecord): boolean {
  return parentEpoch !== undefined && UNSEEN.includes(reason)
}

/** What one epoch contributes to an ancestry: its changes with `from` < seq <= `to`. */
export interface EpochSpan {
  readonly epoch: bigint
  readonly from: bigint
  readonly to: bigint
}

/**
 * The ancestry of a position as one straight line: a new epoch goes on at its fork's seq + 1, so along the line seq alone orders positions.
 */
export class Line {
  /** Oldest epoch first; a span can be empty. */
  readonly spans: readonly EpochSpan[]
  /** Where a change came that stands in no log: its time, Unix ms, and the seq before it. Oldest first. */
  readonly unseen: ReadonlyArray<{ readonly time: bigint; readonly after: bigint }>

  /** Errors: not_found when an epoch is missing in the history. @param head where the line ends */
  constructor(history: readonly EpochRecord[], head: Position) {
    const spans: EpochSpan[] = []
    const unseen: { time: bigint; after: bigint }[] = []
    let to = head.seq
    for (const record of ancestry(history, head.epoch)) {
      spans.unshift({ epoch: record.epoch, from: record.forkSeq, to })
      if (beganUnseen(record) && record.forkSeq < to) unseen.unshift({ time: record.time, after: record.forkSeq })
      // what the parent did behind the fork is another branch
      if (record.forkSeq < to) to = record.forkSeq
    }
    this.spans = spans
    this.unseen = unseen
  }

  /** Seq up to which the epoch belongs to the line; undefined when none of it does. */
  limit(epoch: bigint): bigint | undefined {
    return this.spans.find(span => span.epoch === epoch)?.to
  }

  /** Whether the state at this position is one that the line went through. */
  holds(position: Position): boolean {
    const span = this.spans.find(candidate => candidate.epoch === position.epoch)
    return span !== undefined && position.seq >= span.from && position.seq <= span.to
  }
}

/** Changes with `from` < seq <= `to` on some line. */
export interface Piece<T> {
  readonly from: bigint
  readonly to: bigint
  readonly source: T
}

/** The pieces that lead from `from` as far as they go, fewest first: at each step the one that reaches farthest. */
export function follow<T>(
  pieces: readonly Piece<T>[],
  from: bigint,
  until: bigint,
): { steps: Piece<T>[]; reached: bigint } {
  const sorted = [...pieces].sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))
  const steps: Piece<T>[] = []
  let reached = from
  let next = 0
  while (reached < until) {
    let best: Piece<T> | undefined
    for (; next < sorted.length; next++) {
      const piece = sorted[next] as Piece<T>
      if (piece.from > reached) break
      if (piece.to > reached && (!best || piece.to > best.to)) best = piece
    }
    if (!best) break
    steps.push(best)
    reached = best.to
  }
  return { steps, reached }
}
