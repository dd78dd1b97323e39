import { setImmediate } from 'node:timers/promises'
import { KvidxError } from '../../../src/common/errors.ts'
import type { StoredRecord } from '../../engine/engine.ts'
import type { RecordSource, SourceReport } from './record-source.ts'

const BATCH_RECORDS = 1000
const BATCH_BYTES = 4 << 20
/** Orphan keys that are named; all are counted. */
const NAMED_ORPHANS = 100

/** A record of kvidxkit without its expiry, which stands elsewhere. */
export type BareRecord = Omit<StoredRecord, 'expiresAt'>

export interface Expiry {
  readonly key: bigint
  /** Unix ms */
  readonly expiresAt: bigint
}

/** What a database directory gives: both in unsigned key order, with data that stays valid. */
export interface DirectoryContent {
  readonly kind: 'rocksdb' | 'lmdb'
  readonly count?: number
  records(): Generator<BareRecord>
  expiries(): Generator<Expiry>
  close(): void | Promise<void>
}

/** Joins records and expiries as they come; an expiry whose record does not exist is an orphan. */
export class DirectorySource implements RecordSource {
  readonly kind: 'rocksdb' | 'lmdb'
  readonly count?: number
  readonly #content: DirectoryContent
  readonly #orphanKeys: bigint[] = []
  #orphans = 0
  #records = 0
  #expiring = 0
  #closed = false
  #reading = false

  constructor(content: DirectoryContent) {
    this.kind = content.kind
    this.#content = content
    if (content.count !== undefined) this.count = content.count
  }

  async *batches(signal?: AbortSignal): AsyncGenerator<readonly StoredRecord[]> {
    if (this.#reading) throw new KvidxError('internal', 'a source can be read only once')
    this.#reading = true
    let batch: StoredRecord[] = []
    let bytes = 0
    for (const record of this.#joined()) {
      this.#records++
      if (record.expiresAt !== 0n) this.#expiring++
      batch.push(record)
      bytes += record.data.length
      if (batch.length < BATCH_RECORDS && bytes < BATCH_BYTES) continue
      yield batch
      // Reading is synchronous: others get their turn between batches.
      await setImmediate()
      if (signal?.aborted || this.#closed) {
        throw new KvidxError('cancelled', `reading ${this.kind} was cancelled after ${this.#records} records`)
      }
      batch = []
      bytes = 0
    }
    if (batch.length > 0) yield batch
  }

  report(): SourceReport {
    return {
      kind: this.kind,
      records: this.#records,
      expiring: this.#expiring,
      orphanExpiries: this.#orphans,
      orphanKeys: [...this.#orphanKeys],
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#content.close()
  }

  *#joined(): Generator<StoredRecord> {
    const expiries = this.#content.expiries()
    try {
      let expiry = expiries.next()
      for (const record of this.#content.records()) {
        for (; !expiry.done && expiry.value.key < record.key; expiry = expiries.next()) this.#orphan(expiry.value)
        let expiresAt = 0n
        if (!expiry.done && expiry.value.key === record.key) {
          // 0 is a time long past for kvidxkit, but "never" here.
          expiresAt = expiry.value.expiresAt || 1n
          expiry = expiries.next()
        }
        yield { ...record, expiresAt }
      }
      for (; !expiry.done; expiry = expiries.next()) this.#orphan(expiry.value)
    } finally {
      expiries.return(undefined)
    }
  }

  #orphan({ key }: Expiry): void {
    this.#orphans++
    if (this.#orphanKeys.length < NAMED_ORPHANS) this.#orphanKeys.push(key)
  }
}
