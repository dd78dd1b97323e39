import { statfsSync } from 'node:fs'
import { KvidxError } from '../../../src/common/errors.ts'

const MIB = 1 << 20
/** As long as so much is free nobody looks before each commit, */
const PLENTY = 512 * MIB
/** … but after so many bytes */
const UNSEEN_BYTES = 16 * MIB
/** … or so many milliseconds: others write on the same disk. */
const UNSEEN_MS = 1000
/** For manifests, new logs and what compression does not shrink; on a small volume its share of that. */
const RESERVE = MIB
const RESERVE_SHARE = 1 / 256
/** Below this flushing gives too little back to be worth a table file. */
const WORTH_FLUSHING = 4 * MIB

/** What the guard asks and may do. */
export interface SpaceSource {
  /** Free bytes of the file system. */
  free(): number
  /** Bytes in memory that are only in the WAL yet. */
  unflushed(): number
  /** Writes them to table files, after which their WAL is removed. */
  flush(): void
  /** Milliseconds, monotonic */
  now(): number
  /** Of the file system, bytes. */
  readonly size: number
}

/**
 * Refuses a commit before RocksDB runs out of space. Once a write to the WAL or a flush has failed, RocksDB refuses everything until it finds
 * by itself, seconds later, that there is room again; the C API has no way to resume it. So enough must be free for the commit in
 * the WAL and for all that is in memory as table files.
 */
export class SpaceGuard {
  readonly #source: SpaceSource
  readonly #reserve: number
  #free = 0
  #written = Number.POSITIVE_INFINITY
  #seen = 0

  constructor(source: SpaceSource) {
    this.#source = source
    this.#reserve = Math.min(RESERVE, Math.floor(source.size * RESERVE_SHARE))
  }

  /** Error: `no_space`. @param bytes size of the commit */
  admit(bytes: number): void {
    const source = this.#source
    const now = source.now()
    const unseen = this.#written + bytes
    const plenty = this.#free - unseen > PLENTY + 2 * bytes
    if (plenty && unseen < UNSEEN_BYTES && now - this.#seen < UNSEEN_MS) {
      this.#written = unseen
      return
    }
    this.#look(now)
    if (this.#free - 2 * bytes < PLENTY) this.#ensure(bytes, now)
    this.#written = bytes
  }

  #ensure(bytes: number, now: number): void {
    const unflushed = this.#source.unflushed()
    const needed = 2 * bytes + unflushed + this.#reserve
    if (this.#free >= needed) return
    // Flushing needs the room of the tables for a moment and then gives back that of the log.
    if (unflushed >= WORTH_FLUSHING && this.#free >= unflushed + this.#reserve) {
      this.#source.flush()
      this.#look(now)
      if (this.#free >= 2 * bytes + this.#reserve) return
    }
    throw new KvidxError(
      'no_space',
      `RocksDB: the commit of ${bytes} bytes needs ${needed} bytes free, ${this.#free} are`,
      { free: this.#free, needed },
    )
  }

  #look(now: number): void {
    this.#free = this.#source.free()
    this.#seen = now
  }
}

/** Bytes that a process without special rights can still write in the file system of `path`. */
export function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

/** Size of the file system of `path`, bytes. */
export function volumeBytes(path: string): number {
  const { blocks, bsize } = statfsSync(path)
  return blocks * bsize
}
