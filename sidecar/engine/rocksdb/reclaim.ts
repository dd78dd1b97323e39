import type { Address } from '../native/memory.ts'
import {
  compactionBusy,
  hasFlushedTables,
  type Slice,
  setCompactionTrigger,
  slices,
  suggestCompaction,
} from './compaction.ts'
import { families, tableSizes } from './figures.ts'
import type { Removed } from './removed.ts'
import type { Session } from './session.ts'

/** Below so much reclaimable space, or so small a share of the tables, compacting is not worth the disk's time. */
const RECLAIM_BYTES = 4 << 20
const RECLAIM_SHARE = 0.1
/** RocksDB's own */
const USUAL_TRIGGER = 4
const SLICE_BYTES = 64 << 20

/**
 * Gives unused space back by handing ranges to RocksDB's own compaction threads, one after another. No step waits, so the writer's thread
 * is never held up.
 */
export class Reclaimer {
  readonly #session: Session
  readonly #removed: Removed
  #work: Slice[] = []
  /** Bytes of tables when the estimate was last followed to its end. */
  #settledAt: number | undefined
  #following = false
  /** Families whose flushed tables are still to be compacted. */
  #flushed: Address[] = []
  /** The family whose trigger is lowered for that. */
  #lowered: Address | undefined

  constructor(session: Session, removed: Removed) {
    this.#session = session
    this.#removed = removed
  }

  /** One step; true when nothing is left to do. */
  step(): boolean {
    if (compactionBusy(this.#session)) return false
    const lowered = this.#lowered
    if (lowered !== undefined) {
      this.#lowered = undefined
      setCompactionTrigger(this.#session, lowered, USUAL_TRIGGER)
      return false
    }
    const family = this.#flushed.pop()
    if (family !== undefined) {
      // Suggested ranges leave flushed tables alone when there is nothing below them.
      if (hasFlushedTables(this.#session, family)) {
        setCompactionTrigger(this.#session, family, 1)
        this.#lowered = family
      }
      return false
    }
    const slice = this.#work.pop()
    if (slice) {
      suggestCompaction(this.#session, slice)
      return false
    }
    if (this.#following) {
      this.#following = false
      this.#settledAt = tableSizes(this.#session).total
    }
    if (!this.#plan()) return true
    this.#flushed = [...new Set(this.#work.map(({ family }) => family))]
    this.#startFlush()
    return false
  }

  /** Finds the next work; false when there is none. */
  #plan(): boolean {
    if (this.#removed.bytes() >= RECLAIM_BYTES) {
      this.#work = this.#removed.take()
      return true
    }
    const { total, reclaimable } = tableSizes(this.#session)
    if (reclaimable < RECLAIM_BYTES || reclaimable < total * RECLAIM_SHARE) return false
    // The estimate may stay high whatever is done: then it is not followed again before the database has changed.
    const settled = this.#settledAt
    if (settled !== undefined && Math.abs(total - settled) < total * RECLAIM_SHARE) return false
    this.#work = slices(this.#session, SLICE_BYTES)
    this.#following = true
    return true
  }

  /** What removes must be in table files before a compaction can act on it. */
  #startFlush(): void {
    const { library, handles, errorSlot } = this.#session
    const options = library.rocksdb_flushoptions_create()
    library.rocksdb_flushoptions_set_wait(options, 0)
    for (const family of families(this.#session)) library.rocksdb_flush_cf(handles.database, options, family, errorSlot)
    library.rocksdb_flushoptions_destroy(options)
    this.#session.check('flush')
  }
}
