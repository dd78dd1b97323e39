import { KvidxError } from '../../src/common/errors.ts'

/** RFC 8878, section 3.1 */
const MAGIC = 0xfd2fb528
const SKIPPABLE = 0x184d2a50
const FCS_BYTES = [0, 2, 4, 8] as const
const DICTIONARY_BYTES = [0, 1, 2, 4] as const
const CHECKSUM_BYTES = 4

/** What comes next: so many bytes of this. `skip` is content, which the decompressor looks at. */
type Part = 'magic' | 'descriptor' | 'skip' | 'block' | 'skippableSize'

/**
 * Follows the structure of a zstd file without decompressing it: a file must be frames and nothing else. Node's decompressor ends in silence behind a frame,
 * whatever follows, another frame as well.
 */
export class ZstdFrameWalker {
  #part: Part = 'magic'
  #needed = 4
  readonly #bytes = Buffer.alloc(4)
  #have = 0
  #checksum = false
  /** After the skip: a block header, or the next frame. */
  #lastBlock = false
  #inFrame = false

  /** Where in the chunk frames end. Errors: backup_corrupt. */
  push(chunk: Uint8Array): number[] {
    const ends: number[] = []
    for (let at = 0; at < chunk.length; ) {
      const take = Math.min(this.#needed - this.#have, chunk.length - at)
      if (this.#part !== 'skip') this.#bytes.set(chunk.subarray(at, at + take), this.#have)
      this.#have += take
      at += take
      if (this.#have < this.#needed) continue
      this.#next()
      if (this.#part === 'magic') ends.push(at)
    }
    return ends
  }

  /** Errors: backup_corrupt when the file does not end where a frame does. */
  end(): void {
    if (this.#part !== 'magic' || this.#have > 0) throw damaged('ends inside a frame')
  }

  #next(): void {
    const part = this.#part
    this.#have = 0
    switch (part) {
      case 'magic':
        this.#beginFrame(this.#bytes.readUInt32LE(0))
        break
      case 'descriptor':
        this.#readDescriptor(this.#bytes[0] ?? 0)
        break
      case 'block':
        this.#readBlock(this.#bytes.readUIntLE(0, 3))
        break
      case 'skippableSize':
        this.#inFrame = false
        this.#skip(this.#bytes.readUInt32LE(0))
        break
      case 'skip':
        this.#afterSkip()
    }
  }

  #beginFrame(magic: number): void {
    if (magic === MAGIC) this.#expect('descriptor', 1)
    else if ((magic & 0xffff_fff0) >>> 0 === SKIPPABLE) this.#expect('skippableSize', 4)
    else throw damaged(`has 0x${magic.toString(16).padStart(8, '0')} where a frame begins`)
  }

  #readDescriptor(descriptor: number): void {
    const single = (descriptor & 0x20) !== 0
    const size = FCS_BYTES[(descriptor >> 6) as 0 | 1 | 2 | 3]
    this.#checksum = (descriptor & 0x04) !== 0
    this.#inFrame = true
    this.#lastBlock = false
    this.#skip(
      (single ? 0 : 1) + (size === 0 && single ? 1 : size) + DICTIONARY_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3],
    )
  }

  #readBlock(header: number): void {
    const type = (header >> 1) & 3
    if (type === 3) throw damaged('has a block of the reserved type')
    this.#lastBlock = (header & 1) !== 0
    // a run is one byte, however long it becomes
    this.#skip(type === 1 ? 1 : header >> 3)
  }

  #afterSkip(): void {
    if (!this.#inFrame) this.#expect('magic', 4)
    else if (!this.#lastBlock) this.#expect('block', 3)
    else {
      this.#inFrame = false
      this.#skip(this.#checksum ? CHECKSUM_BYTES : 0)
    }
  }

  #skip(bytes: number): void {
    if (bytes === 0) this.#afterSkip()
    else this.#expect('skip', bytes)
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part
    this.#needed = bytes
  }
}

export function damaged(what: string, cause?: unknown): KvidxError {
  return new KvidxError('backup_corrupt', `the compressed data ${what}`, {}, cause)
}
