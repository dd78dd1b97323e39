import { ByteCollector } from './byte-collector.ts'
import { dataTooLarge, invalidBody, showByte } from './decode-error.ts'
import type { DecodeOptions, Decoder, OnRecord } from './decoder.ts'

const COMMA = 0x2c
const QUOTE = 0x22
const LF = 0x0a
const CR = 0x0d
const BOM = [0xef, 0xbb, 0xbf] as const

const HEADERS = { 'key,term,cmd,data': 4, 'key,data': 2 } as const
const EXPECTED_HEADER = 'key,term,cmd,data or key,data'
/** The longest header or integer field that makes sense; only data may be longer. */
const MAX_FIELD = 32

type State = 'fieldStart' | 'plain' | 'quoted' | 'quoteSeen' | 'crSeen'

/**
 * CSV as in RFC 4180, of bytes: a field in quotes may hold commas, line ends and doubled quotes. Lines end in LF or CRLF, the last one too: without
 * that a file cut off inside its last record would pass. A byte order mark before the header is skipped.
 */
export class CsvDecoder implements Decoder {
  records = 0
  readonly #maxDataBytes: number
  readonly #onRecord: OnRecord
  readonly #field = new ByteCollector()
  #state: State = 'fieldStart'
  /** 0 until the header was read. */
  #columns = 0
  #column = 0
  #header: string[] = []
  #line = 1
  #rowLine = 1
  #rowBegun = false
  #bom = 0
  #offset = 0
  readonly #integers: [bigint, bigint, bigint] = [0n, 0n, 0n]

  constructor(options: DecodeOptions, onRecord: OnRecord) {
    this.#maxDataBytes = options.maxDataBytes
    this.#onRecord = onRecord
  }

  push(chunk: Uint8Array): void {
    let at = this.#bom < BOM.length ? this.#skipBom(chunk) : 0
    while (at < chunk.length) {
      const byte = chunk[at] as number
      switch (this.#state) {
        case 'fieldStart':
          this.#rowBegun = true
          if (byte === QUOTE) {
            this.#state = 'quoted'
            at++
          } else this.#state = 'plain'
          break
        case 'plain':
          if (byte === COMMA) this.#endField(at)
          else if (byte === LF) this.#endRow(at)
          else if (byte === CR) this.#state = 'crSeen'
          else if (byte === QUOTE)
            throw this.#error(at, `a quote stands inside a field without quotes`, 'the whole field in quotes')
          else {
            at = this.#plainRun(chunk, at)
            break
          }
          at++
          break
        case 'quoted':
          if (byte === QUOTE) {
            this.#state = 'quoteSeen'
            at++
          } else at = this.#quotedRun(chunk, at)
          break
        case 'quoteSeen':
          if (byte === QUOTE) {
            this.#room(at, 1)
            this.#field.push(byte)
            this.#state = 'quoted'
          } else if (byte === COMMA) this.#endField(at)
          else if (byte === LF) this.#endRow(at)
          else if (byte === CR) this.#state = 'crSeen'
          else throw this.#error(at, `${showByte(byte)} follows a closing quote`, 'a comma or the end of the line')
          at++
          break
        case 'crSeen':
          if (byte !== LF)
            throw this.#error(at, `${showByte(byte)} follows CR`, 'LF (a CR in the data must stand in quotes)')
          this.#endRow(at)
          at++
          break
      }
    }
    this.#offset += chunk.length
  }

  end(): void {
    if (this.#rowBegun) {
      const where = this.#state === 'quoted' ? 'inside quotes' : 'inside a line'
      throw this.#error(
        0,
        `the file ends ${where}`,
        `${this.#state === 'quoted' ? 'the closing quote and ' : ''}a line end (is the file cut off?)`,
      )
    }
    if (this.#columns === 0) throw this.#error(0, 'the file has no header line', EXPECTED_HEADER)
  }

  #skipBom(chunk: Uint8Array): number {
    let at = 0
    while (at < chunk.length && this.#bom < BOM.length && chunk[at] === BOM[this.#bom]) {
      at++
      this.#bom++
    }
    if (at < chunk.length && this.#bom < BOM.length) {
      if (this.#bom > 0)
        throw invalidBody(
          'csv',
          { offset: 0, line: 1 },
          'the file begins with a part of a byte order mark',
          EXPECTED_HEADER,
        )
      this.#bom = BOM.length
    }
    return at
  }

  #plainRun(chunk: Uint8Array, from: number): number {
    let to = from
    while (to < chunk.length) {
      const byte = chunk[to] as number
      if (byte === COMMA || byte === LF || byte === CR || byte === QUOTE) break
      to++
    }
    this.#room(from, to - from)
    this.#field.append(chunk, from, to)
    return to
  }

  #quotedRun(chunk: Uint8Array, from: number): number {
    let to = from
    while (to < chunk.length) {
      const byte = chunk[to] as number
      if (byte === QUOTE) break
      if (byte === LF) this.#line++
      to++
    }
    this.#room(from, to - from)
    this.#field.append(chunk, from, to)
    return to
  }

  #room(at: number, more: number): void {
    const length = this.#field.length + more
    if (this.#columns > 0 && this.#column === this.#columns - 1) {
      if (length > this.#maxDataBytes)
        throw dataTooLarge('csv', this.#place(at), `more than ${this.#maxDataBytes}`, this.#maxDataBytes)
    } else if (length > MAX_FIELD) {
      if (this.#columns === 0) throw this.#error(at, 'the first line is not a header', EXPECTED_HEADER)
      throw this.#error(at, `field ${this.#column + 1} has more than ${MAX_FIELD} bytes`, 'an unsigned 64-bit integer')
    }
  }

  #endField(at: number): void {
    if (this.#columns === 0) {
      this.#header.push(this.#field.text())
      this.#field.clear()
      if (this.#header.length > 4) throw this.#error(at, 'the header has more than 4 columns', EXPECTED_HEADER)
    } else {
      if (this.#column >= this.#columns - 1) {
        throw this.#error(at, `the line has more than ${this.#columns} fields`, 'data that holds a comma in quotes')
      }
      this.#integer(at)
    }
    this.#column++
    this.#state = 'fieldStart'
  }

  #integer(at: number): void {
    const value = this.#field.u64()
    if (value === undefined) {
      const name = ['key', 'term', 'cmd'][this.#column]
      throw this.#error(at, `${name} is '${this.#field.text()}'`, 'an unsigned 64-bit integer without leading zeros')
    }
    this.#integers[this.#column] = value
    this.#field.clear()
  }

  #endRow(at: number): void {
    if (this.#columns === 0) this.#endHeader(at)
    else {
      if (this.#column < this.#columns - 1) {
        throw this.#error(at, `the line has ${this.#column + 1} fields`, `${this.#columns}`)
      }
      const [key, term, cmd] = this.#integers
      const data = this.#field.takeCopy()
      this.records++
      this.#onRecord({ key, term, cmd, data, expiresAt: 0n })
    }
    this.#line++
    this.#rowLine = this.#line
    this.#column = 0
    this.#rowBegun = false
    this.#state = 'fieldStart'
  }

  #endHeader(at: number): void {
    this.#header.push(this.#field.text())
    this.#field.clear()
    const header = this.#header.join(',')
    const columns = Object.hasOwn(HEADERS, header) ? HEADERS[header as keyof typeof HEADERS] : undefined
    if (columns === undefined) throw this.#error(at, `the header is '${header}'`, EXPECTED_HEADER)
    this.#columns = columns
  }

  #place(at: number) {
    return { ...(this.#columns === 0 ? {} : { record: this.records }), line: this.#rowLine, offset: this.#offset + at }
  }

  #error(at: number, problem: string, expected: string) {
    return invalidBody('csv', this.#place(at), problem, expected)
  }
}
