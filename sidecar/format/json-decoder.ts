import { dataTooLarge, invalidBody } from './decode-error.ts'
import type { DecodeOptions, Decoder, OnRecord } from './decoder.ts'
import { JsonTokens, TOKEN, type TokenSink } from './json-tokens.ts'

const FORMAT = 'kvidx-json'
const VERSION = '1'
/** No name and nothing but data is longer. */
const MAX_NAME = 32

/** What must come next. */
type Expect =
  | 'document'
  | 'topName'
  | 'topColon'
  | 'topValue'
  | 'topNext'
  | 'entryOrEnd'
  | 'entry'
  | 'name'
  | 'colon'
  | 'value'
  | 'next'
  | 'entryNext'
  | 'end'

const WORDS: Record<Expect, string> = {
  document: '{"format":"kvidx-json","version":1,"entries":[…]}',
  topName: 'format, version or entries',
  topColon: 'a colon',
  topValue: 'the value of format, version or entries',
  topNext: "',' or '}'",
  entryOrEnd: "'{' or ']'",
  entry: "'{'",
  name: 'key, term, cmd or data',
  colon: 'a colon',
  value: 'an integer for key, term and cmd, a string for data',
  next: "',' or '}'",
  entryNext: "',' or ']'",
  end: 'the end of the file',
}

/**
 * kvidxkit's JSON export, compact, pretty or without metadata, and what a usual JSON writer makes of the same document: any white space, members
 * in any order, integers also as decimal strings, all escapes. term and cmd are 0 when absent. Unknown and repeated members are refused.
 */
export class JsonDecoder implements Decoder {
  records = 0
  readonly #maxDataBytes: number
  readonly #onRecord: OnRecord
  readonly #tokens: JsonTokens
  #expect: Expect = 'document'
  #name = ''
  readonly #top = new Set<string>()
  #key: bigint | undefined
  #term: bigint | undefined
  #cmd: bigint | undefined
  #data: Uint8Array | undefined
  #inEntries = false
  #bom = 0

  constructor(options: DecodeOptions, onRecord: OnRecord) {
    this.#maxDataBytes = options.maxDataBytes
    this.#onRecord = onRecord
    const sink: TokenSink = {
      token: kind => this.#token(kind),
      limit: () => (this.#expect === 'value' && this.#name === 'data' ? this.#maxDataBytes : MAX_NAME),
      tooLong: () => {
        if (this.#expect === 'value' && this.#name === 'data') {
          throw dataTooLarge('json', this.#place(), `more than ${this.#maxDataBytes}`, this.#maxDataBytes)
        }
        return this.#fail(`a string has more than ${MAX_NAME} bytes`, WORDS[this.#expect])
      },
      fail: (problem, expected) => this.#fail(problem, expected),
    }
    this.#tokens = new JsonTokens(sink)
  }

  push(chunk: Uint8Array): void {
    let at = 0
    // a byte order mark before the document, at most once
    while (this.#bom < 3 && at < chunk.length) {
      if (chunk[at] !== [0xef, 0xbb, 0xbf][this.#bom]) {
        if (this.#bom > 0) this.#fail('the file begins with a part of a byte order mark', WORDS.document)
        this.#bom = 3
        break
      }
      at++
      this.#bom++
    }
    this.#tokens.push(chunk, at)
  }

  end(): void {
    this.#tokens.end()
    if (this.#expect !== 'end') this.#fail(`the file ends after ${this.records} records`, WORDS[this.#expect])
  }

  #token(kind: number): void {
    switch (this.#expect) {
      case 'value':
        this.#value(kind)
        this.#expect = 'next'
        return
      case 'name':
        if (kind !== TOKEN.string) this.#unexpected(kind)
        this.#name = entryName(this.#tokens.text.view()) ?? this.#tokens.text.text()
        this.#expect = 'colon'
        return
      case 'colon':
        if (kind !== TOKEN.colon) this.#unexpected(kind)
        this.#expect = 'value'
        return
      case 'next':
        if (kind === TOKEN.objectClose) this.#endEntry()
        else if (kind === TOKEN.comma) this.#expect = 'name'
        else this.#unexpected(kind)
        return
      case 'entryNext':
        if (kind === TOKEN.comma) this.#expect = 'entry'
        else if (kind === TOKEN.arrayClose) this.#endEntries()
        else this.#unexpected(kind)
        return
      case 'entryOrEnd':
      case 'entry':
        if (kind === TOKEN.objectOpen) this.#expect = 'name'
        else if (kind === TOKEN.arrayClose && this.#expect === 'entryOrEnd') this.#endEntries()
        else this.#unexpected(kind)
        return
      default:
        this.#topToken(kind)
    }
  }

  #topToken(kind: number): void {
    switch (this.#expect) {
      case 'document':
        if (kind !== TOKEN.objectOpen) this.#unexpected(kind)
        this.#expect = 'topName'
        return
      case 'topName':
        if (kind !== TOKEN.string) this.#unexpected(kind)
        this.#name = this.#tokens.text.text()
        if (this.#top.has(this.#name)) this.#fail(`'${this.#name}' stands twice`, 'each member once')
        this.#top.add(this.#name)
        this.#expect = 'topColon'
        return
      case 'topColon':
        if (kind !== TOKEN.colon) this.#unexpected(kind)
        this.#expect = 'topValue'
        return
      case 'topValue':
        this.#topValue(kind)
        return
      case 'topNext':
        if (kind === TOKEN.comma) this.#expect = 'topName'
        else if (kind === TOKEN.objectClose) this.#endDocument()
        else this.#unexpected(kind)
        return
      default:
        this.#unexpected(kind)
    }
  }

  #topValue(kind: number): void {
    const text = this.#tokens.text.text()
    switch (this.#name) {
      case 'format':
        if (kind !== TOKEN.string || text !== FORMAT) this.#fail('format has another value', `"${FORMAT}"`)
        this.#expect = 'topNext'
        return
      case 'version':
        if (kind !== TOKEN.number || text !== VERSION) this.#fail('version has another value', VERSION)
        this.#expect = 'topNext'
        return
      case 'entries':
        if (kind !== TOKEN.arrayOpen) this.#unexpected(kind)
        this.#inEntries = true
        this.#expect = 'entryOrEnd'
        return
      default:
        this.#fail(`the member '${this.#name}' is not known`, WORDS.topName)
    }
  }

  #value(kind: number): void {
    if (this.#name === 'data') {
      if (kind !== TOKEN.string) this.#unexpected(kind)
      if (this.#data !== undefined) this.#twice()
      this.#data = this.#tokens.text.takeCopy()
      return
    }
    if (this.#name !== 'key' && this.#name !== 'term' && this.#name !== 'cmd') {
      this.#fail(`the member '${this.#name}' is not known`, WORDS.name)
    }
    if (kind !== TOKEN.number && kind !== TOKEN.string) this.#unexpected(kind)
    const value = this.#tokens.text.u64()
    if (value === undefined) {
      this.#fail(`${this.#name} is ${this.#tokens.text.text()}`, '0 to 18446744073709551615 without leading zeros')
    }
    if (this.#name === 'key') {
      if (this.#key !== undefined) this.#twice()
      this.#key = value
    } else if (this.#name === 'term') {
      if (this.#term !== undefined) this.#twice()
      this.#term = value
    } else {
      if (this.#cmd !== undefined) this.#twice()
      this.#cmd = value
    }
  }

  #endEntry(): void {
    const key = this.#key
    const data = this.#data
    if (key === undefined || data === undefined) {
      this.#fail(`the entry has no ${key === undefined ? 'key' : 'data'}`, 'key and data in each entry')
    }
    const record = { key, term: this.#term ?? 0n, cmd: this.#cmd ?? 0n, data, expiresAt: 0n }
    this.#key = undefined
    this.#term = undefined
    this.#cmd = undefined
    this.#data = undefined
    this.#expect = 'entryNext'
    this.records++
    this.#onRecord(record)
  }

  #endEntries(): void {
    this.#inEntries = false
    this.#expect = 'topNext'
  }

  #endDocument(): void {
    for (const name of ['format', 'version', 'entries']) {
      if (!this.#top.has(name)) this.#fail(`the document has no member '${name}'`, WORDS.document)
    }
    this.#expect = 'end'
  }

  #twice(): never {
    this.#fail(`'${this.#name}' stands twice in one entry`, 'each member once')
  }

  #unexpected(kind: number): never {
    const found =
      kind === TOKEN.string ? 'a string' : kind === TOKEN.number ? 'a number' : `'${String.fromCharCode(kind)}'`
    this.#fail(`${found} stands here`, WORDS[this.#expect])
  }

  #place() {
    const { offset, line } = this.#tokens
    return { ...(this.#inEntries ? { record: this.records } : {}), line, offset }
  }

  #fail(problem: string, expected: string): never {
    throw invalidBody('json', this.#place(), problem, expected)
  }
}

/** The four names by their bytes: making a string of each would take most of the time. */
function entryName(bytes: Uint8Array): string | undefined {
  if (bytes.length === 3) {
    if (bytes[0] === 0x6b && bytes[1] === 0x65 && bytes[2] === 0x79) return 'key'
    if (bytes[0] === 0x63 && bytes[1] === 0x6d && bytes[2] === 0x64) return 'cmd'
  } else if (bytes.length === 4) {
    if (bytes[0] === 0x74 && bytes[1] === 0x65 && bytes[2] === 0x72 && bytes[3] === 0x6d) return 'term'
    if (bytes[0] === 0x64 && bytes[1] === 0x61 && bytes[2] === 0x74 && bytes[3] === 0x61) return 'data'
  }
  return undefined
}
