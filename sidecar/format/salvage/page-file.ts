import { SQLITE_MAGIC } from '../source/sqlite-copy.ts'
import { RandomFile } from './random-file.ts'
import { countRecords } from './record-page.ts'
import { readWal, type WalIndex, type WalSummary } from './wal-index.ts'

const PAGE_SIZES = [8192, 4096, 1024, 2048, 16384, 32768, 65536, 512] as const
/** Pages that are looked at to find the page size when the header is lost. */
const SAMPLE = 500
/** SQLite locks bytes here, so the page that holds them is never used. */
const LOCK_BYTE = 0x4000_0000

/** The pages of a SQLite database: the main file under the committed frames of its WAL. */
export class PageFile {
  readonly pageSize: number
  /** Bytes of a page that hold content. */
  readonly usable: number
  /** Pages that the database has, or of the file when its header is lost. */
  readonly pages: number
  readonly wal: WalSummary | undefined
  /** The header of the first page makes sense. */
  readonly headerSound: boolean
  /** Page with the first part of the list of free pages; 0: none. */
  readonly firstTrunk: number
  readonly freePages: number
  /** Pages of pointers exist (auto-vacuum), so that each page's use is noted down. */
  readonly autoVacuum: boolean
  readonly #file: RandomFile
  readonly #wal: WalIndex | undefined

  /** Errors: `engine_io`. */
  constructor(path: string) {
    this.#file = new RandomFile(path)
    this.#wal = readWal(`${path}-wal`)
    this.wal = this.#wal?.summary
    const header = this.#readHeader()
    this.headerSound = header !== undefined
    this.pageSize = header?.pageSize ?? this.#guessPageSize()
    this.usable = this.pageSize - (header?.reserved ?? 0)
    const inFile = Math.floor(this.#file.size / this.pageSize)
    const walPages = this.#wal?.pages ?? 0
    // the size in the header is right since SQLite 3.7; a file cut short is noticed because pages that it names are missing
    this.pages = walPages > 0 ? walPages : Math.max(header?.pages ?? 0, inFile)
    this.firstTrunk = header?.firstTrunk ?? 0
    this.freePages = header?.freePages ?? 0
    this.autoVacuum = header?.autoVacuum ?? false
  }

  /** The content of a page; undefined when it does not exist or cannot be read. */
  read(page: number): Buffer | undefined {
    if (page < 1 || page > this.pages) return undefined
    const inWal = this.#wal?.offsets.get(page)
    if (inWal !== undefined) return this.#wal?.file.read(inWal, this.pageSize)
    return this.#file.read((page - 1) * this.pageSize, this.pageSize)
  }

  isLockPage(page: number): boolean {
    return page === Math.floor(LOCK_BYTE / this.pageSize) + 1
  }

  close(): void {
    this.#file.close()
    this.#wal?.file.close()
  }

  #readHeader() {
    const inWal = this.#wal?.offsets.get(1)
    const header = (inWal === undefined ? undefined : this.#wal?.file.read(inWal, 100)) ?? this.#file.read(0, 100)
    if (!header?.subarray(0, 16).equals(SQLITE_MAGIC)) return undefined
    const stored = header.readUInt16BE(16)
    const pageSize = stored === 1 ? 65536 : stored
    const reserved = header[20] as number
    if (pageSize < 512 || (pageSize & (pageSize - 1)) !== 0 || pageSize - reserved < 480) return undefined
    if (this.#wal !== undefined && this.#wal.pageSize > 0 && this.#wal.pageSize !== pageSize) return undefined
    return {
      pageSize,
      reserved,
      pages: Math.min(header.readUInt32BE(28), Math.ceil(this.#file.size / pageSize) * 4 + 1024),
      firstTrunk: header.readUInt32BE(32),
      freePages: header.readUInt32BE(36),
      autoVacuum: header.readUInt32BE(52) !== 0,
    }
  }

  /** The size under which most pages hold records. */
  #guessPageSize(): number {
    if (this.#wal !== undefined && this.#wal.pageSize > 0) return this.#wal.pageSize
    let best = { size: 8192, records: 0 }
    for (const size of PAGE_SIZES) {
      const pages = Math.floor(this.#file.size / size)
      const step = Math.max(1, Math.floor(pages / SAMPLE))
      let records = 0
      for (let page = 1; page < pages; page += step) {
        const bytes = this.#file.read(page * size, size)
        if (bytes !== undefined) records += countRecords(bytes, size)
      }
      // few large pages hold more records each: compare what a sample of equal bytes would give
      const density = records / (Math.max(1, Math.ceil(pages / step)) * size)
      if (density > best.records) best = { size, records: density }
    }
    return best.size
  }
}
