import { KvidxError } from '../../src/common/errors.ts'

const NEWLINE = 10

export interface Line {
  /** From 1. */
  readonly number: number
  /** Without its LF. */
  readonly bytes: Buffer
}

/** Cuts a stream of bytes into lines with bounded memory, and counts them. */
export class LineSplitter {
  readonly #limit: number
  #pieces: Buffer[] = []
  #have = 0
  #number = 0

  /** @param limit longest line in bytes */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Lines completed by this chunk. Errors: too_large naming the line. */
  push(chunk: Buffer): Line[] {
    const lines: Line[] = []
    let at = 0
    for (;;) {
      const newline = chunk.indexOf(NEWLINE, at)
      if (newline === -1) break
      lines.push(this.#line(chunk.subarray(at, newline)))
      at = newline + 1
    }
    if (at < chunk.length) {
      this.#pieces.push(chunk.subarray(at))
      this.#have += chunk.length - at
      if (this.#have > this.#limit) {
        const line = this.#number + 1
        throw new KvidxError('too_large', `line ${line} has more than ${this.#limit} bytes`, {
          line,
          limit: this.#limit,
        })
      }
    }
    return lines
  }

  /** The last line, if it had no LF. */
  end(): Line[] {
    return this.#have > 0 ? [this.#line(Buffer.alloc(0))] : []
  }

  #line(rest: Buffer): Line {
    const bytes = this.#have === 0 ? rest : Buffer.concat([...this.#pieces, rest])
    this.#pieces = []
    this.#have = 0
    return { number: ++this.#number, bytes }
  }
}
