const BILLION = 1_000_000_000
/** Two decimal digits at once halve the divisions. */
const PAIRS = Uint8Array.from({ length: 200 }, (_, i) => 48 + (i % 2 === 0 ? Math.floor(i / 20) : (i >> 1) % 10))

const MAX_SPARE = 4
const SMALL = 8 * 1024
const NOTHING = new Uint8Array(0)

/** At most so many digits in an unsigned 64-bit integer. */
export const MAX_DECIMAL = 20

/**
 * Bytes on their way out. The writers below do not check for room: call `reserve` first with what may be needed at most.
 * Nothing is allocated for a record that fits into the present buffer.
 */
export class OutputBuffer {
  bytes: Uint8Array<ArrayBuffer> = NOTHING
  length = 0
  readonly #chunkSize: number
  /** A quarter more than a chunk, for the record that passes the mark. */
  readonly #size: number
  #view = new DataView(NOTHING.buffer)
  #spare: Uint8Array<ArrayBuffer>[] = []
  /** A whole chunk was taken, so the stream is not a small one. */
  #large = false
  readonly #limbs = new BigUint64Array(1)
  readonly #halves = new Uint32Array(this.#limbs.buffer)

  /** `chunkSize`: bytes after which the owner takes what is there. */
  constructor(chunkSize: number) {
    this.#chunkSize = chunkSize
    this.#size = Math.ceil(chunkSize * 1.25)
  }

  /** Makes room for `size` more bytes. */
  reserve(size: number): void {
    const needed = this.length + size
    if (needed > this.bytes.length) this.#grow(needed)
  }

  /** The bytes so far, in an ArrayBuffer of their own that can be transferred. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.bytes.subarray(0, this.length)
    if (this.length >= this.#chunkSize) this.#large = true
    this.#use(NOTHING)
    this.length = 0
    return taken
  }

  /** Gives back a buffer that `take` handed out and nobody reads any more. */
  recycle(buffer: ArrayBuffer): void {
    if (buffer.byteLength === this.#size && this.#spare.length < MAX_SPARE) this.#spare.push(new Uint8Array(buffer))
  }

  u8(value: number): void {
    this.bytes[this.length++] = value
  }

  u32(value: number): void {
    this.#view.setUint32(this.length, value, true)
    this.length += 4
  }

  /** Little-endian. */
  u64(value: bigint): void {
    this.#view.setBigUint64(this.length, value, true)
    this.length += 8
  }

  /** Little-endian, for an integer of at most 2^53. */
  u64Number(value: number): void {
    this.#view.setUint32(this.length, value >>> 0, true)
    this.#view.setUint32(this.length + 4, Math.floor(value / 0x1_0000_0000), true)
    this.length += 8
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  /** As raw, for a few bytes: a loop is quicker than a call. */
  short(bytes: Uint8Array): void {
    const target = this.bytes
    let at = this.length
    for (let i = 0; i < bytes.length; i++) target[at++] = bytes[i] as number
    this.length = at
  }

  /** Decimal digits of an unsigned 64-bit integer, at most MAX_DECIMAL bytes. */
  decimal(value: bigint): void {
    // A BigInt's own toString allocates twice, so the digits come from its two halves in ordinary numbers.
    this.#limbs[0] = value
    const low = this.#halves[0] as number
    const high = this.#halves[1] as number
    if (high === 0) {
      this.#digits(low, 1)
      return
    }
    // Long division by 10^9 with 16-bit steps, where every intermediate value stays below 2^53.
    const top = Math.floor(high / BILLION)
    const middle = (high % BILLION) * 65536 + (low >>> 16)
    const upper = Math.floor(middle / BILLION)
    const last = (middle % BILLION) * 65536 + (low & 0xffff)
    const quotient = (top * 65536 + upper) * 65536 + Math.floor(last / BILLION)
    if (quotient === 0) {
      this.#digits(last % BILLION, 1)
      return
    }
    const leading = Math.floor(quotient / BILLION)
    if (leading === 0) this.#digits(quotient, 1)
    else {
      this.#digits(leading, 1)
      this.#digits(quotient % BILLION, 9)
    }
    this.#digits(last % BILLION, 9)
  }

  #grow(needed: number): void {
    const grown = this.#larger(needed)
    grown.set(this.bytes.subarray(0, this.length))
    this.#use(grown)
  }

  /** A few records need a few kilobytes; whoever goes on gets whole chunks. */
  #larger(needed: number): Uint8Array<ArrayBuffer> {
    if (needed > this.#size) return new Uint8Array(needed + this.#size)
    const size = this.#large ? this.#size : Math.min(this.#size, Math.max(SMALL, this.bytes.length * 4))
    if (needed > size || size === this.#size) return this.#spare.pop() ?? new Uint8Array(this.#size)
    return new Uint8Array(size)
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer)
  }

  /** `value` < 2^32, padded with zeros to `width` digits. */
  #digits(value: number, width: number): void {
    let digits = 1
    for (let bound = 10; digits < 10 && value >= bound; bound *= 10) digits++
    if (digits < width) digits = width
    const end = this.length + digits
    let at = end
    let rest = value
    while (at - this.length >= 2) {
      const pair = (rest % 100) * 2
      rest = Math.floor(rest / 100)
      this.bytes[--at] = PAIRS[pair + 1] as number
      this.bytes[--at] = PAIRS[pair] as number
    }
    if (at > this.length) this.bytes[--at] = 48 + rest
    this.length = end
  }
}
