import { ByteCollector } from './byte-collector.ts'

/** Kinds of tokens; marks are their own byte. */
export const TOKEN = {
  string: 1,
  number: 2,
  comma: 0x2c,
  colon: 0x3a,
  arrayOpen: 0x5b,
  arrayClose: 0x5d,
  objectOpen: 0x7b,
  objectClose: 0x7d,
} as const

const MARKS = new Uint8Array(256)
for (const mark of Object.values(TOKEN)) if (mark > 2) MARKS[mark] = 1

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** `\n` and the like; 0: not an escape. */
const SIMPLE = new Uint8Array(256)
for (const [letter, byte] of [
  ['"', 0x22],
  ['\\', 0x5c],
  ['/', 0x2f],
  ['b', 0x08],
  ['f', 0x0c],
  ['n', 0x0a],
  ['r', 0x0d],
  ['t', 0x09],
] as const) {
  SIMPLE[letter.charCodeAt(0)] = byte
}

type State = 'between' | 'string' | 'escape' | 'hex' | 'number'

/** What the reader of tokens gives; `fail` must throw. */
export interface TokenSink {
  /** The text of a string or number lies in `text` until the call returns, unless it is taken. */
  token(kind: number): void
  /** How many bytes the next string may have. */
  limit(): number
  tooLong(): never
  fail(problem: string, expected: string): never
}

/**
 * Cuts JSON bytes into tokens, across chunks. A string is a run of bytes: what stands there from 0x80 on is taken as it is, valid UTF-8 or
 * not; `\uXXXX` becomes UTF-8, so `\u0000` to `\u007f` are one byte and surrogates must come in pairs.
 */
export class JsonTokens {
  readonly text = new ByteCollector()
  /** Where the present token began, from the start of the stream. */
  offset = 0
  line = 1
  readonly #sink: TokenSink
  #state: State = 'between'
  #base = 0
  #hexDigits = 0
  #hex = 0
  #highSurrogate = 0

  constructor(sink: TokenSink) {
    this.#sink = sink
  }

  /** `from`: bytes of the chunk to pass over. */
  push(chunk: Uint8Array, from = 0): void {
    let at = from
    while (at < chunk.length) {
      switch (this.#state) {
        case 'between':
          at = this.#between(chunk, at)
          break
        case 'string':
          at = this.#string(chunk, at)
          break
        case 'escape':
          this.#escape(chunk[at++] as number)
          break
        case 'hex':
          this.#hexDigit(chunk[at++] as number)
          break
        case 'number':
          at = this.#number(chunk, at)
          break
      }
    }
    this.#base += chunk.length
  }

  /** The stream is over: a string must not be open. */
  end(): void {
    this.offset = this.#base
    if (this.#state === 'number') this.#finish(TOKEN.number)
    else if (this.#state !== 'between') this.#sink.fail('the file ends inside a string', 'the rest of the string')
  }

  #between(chunk: Uint8Array, from: number): number {
    let at = from
    while (at < chunk.length) {
      const byte = chunk[at] as number
      if (byte === 0x20 || byte === 0x0d || byte === 0x09) {
        at++
        continue
      }
      if (byte === 0x0a) {
        this.line++
        at++
        continue
      }
      this.offset = this.#base + at
      if (MARKS[byte] === 1) {
        this.#sink.token(byte)
        at++
        continue
      }
      if (byte === QUOTE) {
        this.#state = 'string'
        return at + 1
      }
      if (byte >= 0x30 && byte <= 0x39) {
        this.#state = 'number'
        return at
      }
      const shown = byte > 0x20 && byte < 0x7f ? `'${String.fromCharCode(byte)}'` : `the byte 0x${byte.toString(16)}`
      this.#sink.fail(`${shown} stands where a value or a mark should`, 'JSON of a kvidxkit export')
    }
    return at
  }

  #number(chunk: Uint8Array, from: number): number {
    let to = from
    while (to < chunk.length) {
      const byte = chunk[to] as number
      if (byte < 0x30 || byte > 0x39) break
      to++
    }
    if (this.text.length + to - from > 20)
      this.#sink.fail('an integer has more than 20 digits', '0 to 18446744073709551615')
    this.text.append(chunk, from, to)
    if (to < chunk.length) {
      const byte = chunk[to] as number
      if (byte === 0x2e || byte === 0x65 || byte === 0x45) {
        this.#sink.fail('a number has a fraction or an exponent', '0 to 18446744073709551615')
      }
      this.#finish(TOKEN.number)
    }
    return to
  }

  #string(chunk: Uint8Array, from: number): number {
    let to = from
    let byte = 0
    while (to < chunk.length) {
      byte = chunk[to] as number
      if (byte === QUOTE || byte === BACKSLASH || byte < 0x20) break
      to++
    }
    if (to > from) {
      this.#noSurrogateOpen()
      this.#room(to - from)
      this.text.append(chunk, from, to)
    }
    if (to === chunk.length) return to
    if (byte === QUOTE) {
      this.#noSurrogateOpen()
      this.#finish(TOKEN.string)
    } else if (byte === BACKSLASH) this.#state = 'escape'
    else
      this.#sink.fail(
        `the control byte 0x${byte.toString(16).padStart(2, '0')} stands in a string`,
        'an escape such as \\n or \\u0000',
      )
    return to + 1
  }

  #escape(byte: number): void {
    if (byte === 0x75) {
      this.#state = 'hex'
      this.#hex = 0
      this.#hexDigits = 0
      return
    }
    const simple = SIMPLE[byte] as number
    if (simple === 0) this.#sink.fail('a backslash is followed by an unknown letter', '" \\ / b f n r t or uXXXX')
    this.#noSurrogateOpen()
    this.#room(1)
    this.text.push(simple)
    this.#state = 'string'
  }

  #hexDigit(byte: number): void {
    const lower = byte | 0x20
    const digit = byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
    if (digit < 0) this.#sink.fail('\\u is not followed by four hex digits', '\\uXXXX')
    this.#hex = this.#hex * 16 + digit
    if (++this.#hexDigits < 4) return
    this.#state = 'string'
    const unit = this.#hex
    if (unit >= 0xdc00 && unit <= 0xdfff && this.#highSurrogate !== 0) {
      const high = this.#highSurrogate
      this.#highSurrogate = 0
      this.#codePoint(0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00))
      return
    }
    this.#noSurrogateOpen()
    if (unit >= 0xdc00 && unit <= 0xdfff) this.#loneSurrogate()
    if (unit >= 0xd800 && unit <= 0xdbff) this.#highSurrogate = unit
    else this.#codePoint(unit)
  }

  #codePoint(code: number): void {
    this.#room(code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4)
    const { text } = this
    if (code < 0x80) {
      text.push(code)
      return
    }
    if (code < 0x800) text.push(0xc0 | (code >> 6))
    else {
      if (code < 0x10000) text.push(0xe0 | (code >> 12))
      else {
        text.push(0xf0 | (code >> 18))
        text.push(0x80 | ((code >> 12) & 63))
      }
      text.push(0x80 | ((code >> 6) & 63))
    }
    text.push(0x80 | (code & 63))
  }

  #noSurrogateOpen(): void {
    if (this.#highSurrogate !== 0) this.#loneSurrogate()
  }

  #loneSurrogate(): never {
    this.#sink.fail('a \\u escape is half of a surrogate pair', 'both halves: no bytes stand for one alone')
  }

  #room(more: number): void {
    if (this.text.length + more > this.#sink.limit()) this.#sink.tooLong()
  }

  #finish(kind: number): void {
    this.#state = 'between'
    this.#sink.token(kind)
    this.text.clear()
  }
}
