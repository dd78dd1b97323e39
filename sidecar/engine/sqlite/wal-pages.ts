import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import type { EngineOptions, EngineShare } from '../engine.ts'
import { databaseFile, hasWal } from './connection.ts'

/**
 * The pages that a read transaction sees, read beside SQLite and without it: what is in the WAL up to the transaction's last frame comes from there,
 * everything else from the main file. The transaction holds both still: no checkpoint writes a page of the main file that we read there, and the
 * WAL is not begun anew (https://sqlite.org/walformat.html). If SQLite found the whole WAL copied back already, it reads, and holds, the main file alone.
 */

/** Descriptors of an open database. The writer closes them after everything else: closing any drops all locks of the process on the file. */
export type DatabaseFiles = NonNullable<EngineShare['files']>

/** The descriptors; undefined where there is no WAL. */
export function openFiles({ directory, tuning }: EngineOptions): DatabaseFiles | undefined {
  const file = databaseFile(directory)
  if (!hasWal(tuning) || !existsSync(`${file}-wal`) || !existsSync(`${file}-shm`)) return undefined
  return { main: openSync(file, 'r'), wal: openSync(`${file}-wal`, 'r'), shm: openSync(`${file}-shm`, 'r') }
}

export function closeFiles(files: DatabaseFiles): void {
  for (const descriptor of [files.main, files.wal, files.shm]) closeSync(descriptor)
}

/** WAL index: two copies of the header of 48 bytes, the checkpoint's progress, then page numbers by frame. */
const INDEX_HEADER = 48
const BACKFILLED = 96
const INDEX_START = 136
const INDEX_VERSION = 3_007_000
const BLOCK = 32 * 1024
const FIRST_BLOCK_FRAMES = 4062
const BLOCK_FRAMES = 4096
const WAL_HEADER = 32
const FRAME_HEADER = 24

/** Pages read at once where they follow each other. */
const RUN = 16

/** The WAL index at one moment; two that are equal before and after a transaction began say what it sees. */
export class WalMoment {
  readonly #bytes: Buffer

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Undefined while the index is being changed, or is none that is known. */
  static read(files: DatabaseFiles): WalMoment | undefined {
    const bytes = Buffer.allocUnsafe(INDEX_START)
    if (readSync(files.shm, bytes, 0, INDEX_START, 0) < INDEX_START) return undefined
    const known = littleEndian && bytes.readUInt32LE(0) === INDEX_VERSION && bytes[12] === 1
    return known && bytes.compare(bytes, INDEX_HEADER, 2 * INDEX_HEADER, 0, INDEX_HEADER) === 0
      ? new WalMoment(bytes)
      : undefined
  }

  sameAs(other: WalMoment): boolean {
    return this.#bytes.compare(other.#bytes, 0, INDEX_HEADER, 0, INDEX_HEADER) === 0
  }

  /** Frames of the transaction. */
  get frames(): number {
    return this.#bytes.readUInt32LE(16)
  }

  /** Frames that are in the main file, too. */
  get backfilled(): number {
    return this.#bytes.readUInt32LE(BACKFILLED)
  }

  /** Of the database; 0: nothing was written since the log was begun, so it is what the main file has. */
  get pages(): number {
    return this.#bytes.readUInt32LE(20)
  }
}

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

export class WalPages {
  readonly pageSize: number
  /** Pages of the database. */
  readonly pages: number
  readonly #files: DatabaseFiles
  readonly #inWal: Map<number, number>
  readonly #run: Buffer
  #runFirst = 0
  #runPages = 0
  #last = 0

  /** @param moment as it was after the transaction had begun, and before */
  constructor(files: DatabaseFiles, moment: WalMoment, pageSize: number) {
    this.#files = files
    this.pageSize = pageSize
    this.pages = moment.pages || Math.floor(fstatSync(files.main).size / pageSize)
    this.#inWal = framesOf(files, moment.backfilled, moment.frames)
    this.#run = Buffer.allocUnsafeSlow(this.pageSize * RUN)
  }

  /** Reads a page into `target`; false when it is not there. */
  read(page: number, target: Buffer): boolean {
    if (page < 1 || page > this.pages) return false
    const frame = this.#inWal.get(page)
    if (frame !== undefined) {
      const offset = WAL_HEADER + (frame - 1) * (this.pageSize + FRAME_HEADER) + FRAME_HEADER
      return readSync(this.#files.wal, target, 0, this.pageSize, offset) === this.pageSize
    }
    const inRun = page - this.#runFirst
    const follows = page === this.#last + 1
    this.#last = page
    if (inRun < 0 || inRun >= this.#runPages) {
      if (!follows)
        return readSync(this.#files.main, target, 0, this.pageSize, (page - 1) * this.pageSize) === this.pageSize
      // only pages that are not in the WAL are taken from here, so what else lies in the run does not matter
      const bytes = readSync(this.#files.main, this.#run, 0, this.#run.length, (page - 1) * this.pageSize)
      this.#runFirst = page
      this.#runPages = Math.floor(bytes / this.pageSize)
      if (this.#runPages === 0) return false
    }
    const at = (page - this.#runFirst) * this.pageSize
    this.#run.copy(target, 0, at, at + this.pageSize)
    return true
  }
}

/** The newest frame of each page, of the frames behind `after`. */
function framesOf(files: DatabaseFiles, after: number, through: number): Map<number, number> {
  const frames = new Map<number, number>()
  const block = Buffer.allocUnsafe(BLOCK_FRAMES * 4)
  for (let first = 1, index = 0; first <= through; index++) {
    const count = index === 0 ? FIRST_BLOCK_FRAMES : BLOCK_FRAMES
    if (first + count > after) {
      readSync(files.shm, block, 0, count * 4, index * BLOCK + (index === 0 ? INDEX_START : 0))
      for (let i = 0; i < count && first + i <= through; i++)
        if (first + i > after) frames.set(block.readUInt32LE(i * 4), first + i)
    }
    first += count
  }
  return frames
}
