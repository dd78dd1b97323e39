import { BINARY_HEADER, BINARY_MAGIC, BINARY_RECORD, BINARY_VERSION } from './binary-writer.ts'
import { dataTooLarge, invalidBody } from './decode-error.ts'
import type { DecodeOptions, Decoder, OnRecord } from './decoder.ts'

/** kvidxkit's BINARY export. The reserved field is ignored, as the library does; the count must fit exactly, which the library does not ask. */
export class BinaryDecoder implements Decoder {
  records = 0
  announced: number | undefined
  readonly #maxDataBytes: number
  readonly #onRecord: OnRecord
  /** Bytes of finished parts, from the start of the stream. */
  #offset = 0
  /** The header of the file or of a record while it is not whole. */
  readonly #partial = new Uint8Array(BINARY_RECORD)
  #partialLength = 0
  /** The data of a record that began in an earlier chunk. */
  #data: Uint8Array | undefined
  #dataLength = 0
  #count = 0n
  #key = 0n
  #term = 0n
  #cmd = 0n

  constructor(options: DecodeOptions, onRecord: OnRecord) {
    this.#maxDataBytes = options.maxDataBytes
    this.#onRecord = onRecord
  }

  push(chunk: Uint8Array): void {
    let at = 0
    if (this.announced === undefined) {
      at = this.#fill(chunk, at, BINARY_HEADER)
      this.#checkMagic()
      if (this.#partialLength < BINARY_HEADER) return
      this.#readHeader()
    }
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    while (at < chunk.length) {
      if (this.#data !== undefined) {
        at = this.#fillData(chunk, at, this.#data)
        continue
      }
      if (this.records === this.announced) {
        throw this.#error(`there are further bytes behind the last of ${this.#count} records`, 'the end of the file')
      }
      if (this.#partialLength > 0 || chunk.length - at < BINARY_RECORD) {
        at = this.#fill(chunk, at, BINARY_RECORD)
        if (this.#partialLength < BINARY_RECORD) return
        this.#partialLength = 0
        at = this.#beginRecord(new DataView(this.#partial.buffer), 0, chunk, at)
      } else {
        at = this.#beginRecord(view, at, chunk, at + BINARY_RECORD)
      }
    }
  }

  end(): void {
    if (this.announced === undefined) {
      throw this.#error(`the file ends after ${this.#partialLength} bytes`, `a header of ${BINARY_HEADER} bytes`)
    }
    if (this.#data !== undefined) {
      throw this.#error(
        `the file ends after ${this.#dataLength} of ${this.#data.length} bytes of data`,
        'the rest of the data',
      )
    }
    if (this.#partialLength > 0) {
      throw this.#error(
        `the file ends after ${this.#partialLength} bytes of a record`,
        `${BINARY_RECORD} bytes and its data`,
      )
    }
    if (this.records < this.announced) {
      throw this.#error(
        `the file ends after ${this.records} of the ${this.#count} records that its header announces`,
        'a further record',
      )
    }
  }

  /** Moves bytes into the partial header until it has `size`; returns the position behind them. */
  #fill(chunk: Uint8Array, at: number, size: number): number {
    const count = Math.min(size - this.#partialLength, chunk.length - at)
    this.#partial.set(chunk.subarray(at, at + count), this.#partialLength)
    this.#partialLength += count
    return at + count
  }

  #checkMagic(): void {
    const known = Math.min(this.#partialLength, BINARY_MAGIC.length)
    for (let i = 0; i < known; i++) {
      if (this.#partial[i] !== BINARY_MAGIC[i]) {
        const found = Buffer.from(this.#partial.subarray(0, known)).toString('hex')
        throw this.#error(
          `the file begins with the bytes ${found}`,
          `${Buffer.from(BINARY_MAGIC).toString('hex')} (a kvidxkit BINARY export)`,
        )
      }
    }
  }

  #readHeader(): void {
    const view = new DataView(this.#partial.buffer)
    const version = view.getUint32(8, true)
    if (version !== BINARY_VERSION) {
      throw invalidBody('binary', { offset: 8 }, `the format version is ${version}`, `${BINARY_VERSION}`)
    }
    this.#count = view.getBigUint64(16, true)
    // more than 2^53 records cannot follow; the number only has to stay one that is never reached
    this.announced = Number(this.#count)
    this.#offset = BINARY_HEADER
    this.#partialLength = 0
  }

  #beginRecord(view: DataView, header: number, chunk: Uint8Array, at: number): number {
    const key = view.getBigUint64(header, true)
    const term = view.getBigUint64(header + 8, true)
    const cmd = view.getBigUint64(header + 16, true)
    const length = view.getUint32(header + 24, true) + view.getUint32(header + 28, true) * 0x1_0000_0000
    if (length > this.#maxDataBytes) {
      const exact = view.getBigUint64(header + 24, true)
      throw dataTooLarge('binary', { record: this.records, offset: this.#offset }, `${exact}`, this.#maxDataBytes)
    }
    if (chunk.length - at >= length) {
      this.#deliver(key, term, cmd, chunk.subarray(at, at + length))
      return at + length
    }
    this.#key = key
    this.#term = term
    this.#cmd = cmd
    // zero pages of the operating system: what a short file only announces is never really taken
    this.#data = new Uint8Array(length)
    this.#dataLength = 0
    return this.#fillData(chunk, at, this.#data)
  }

  #fillData(chunk: Uint8Array, at: number, data: Uint8Array): number {
    const count = Math.min(data.length - this.#dataLength, chunk.length - at)
    data.set(chunk.subarray(at, at + count), this.#dataLength)
    this.#dataLength += count
    if (this.#dataLength === data.length) {
      this.#data = undefined
      this.#deliver(this.#key, this.#term, this.#cmd, data)
    }
    return at + count
  }

  #deliver(key: bigint, term: bigint, cmd: bigint, data: Uint8Array): void {
    this.#offset += BINARY_RECORD + data.length
    this.records++
    this.#onRecord({ key, term, cmd, data, expiresAt: 0n })
  }

  #error(problem: string, expected: string) {
    const place = { offset: this.#offset, ...(this.announced === undefined ? {} : { record: this.records }) }
    return invalidBody('binary', place, problem, expected)
  }
}
