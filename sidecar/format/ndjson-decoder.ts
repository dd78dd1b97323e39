import { decodeBase64 } from './base64.ts'
import { ByteCollector } from './byte-collector.ts'
import { dataTooLarge, invalidBody } from './decode-error.ts'
import type { DecodeOptions, Decoder, OnRecord } from './decoder.ts'

/** Room for names, integers and spaces beside the data. */
const LINE_OVERHEAD = 1024
const MEMBERS = new Set(['key', 'term', 'cmd', 'data', 'expiresAt'])
const END_MEMBERS = new Set(['end', 'count', 'position'])
const U64 = /^(?:0|[1-9][0-9]{0,19})$/
const MAX_U64 = 0xffff_ffff_ffff_ffffn
const EMPTY = new Uint8Array(0)

/** What `ndjsonWriter` writes: one object a line, then the closing line. Empty lines are passed over. */
export class NdjsonDecoder implements Decoder {
  records = 0
  position: string | undefined
  readonly #options: DecodeOptions
  readonly #onRecord: OnRecord
  readonly #maxLine: number
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })
  /** A line that began in an earlier chunk. */
  readonly #partial = new ByteCollector()
  #offset = 0
  #line = 1
  #ended = false

  constructor(options: DecodeOptions, onRecord: OnRecord) {
    this.#options = options
    this.#onRecord = onRecord
    this.#maxLine = Math.ceil(options.maxDataBytes / 3) * 4 + LINE_OVERHEAD
  }

  push(chunk: Uint8Array): void {
    let at = 0
    for (;;) {
      const end = chunk.indexOf(0x0a, at)
      const stop = end < 0 ? chunk.length : end
      if (this.#partial.length + stop - at > this.#maxLine) {
        throw dataTooLarge(
          'ndjson',
          this.#place(),
          `more than ${this.#options.maxDataBytes}`,
          this.#options.maxDataBytes,
        )
      }
      if (end >= 0 && this.#partial.length === 0) {
        this.#finishLine(chunk.subarray(at, stop))
      } else {
        this.#partial.append(chunk, at, stop)
        if (end < 0) return
        this.#finishPartial()
      }
      at = end + 1
    }
  }

  end(): void {
    if (this.#partial.length > 0) this.#finishPartial()
    if (!this.#ended && this.#options.openEnd !== true) {
      throw this.#error(
        `the stream ends after ${this.records} records without its closing line`,
        '{"end":true,…} (was it cut off?)',
      )
    }
  }

  #finishPartial(): void {
    this.#finishLine(this.#partial.view())
    this.#partial.clear()
  }

  #finishLine(bytes: Uint8Array): void {
    let text: string
    try {
      text = this.#decoder.decode(bytes)
    } catch {
      throw this.#error('the line is not valid UTF-8', 'a JSON object')
    }
    if (text.trim() !== '') this.#readLine(text)
    this.#offset += bytes.length + 1
    this.#line++
  }

  #readLine(text: string): void {
    if (this.#ended) throw this.#error('a line follows the closing line', 'the end of the stream')
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      // the parser's own message would quote the data
      throw this.#error('the line is not JSON', 'a JSON object')
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.#error('the line is not an object', '{"key":"…","term":"…","cmd":"…","data":"<base64>"}')
    }
    const entry = value as Record<string, unknown>
    if (Object.hasOwn(entry, 'end')) this.#readEnd(entry)
    else this.#readRecord(entry)
  }

  #readRecord(entry: Record<string, unknown>): void {
    this.#onlyMembers(entry, MEMBERS)
    const key = this.#u64(entry, 'key')
    const term = entry.term === undefined ? 0n : this.#u64(entry, 'term')
    const cmd = entry.cmd === undefined ? 0n : this.#u64(entry, 'cmd')
    const expiresAt = entry.expiresAt === undefined ? 0n : this.#u64(entry, 'expiresAt')
    if (entry.expiresAt !== undefined && expiresAt === 0n)
      throw this.#error('expiresAt is 0', '1 or more, or no expiresAt')
    const data = this.#data(entry.data)
    this.records++
    this.#onRecord({ key, term, cmd, data, expiresAt })
  }

  #data(value: unknown): Uint8Array {
    if (this.#options.withoutValues && value === undefined) return EMPTY
    if (typeof value !== 'string')
      throw this.#error(`data is ${value === undefined ? 'missing' : 'not a string'}`, 'base64')
    const data = decodeBase64(value)
    if (typeof data === 'string') throw this.#error(`data is ${data}`, 'base64 with padding (RFC 4648, section 4)')
    if (data.length > this.#options.maxDataBytes) {
      throw dataTooLarge('ndjson', this.#place(), `${data.length}`, this.#options.maxDataBytes)
    }
    return data
  }

  #readEnd(entry: Record<string, unknown>): void {
    this.#onlyMembers(entry, END_MEMBERS)
    const count = this.#u64(entry, 'count')
    if (entry.end !== true || typeof entry.position !== 'string') {
      throw this.#error('the closing line is not complete', '{"end":true,"count":"…","position":"epoch.seq"}')
    }
    if (count !== BigInt(this.records)) {
      throw this.#error(`the closing line counts ${count} records, but ${this.records} came`, `${count} records`)
    }
    this.position = entry.position
    this.#ended = true
  }

  #onlyMembers(entry: Record<string, unknown>, allowed: ReadonlySet<string>): void {
    for (const name of Object.keys(entry)) {
      if (!allowed.has(name)) throw this.#error(`the member '${name}' is not known`, [...allowed].join(', '))
    }
  }

  #u64(entry: Record<string, unknown>, name: string): bigint {
    const value = entry[name]
    if (typeof value === 'string' && U64.test(value)) {
      const exact = BigInt(value)
      if (exact <= MAX_U64) return exact
    }
    const found = value === undefined ? 'missing' : JSON.stringify(value).slice(0, 80)
    // a JSON number is refused: above 2^53 it would already have lost digits here
    throw this.#error(`${name} is ${found}`, 'an unsigned 64-bit integer as a decimal string')
  }

  #place() {
    return { record: this.records, line: this.#line, offset: this.#offset }
  }

  #error(problem: string, expected: string) {
    return invalidBody('ndjson', this.#place(), problem, expected)
  }
}
