const SLAB = 64 * 1024
const KEEP = 1024 * 1024

/** Gathers the bytes of one field across chunks and hands out copies; small copies share slabs, so a record costs no ArrayBuffer. */
export class ByteCollector {
  length = 0
  #bytes = new Uint8Array(1024)
  #slab = new Uint8Array(SLAB)
  #slabUsed = 0

  push(byte: number): void {
    if (this.length === this.#bytes.length) this.#grow(1)
    this.#bytes[this.length++] = byte
  }

  /** Appends `source[from … to)`. */
  append(source: Uint8Array, from: number, to: number): void {
    const size = to - from
    if (this.length + size > this.#bytes.length) this.#grow(size)
    if (size <= 24) {
      const bytes = this.#bytes
      let at = this.length
      for (let i = from; i < to; i++) bytes[at++] = source[i] as number
    } else {
      this.#bytes.set(source.subarray(from, to), this.length)
    }
    this.length += size
  }

  clear(): void {
    this.length = 0
    // one large record must not hold its size for the rest of the stream
    if (this.#bytes.length > KEEP) this.#bytes = new Uint8Array(1024)
  }

  /** What was gathered, as memory of its own; the collector is empty afterwards. */
  takeCopy(): Uint8Array {
    const { length } = this
    let copy: Uint8Array
    if (length > SLAB / 4) {
      copy = this.#bytes.slice(0, length)
    } else {
      if (this.#slabUsed + length > SLAB) {
        this.#slab = new Uint8Array(SLAB)
        this.#slabUsed = 0
      }
      copy = this.#slab.subarray(this.#slabUsed, this.#slabUsed + length)
      copy.set(this.#bytes.subarray(0, length))
      this.#slabUsed += length
    }
    this.clear()
    return copy
  }

  /** What was gathered, until the next call. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length)
  }

  /** As Latin-1 text: every byte one letter. */
  text(): string {
    return Buffer.from(this.#bytes.buffer, 0, this.length).toString('latin1')
  }

  /** The value of `0|[1-9][0-9]*` up to 2^64-1; undefined for anything else. */
  u64(): bigint | undefined {
    const { length } = this
    const bytes = this.#bytes
    if (length === 0 || length > 20 || (length > 1 && bytes[0] === 0x30)) return undefined
    let value = 0
    for (let i = 0; i < length; i++) {
      const digit = (bytes[i] as number) - 48
      if (digit < 0 || digit > 9) return undefined
      value = value * 10 + digit
    }
    if (length <= 15) return BigInt(value)
    const exact = BigInt(this.text())
    return exact <= 0xffff_ffff_ffff_ffffn ? exact : undefined
  }

  #grow(size: number): void {
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + size))
    grown.set(this.#bytes.subarray(0, this.length))
    this.#bytes = grown
  }
}
