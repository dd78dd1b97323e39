import { KvidxError } from '../../../src/common/errors.ts'

/** What LMDB needs beside the data of a record: node and value header, and its share of half-full pages. */
const PER_RECORD = 48
const OVERHEAD = 1.5

/**
 * Keeps the used part of the map under `mapSizeLimit`. The binding grows its map by itself, without a bound; so what a
 * transaction will need is estimated here, from above, and compared with the pages that are really in use now and then.
 */
export class MapLimit {
  readonly #limit: number
  readonly #used: () => number
  /** Bytes in use when last looked; undefined: look before the next write. */
  #known: number | undefined
  #noted = 0

  /** `used` tells the bytes of pages in use, as of the last commit. */
  constructor(limit: number | undefined, used: () => number) {
    this.#limit = limit ?? Number.POSITIVE_INFINITY
    this.#used = used
  }

  /** Bytes noted so far; the difference between two moments is what was written between them, estimated from above. */
  get noted(): number {
    return this.#noted
  }

  /** Called before each transaction. */
  begin(): void {
    if (this.#limit === Number.POSITIVE_INFINITY) return
    // While less than half of the room can have been used up, the last look is good enough.
    if (this.#known === undefined || this.#noted * 2 > this.#limit - this.#known) {
      this.#known = this.#used()
      this.#noted = 0
    }
  }

  /** A transaction was rolled back, or space was freed: what was noted is wrong. */
  forget(): void {
    this.#known = undefined
    this.#noted = 0
  }

  /** Notes a write that is not refused. */
  note(bytes: number): void {
    this.#noted += (bytes + PER_RECORD) * OVERHEAD
  }

  /** Notes a write of a record with so many bytes of data; throws `no_space` when it would go past the limit. */
  take(bytes: number): void {
    this.note(bytes)
    if (this.#known !== undefined && this.#known + this.#noted > this.#limit)
      throw new KvidxError(
        'no_space',
        `LMDB's map is full: ${this.#known} bytes in use, tuning.mapSizeLimit is ${this.#limit}`,
        { field: 'tuning.mapSizeLimit', limit: this.#limit, used: this.#known },
      )
  }
}
