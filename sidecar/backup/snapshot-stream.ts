import { KvidxError } from '../../src/common/errors.ts'

/** The snapshot of a database as one stream: docs/formats.md, section 12. */

export const SNAPSHOT_TYPE = 'application/vnd.kvidx.snapshot'

const MAGIC = Buffer.from('KVIDXSNP')
const VERSION = 1
const HEADER = 16
const PART_HEADER = 8
/** One part; the server's pieces have about 256 KiB, or one record. */
const LARGEST_PART = 600 * 1024 * 1024
/** Head and what ends it are documents. */
const LARGEST_DOCUMENT = 16 * 1024 * 1024
const PART = { head: 1, records: 2, expiries: 3, end: 4, cut: 5 } as const

/** What the source recorded of the moment, and who it is. u64 as decimal strings. */
export interface SnapshotHead {
  readonly namespace: string
  readonly database: string
  readonly lineage: string
  readonly engine: string
  readonly engineVersion: string
  readonly epochs: readonly Readonly<Record<string, string>>[]
  /** epoch.seq */
  readonly position: string
  /** Of the last commit, Unix ms. */
  readonly time: string
  readonly count: string
  readonly dataBytes: string
  /** 32 hex digits */
  readonly digest: string
  readonly expiring: string
  /** The change log holds everything behind this position. */
  readonly logBase: string
  readonly minKey?: string
  readonly maxKey?: string
}

/** The trailer: without it the stream was cut. */
interface SnapshotEnd {
  readonly recordBytes: number
  readonly expiryBytes: number
}

/** In the place of the trailer. */
interface SnapshotCut {
  readonly message: string
}

export interface SnapshotParts {
  readonly records: AsyncIterable<Uint8Array>
  readonly expiries: AsyncIterable<Uint8Array>
}

/** A snapshot that the database lets go of says so in its last part, since its reader has another way to go on. */
export async function* encodeSnapshot(head: SnapshotHead, parts: SnapshotParts): AsyncGenerator<Uint8Array> {
  try {
    yield* encodeParts(head, parts)
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || thrown.code !== 'snapshot_cut') throw thrown
    const cut = json({ message: thrown.message } satisfies SnapshotCut)
    yield Buffer.concat([partHeader(PART.cut, cut.length), cut])
  }
}

async function* encodeParts(head: SnapshotHead, parts: SnapshotParts): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(HEADER)
  MAGIC.copy(header)
  header.writeUInt32LE(VERSION, 8)
  yield Buffer.concat([header, partHeader(PART.head, json(head).length), json(head)])
  let recordBytes = 0
  for await (const chunk of parts.records) {
    recordBytes += chunk.length
    yield partHeader(PART.records, chunk.length)
    yield chunk
  }
  let expiryBytes = 0
  for await (const chunk of parts.expiries) {
    expiryBytes += chunk.length
    yield partHeader(PART.expiries, chunk.length)
    yield chunk
  }
  const end = json({ recordBytes, expiryBytes } satisfies SnapshotEnd)
  yield Buffer.concat([partHeader(PART.end, end.length), end])
}

/**
 * Reads the stream part by part: first `open`, then `records` to its end, then `expiries` to its end, which checks the trailer. Errors: invalid_body
 * when it is no snapshot, was broken off, or is read in another order; snapshot_cut when the database let go of it.
 */
export class SnapshotReader implements SnapshotParts {
  readonly #source: AsyncIterator<Uint8Array>
  #buffer: Buffer = Buffer.alloc(0)
  #next: { kind: number; length: number } | undefined
  #recordBytes = 0
  #expiryBytes = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  async open(): Promise<SnapshotHead> {
    const header = await this.#exactly(HEADER)
    if (!header.subarray(0, 8).equals(MAGIC) || header.readUInt32LE(8) !== VERSION)
      throw broken('it is no snapshot of a known version')
    const part = await this.#peek()
    if (part.kind !== PART.head) throw broken('its head is missing')
    this.#next = undefined
    return this.#document<SnapshotHead>(part)
  }

  get records(): AsyncIterable<Uint8Array> {
    return this.#parts(PART.records, length => {
      this.#recordBytes += length
    })
  }

  get expiries(): AsyncIterable<Uint8Array> {
    return this.#lastParts()
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }

  async *#lastParts(): AsyncGenerator<Uint8Array> {
    yield* this.#parts(PART.expiries, length => {
      this.#expiryBytes += length
    })
    const part = await this.#peek()
    if (part.kind !== PART.end) throw broken('its trailer is missing')
    const end = await this.#document<SnapshotEnd>(part)
    if (end.recordBytes !== this.#recordBytes || end.expiryBytes !== this.#expiryBytes)
      throw broken(
        `it has ${this.#recordBytes} and ${this.#expiryBytes} bytes, its trailer says ${end.recordBytes} and ${end.expiryBytes}`,
      )
  }

  async *#parts(kind: number, passed: (length: number) => void): AsyncGenerator<Uint8Array> {
    for (;;) {
      const part = await this.#peek()
      if (part.kind !== kind) return
      this.#next = undefined
      passed(part.length)
      for (let left = part.length; left > 0; ) {
        if (this.#buffer.length === 0) await this.#fill()
        const take = this.#buffer.subarray(0, left)
        this.#buffer = this.#buffer.subarray(take.length)
        left -= take.length
        yield take
      }
    }
  }

  async #peek(): Promise<{ kind: number; length: number }> {
    if (this.#next) return this.#next
    const header = await this.#exactly(PART_HEADER)
    const part = { kind: header.readUInt32LE(0), length: header.readUInt32LE(4) }
    if (part.length > LARGEST_PART) throw broken(`a part claims ${part.length} bytes`)
    if (part.kind === PART.cut) throw new KvidxError('snapshot_cut', (await this.#document<SnapshotCut>(part)).message)
    this.#next = part
    return part
  }

  async #document<T>({ length }: { length: number }): Promise<T> {
    if (length > LARGEST_DOCUMENT) throw broken(`a document claims ${length} bytes`)
    const bytes = await this.#exactly(length)
    try {
      return JSON.parse(bytes.toString()) as T
    } catch (thrown) {
      throw broken(`a document is not JSON: ${(thrown as Error).message}`)
    }
  }

  async #exactly(length: number): Promise<Buffer> {
    while (this.#buffer.length < length) await this.#fill()
    const taken = this.#buffer.subarray(0, length)
    this.#buffer = this.#buffer.subarray(length)
    return taken
  }

  async #fill(): Promise<void> {
    const step = await this.#source.next()
    if (step.done) throw broken('it was cut off')
    this.#buffer =
      this.#buffer.length === 0
        ? Buffer.from(step.value.buffer, step.value.byteOffset, step.value.byteLength)
        : Buffer.concat([this.#buffer, step.value])
  }
}

function partHeader(kind: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(PART_HEADER)
  header.writeUInt32LE(kind, 0)
  header.writeUInt32LE(length, 4)
  return header
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function broken(what: string): KvidxError {
  return new KvidxError('invalid_body', `the snapshot cannot be read: ${what}`)
}
