const NEWLINE = 0x0a

/**
 * Cuts a stream of bytes into lines. It looks for the byte 0x0A before it decodes anything: a character of several bytes may lie
 * across the border of two chunks, and no byte of one is ever 0x0A.
 */
export class LineSplitter {
  readonly #limit: number
  #parts: Uint8Array[] = []
  #length = 0

  /** @param limit longest line, bytes */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** The lines that `chunk` completes, without empty ones. Throws RangeError when a line gets longer than the limit. */
  *push(chunk: Uint8Array): Generator<string> {
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end))
      start = end + 1
      const line = this.#take()
      if (line !== '') yield line
    }
    this.#keep(chunk.subarray(start))
  }

  /** What came after the last newline, as bytes that wait for their end. */
  get pending(): number {
    return this.#length
  }

  #keep(part: Uint8Array): void {
    if (part.length === 0) return
    this.#length += part.length
    if (this.#length > this.#limit) throw new RangeError(`a line is longer than ${this.#limit} bytes`)
    this.#parts.push(part)
  }

  #take(): string {
    const line = Buffer.concat(this.#parts, this.#length).toString('utf8')
    this.#parts = []
    this.#length = 0
    return line
  }
}
