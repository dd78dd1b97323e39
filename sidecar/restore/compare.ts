import { rm } from 'node:fs/promises'
import { digestOfRecord } from '../database/digest.ts'
import type { EngineOptions, EngineReader, EngineSnapshot, EngineWriter, StoredRecord } from '../engine/engine.ts'
import { EVERY_KEY } from '../engine/engine.ts'
import { openReader, openWriter } from '../engine/open.ts'
import { createDecoder } from '../format/decode.ts'
import type { Difference } from './fill.ts'

const PAGE_RECORDS = 1000
const PAGE_BYTES = 4 * 1024 * 1024
const LARGEST_DATA = 512 * 1024 * 1024

interface Mark {
  readonly key: bigint
  readonly digest: bigint
}

/** Walks a staged database and the records of a running one side by side, both in key order. */
export class Comparison {
  readonly #writer: EngineWriter
  readonly #reader: EngineReader
  readonly #snapshot: EngineSnapshot
  readonly #directory: string
  #page: Mark[] = []
  #at = 0
  #next = 0n
  #ended = false
  #added = 0
  #removed = 0
  #changed = 0
  readonly #decoder = createDecoder('ndjson', { maxDataBytes: LARGEST_DATA }, record => this.#live(record))

  private constructor(writer: EngineWriter, reader: EngineReader, directory: string) {
    this.#writer = writer
    this.#reader = reader
    this.#snapshot = reader.snapshot()
    this.#directory = directory
  }

  static async open(options: EngineOptions): Promise<Comparison> {
    const writer = await openWriter({ ...options, tuning: { ...options.tuning, syncMode: 'Off' } })
    return new Comparison(writer, await openReader(writer.share), options.directory)
  }

  async push(chunk: Uint8Array): Promise<void> {
    this.#decoder.push(chunk)
  }

  /** What is staged and was not met is added. Closes and removes the staged database. */
  async end(): Promise<Difference> {
    this.#decoder.end()
    for (let mark = this.#staged(); mark; mark = this.#staged()) {
      this.#added++
      this.#at++
    }
    this.#snapshot.release()
    this.#reader.close()
    this.#writer.close()
    await rm(this.#directory, { recursive: true, force: true })
    return { added: this.#added, removed: this.#removed, changed: this.#changed }
  }

  #live(record: StoredRecord): void {
    for (let mark = this.#staged(); mark && mark.key < record.key; mark = this.#staged()) {
      this.#added++
      this.#at++
    }
    const mark = this.#staged()
    if (mark?.key !== record.key) this.#removed++
    else {
      if (mark.digest !== digestOfRecord(record)) this.#changed++
      this.#at++
    }
  }

  /** The staged record that comes next. */
  #staged(): Mark | undefined {
    if (this.#at === this.#page.length && !this.#ended) this.#turn()
    return this.#page[this.#at]
  }

  #turn(): void {
    const page: Mark[] = []
    let bytes = 0
    let stopped = false
    this.#snapshot.scan({ start: this.#next, end: EVERY_KEY.end }, false, record => {
      page.push({ key: record.key, digest: digestOfRecord(record) })
      bytes += record.data.length
      stopped = page.length >= PAGE_RECORDS || bytes >= PAGE_BYTES
      return !stopped
    })
    const last = page.at(-1)
    this.#ended = !stopped || last === undefined || last.key === EVERY_KEY.end
    if (last && !this.#ended) this.#next = last.key + 1n
    this.#page = page
    this.#at = 0
  }
}
