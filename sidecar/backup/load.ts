import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import { digestOfRecord, formatDigest, parseDigest, reduceDigest } from '../database/digest.ts'
import { changesOf } from '../database/frame.ts'
import type { EngineWriter, StoredRecord } from '../engine/engine.ts'
import { decodeStream } from '../format/decode.ts'
import type { Backup } from './catalog.ts'
import { readFrames } from './change-file.ts'
import { type FileContext, readFile } from './stored-file.ts'

/** What came out of loading a Full. */
export interface Loaded {
  readonly state: DatabaseState
  readonly minKey?: bigint
  readonly maxKey?: bigint
}

/** Bytes that one record may have: far above any limit a database can be given, far below what ends the process. */
const LARGEST_DATA = 512 * 1024 * 1024
/** One engine transaction. */
const BATCH_RECORDS = 10_000
const BATCH_BYTES = 4 * 1024 * 1024

/**
 * Loads the records and expiries of a Full into an empty engine and compares everything with its manifest, but for the digest when `readBack` says that the caller
 * makes it of what the engine then holds: it is a fifth of the work. Memory is bounded by a batch and the largest
 * record. Errors: backup_corrupt naming what differs; wrong_encryption_key; the engine's and the store's.
 * @param onRecords called with the number of records so far
 */
export async function loadFull(
  context: FileContext,
  writer: EngineWriter,
  backup: Backup,
  onRecords: (count: number) => void = () => {},
  readBack = false,
): Promise<Loaded> {
  const { manifest, path } = backup
  const [recordsFile, expiriesFile] = manifest.files
  if (!recordsFile || !expiriesFile)
    throw new KvidxError('backup_corrupt', `${path}: the manifest does not name two files`)
  const expiries = new ExpiryReader(readFile(context, path, expiriesFile, manifest.encryption), backup)
  const loader = new Loader(writer, `${path}${recordsFile.name}`, readBack ? parseDigest(manifest.digest) : undefined)
  try {
    const plain = readFile(context, path, recordsFile, manifest.encryption)
    const options = { maxDataBytes: LARGEST_DATA }
    for await (const records of decodeStream(plain, 'binary', options, context.signal)) {
      await loader.add(records, expiries)
      onRecords(loader.count)
    }
    loader.flush()
    await expiries.finish()
  } catch (thrown) {
    // what the decoder refuses in a body of a request is damage here
    if (thrown instanceof KvidxError && (thrown.code === 'invalid_body' || thrown.code === 'too_large'))
      throw new KvidxError('backup_corrupt', `${path}${recordsFile.name}: ${thrown.message}`, thrown.details, thrown)
    throw thrown
  } finally {
    await expiries.close()
  }
  const loaded = loader.result(backup)
  compare(loaded, backup)
  return loaded
}

class Loader {
  count = 0
  readonly #writer: EngineWriter
  readonly #file: string
  readonly #givenDigest: bigint | undefined
  #dataBytes = 0
  #digest = 0n
  #expiring = 0
  #minKey: bigint | undefined
  #maxKey: bigint | undefined
  #batch: StoredRecord[] = []
  #batchBytes = 0

  constructor(writer: EngineWriter, file: string, givenDigest: bigint | undefined) {
    this.#writer = writer
    this.#file = file
    this.#givenDigest = givenDigest
  }

  async add(records: readonly StoredRecord[], expiries: ExpiryReader): Promise<void> {
    for (const bare of records) {
      if (this.#maxKey !== undefined && bare.key <= this.#maxKey)
        throw new KvidxError('backup_corrupt', `${this.#file}: key ${bare.key} comes behind key ${this.#maxKey}`, {
          key: String(bare.key),
        })
      // a frame of expiries is read only when the one before is used up
      if (expiries.needsMore) await expiries.more()
      const expiresAt = expiries.take(bare.key)
      const record = expiresAt === 0n ? bare : { ...bare, expiresAt }
      this.#minKey ??= bare.key
      this.#maxKey = bare.key
      this.count++
      this.#dataBytes += bare.data.length
      if (expiresAt !== 0n) this.#expiring++
      if (this.#givenDigest === undefined) this.#digest += digestOfRecord(record)
      this.#batch.push(record)
      this.#batchBytes += bare.data.length
      if (this.#batch.length >= BATCH_RECORDS || this.#batchBytes >= BATCH_BYTES) this.flush()
    }
  }

  flush(): void {
    const batch = this.#batch
    if (batch.length === 0) return
    this.#writer.transact(transaction => {
      for (const record of batch) {
        if (!transaction.insert(record))
          throw new KvidxError('conflict', `the engine to restore into is not empty: it has key ${record.key} already`)
      }
    })
    this.#digest = reduceDigest(this.#digest)
    this.#batch = []
    this.#batchBytes = 0
  }

  result(backup: Backup): Loaded {
    const { position, commitTime } = backup
    const state: DatabaseState = {
      position,
      time: commitTime,
      count: BigInt(this.count),
      dataBytes: BigInt(this.#dataBytes),
      digest: this.#givenDigest ?? reduceDigest(this.#digest),
      expiring: BigInt(this.#expiring),
      logBase: position,
      logBytes: 0n,
    }
    return {
      state,
      ...(this.#minKey !== undefined && { minKey: this.#minKey }),
      ...(this.#maxKey !== undefined && { maxKey: this.#maxKey }),
    }
  }
}

/** Joins the expiries, which come in key order too. */
class ExpiryReader {
  readonly #frames: AsyncGenerator<{ key: bigint; expiresAt: bigint }[]>
  readonly #where: string
  #list: { key: bigint; expiresAt: bigint }[] = []
  #at = 0
  #ended = false
  #last: bigint | undefined

  constructor(source: AsyncIterable<Uint8Array>, backup: Backup) {
    this.#where = backup.path
    this.#frames = expiriesOf(source, backup)
  }

  get needsMore(): boolean {
    return this.#at === this.#list.length && !this.#ended
  }

  async more(): Promise<void> {
    while (this.needsMore) {
      const next = await this.#frames.next()
      this.#at = 0
      this.#list = next.done ? [] : next.value
      this.#ended = next.done === true
      for (const { key } of this.#list) {
        if (this.#last !== undefined && key <= this.#last)
          throw new KvidxError(
            'backup_corrupt',
            `${this.#where}: the expiry of key ${key} comes behind that of key ${this.#last}`,
          )
        this.#last = key
      }
    }
  }

  /** The expiry of this key, 0n for none. */
  take(key: bigint): bigint {
    const next = this.#list[this.#at]
    if (!next || next.key > key) return 0n
    if (next.key < key) throw this.#orphan(next.key)
    this.#at++
    return next.expiresAt
  }

  async finish(): Promise<void> {
    await this.more()
    const next = this.#list[this.#at]
    if (next) throw this.#orphan(next.key)
  }

  async close(): Promise<void> {
    await this.#frames.return(undefined)
  }

  #orphan(key: bigint): KvidxError {
    return new KvidxError('backup_corrupt', `${this.#where}: there is an expiry of key ${key}, but no such record`, {
      key: String(key),
    })
  }
}

async function* expiriesOf(
  source: AsyncIterable<Uint8Array>,
  backup: Backup,
): AsyncGenerator<{ key: bigint; expiresAt: bigint }[]> {
  const { manifest, position, path } = backup
  for await (const frames of readFrames(source, 'expiries')) {
    for (const { frame, header } of frames) {
      const { epoch, firstSeq, after } = header
      if (epoch !== position.epoch || firstSeq !== position.seq || formatDigest(after.digest) !== manifest.digest)
        throw new KvidxError(
          'backup_corrupt',
          `${path}: the expiries belong to another snapshot, that of ${epoch}.${firstSeq}`,
        )
      const list: { key: bigint; expiresAt: bigint }[] = []
      for (const change of changesOf(frame)) {
        if (change.kind !== 'expiry' || change.expiresAt === 0n)
          throw new KvidxError('backup_corrupt', `${path}: the expiries hold a change of kind ${change.kind}`)
        list.push({ key: change.key, expiresAt: change.expiresAt })
      }
      yield list
    }
  }
}

/** The records must be what the manifest says. */
function compare(loaded: Loaded, backup: Backup): void {
  const { manifest, path } = backup
  const found = {
    count: String(loaded.state.count),
    dataBytes: String(loaded.state.dataBytes),
    minKey: loaded.minKey === undefined ? undefined : String(loaded.minKey),
    maxKey: loaded.maxKey === undefined ? undefined : String(loaded.maxKey),
    digest: formatDigest(loaded.state.digest),
  }
  for (const name of ['count', 'dataBytes', 'minKey', 'maxKey', 'digest'] as const) {
    if (found[name] !== manifest[name])
      throw new KvidxError(
        'backup_corrupt',
        `${path}: the ${name} of its records is ${found[name]}, the manifest says ${manifest[name]}`,
        {
          check: name,
          expected: manifest[name],
          found: found[name],
        },
      )
  }
}
