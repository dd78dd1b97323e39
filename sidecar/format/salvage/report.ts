import type { DatabaseState, EpochRecord } from '../../database/database.ts'
import type { WalSummary } from './wal-index.ts'

/** Of each list the first so many are named; all are counted. */
export const NAMED = 1000

/** Keys, both ends inclusive, of which some could not be read. */
export interface LostRange {
  readonly start: bigint
  readonly end: bigint
  /** Records of the range that were found all the same. */
  readonly recovered: number
}

export interface Counted<T> {
  readonly count: number
  /** At most the first NAMED. */
  readonly first: readonly T[]
}

/** What a salvage brought. Everything is counted; nothing is guessed: what cannot be known is absent. */
export interface SalvageReport {
  /**
   * complete: count and digest are those of the last commit. incomplete: records are missing. altered: none is missing, but the content of at least
   * one differs from what was committed (which one cannot be known), or the counters were damaged themselves. unverified: the database has no counters, or they could not be read; then
   * lostRanges, lostRecords and doubtful tell all that was noticed, and damage inside values goes unnoticed.
   */
  readonly verdict: 'complete' | 'incomplete' | 'altered' | 'unverified'
  /** Records that the consumer took. */
  readonly recovered: number
  readonly recoveredBytes: bigint
  /** Content digest over them. */
  readonly digest: bigint
  /** What the database's own counters say, when they could be read. */
  readonly expected?: DatabaseState
  /** The database's epoch history, when it could be read. */
  readonly epochs?: readonly EpochRecord[]
  /** expected.count - recovered, when that is known. May be below 0 when the consumer took records that had been removed. */
  readonly missing?: bigint
  /** Ranges that the damaged pages should have held. */
  readonly lostRanges: Counted<LostRange>
  /** Records whose key is known, but whose content is not readable: not recovered. */
  readonly lostRecords: Counted<{ readonly key: bigint; readonly reason: string }>
  /** Records whose key or fields are out of place: handed over as doubtful, and whether the consumer took them. */
  readonly doubtful: Counted<{ readonly key: bigint; readonly reason: string; readonly taken: boolean }>
  readonly damagedPages: Counted<{ readonly page: number; readonly reason: string }>
  readonly expiries: {
    /** Expiries read, those of absent records included. */
    readonly read: number
    /** Keys whose expiry may be lost: their records were recovered as never expiring. */
    readonly lostRanges: Counted<{ readonly start: bigint; readonly end: bigint }>
  }
  readonly pageSize: number
  readonly pages: number
  /** The schema could be read; otherwise every page of the file was searched for records. */
  readonly schemaRead: boolean
  /** The list of free pages was whole; otherwise pages that were given up long ago may have been taken for records (then doubtful). */
  readonly freeListRead: boolean
  /** A rollback journal lies beside the file: it was not applied, so the last transaction may be half there. */
  readonly hotJournal: boolean
  /** Commits of lost frames are lost; counters are those of the last commit that was read. */
  readonly wal?: WalSummary
}

/** Gathers a list of which only the beginning is named. */
export class Tally<T> implements Counted<T> {
  count = 0
  readonly first: T[] = []

  add(item: T): void {
    this.count++
    if (this.first.length < NAMED) this.first.push(item)
  }
}
