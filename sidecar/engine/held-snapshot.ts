import { KvidxError } from '../../src/common/errors.ts'
import type { EngineSnapshot, Key, KeyRange, LogFrame, Packed, ReadView, StoredRecord, Visit } from './engine.ts'

/** A view that can do what a snapshot can. */
export interface CountingView extends ReadView {
  count(range: KeyRange): number
  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed
}

/**
 * A snapshot over a view whose moment is held until `release`. The view below may be used again for another moment, so this
 * object answers nothing once it is released. Error: `not_ready` when it is used all the same.
 */
export class HeldSnapshot implements EngineSnapshot {
  readonly #view: CountingView
  #letGo: (() => void) | undefined

  constructor(view: CountingView, letGo: () => void) {
    this.#view = view
    this.#letGo = letGo
  }

  get(key: Key): StoredRecord | undefined {
    return this.#held().get(key)
  }

  scan(range: KeyRange, descending: boolean, visit: Visit<StoredRecord>): number {
    return this.#held().scan(range, descending, visit)
  }

  count(range: KeyRange): number {
    return this.#held().count(range)
  }

  pack(range: KeyRange, visibleAt: bigint | undefined, target: Uint8Array): Packed {
    return this.#held().pack(range, visibleAt, target)
  }

  scanExpiries(until: bigint, limit: number, visit: Visit<{ key: Key; expiresAt: bigint }>): number {
    return this.#held().scanExpiries(until, limit, visit)
  }

  getMeta(name: string): Uint8Array | undefined {
    return this.#held().getMeta(name)
  }

  scanLog(fromSeq: bigint, visit: Visit<LogFrame>): number {
    return this.#held().scanLog(fromSeq, visit)
  }

  release(): void {
    const letGo = this.#letGo
    this.#letGo = undefined
    letGo?.()
  }

  #held(): CountingView {
    if (this.#letGo === undefined)
      throw new KvidxError('not_ready', 'The snapshot has been released, or the database closed')
    return this.#view
  }
}
