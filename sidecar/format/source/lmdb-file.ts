import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { KvidxError } from '../../../src/common/errors.ts'

/** A named database inside the file. */
export interface LmdbTree {
  readonly entries: bigint
  /** Levels of the tree; 0 when it is empty. */
  readonly depth: number
  /** Page number */
  readonly root: bigint
}

const MAGIC = 0xbeefc0de
const VERSION = 1
const PAGE_HEADER = 16
const NODE_HEADER = 8
const TREE_SIZE = 48
const NO_PAGE = 0xffff_ffff_ffff_ffffn
/** A tree of 64-bit keys is at most some ten levels deep. */
const MAX_DEPTH = 32
/** Values are records of at most some 64 MiB; LMDB's own limit is 4 GiB. */
const MAX_VALUE = 2 ** 31 - 1

const PAGE_BRANCH = 0x01
const PAGE_LEAF = 0x02
const PAGE_OVERFLOW = 0x04
const NODE_BIG = 0x01
const NODE_TREE = 0x02
const NODE_DUPLICATES = 0x04

/**
 * Read-only access to an LMDB 0.9 data file (format 1, 64-bit, little-endian): the state of its newest transaction. Everything that is read
 * is checked, so a damaged or cut file is `engine_corrupt`.
 */
export class LmdbFile {
  readonly path: string
  readonly #file: number
  readonly #pageSize: number
  readonly #pages: bigint
  readonly #main: LmdbTree
  readonly #fingerprint: string
  #closed = false

  /** Errors: `engine_io`, `engine_corrupt`, `invalid_body` for another format. */
  static open(path: string): LmdbFile {
    let file: number
    try {
      file = openSync(path, 'r')
    } catch (error) {
      throw new KvidxError('engine_io', `${path} cannot be opened: ${String(error)}`, { path }, error)
    }
    try {
      return new LmdbFile(path, file)
    } catch (error) {
      closeSync(file)
      throw error
    }
  }

  private constructor(path: string, file: number) {
    this.path = path
    this.#file = file
    this.#fingerprint = fingerprint(file)
    const first = this.#meta(0)
    this.#pageSize = first.pageSize
    const second = this.#meta(first.pageSize)
    const newest = second.transaction > first.transaction ? second : first
    this.#pages = newest.lastPage + 1n
    this.#main = newest.main
    const size = BigInt(fstatSync(file).size)
    // The last page of a value may be cut where its data ends, but not before its last page begins.
    if ((this.#pages - 1n) * BigInt(this.#pageSize) >= size && this.#pages > 2n) {
      throw this.damaged(`it has ${size} bytes, but ${this.#pages} pages of ${this.#pageSize} are used`)
    }
  }

  /** A named database; undefined when there is none. */
  tree(name: string): LmdbTree | undefined {
    const wanted = Buffer.from(name)
    for (const { key, value, isTree } of this.entries(this.#main)) {
      if (!isTree || !wanted.equals(key)) continue
      if (value.length !== TREE_SIZE) throw this.damaged(`the entry of ${name} has ${value.length} bytes`)
      return readTree(new DataView(value.buffer, value.byteOffset, TREE_SIZE), 0)
    }
    return undefined
  }

  /** All entries in the order of the file; keys and values are copies. */
  *entries(tree: LmdbTree): Generator<{ key: Uint8Array; value: Uint8Array; isTree: boolean }> {
    let found = 0n
    if (tree.root !== NO_PAGE) {
      for (const entry of this.#walk(tree.root, tree.depth)) {
        found++
        yield entry
      }
    }
    if (found !== tree.entries) throw this.damaged(`${found} entries were found where ${tree.entries} should be`)
  }

  /** Error: `conflict` when somebody wrote while it was being read: pages are then used again under the reader. */
  checkUnchanged(): void {
    if (fingerprint(this.#file) === this.#fingerprint) return
    throw new KvidxError('conflict', `${this.path} changed while it was read: close the program that has it open`, {
      path: this.path,
    })
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#file)
  }

  damaged(what: string): KvidxError {
    return new KvidxError('engine_corrupt', `the LMDB file ${this.path} is damaged: ${what}`, { path: this.path })
  }

  *#walk(page: bigint, depth: number): Generator<{ key: Uint8Array; value: Uint8Array; isTree: boolean }> {
    // The depth bounds the recursion: a page that points back to itself ends here.
    if (depth < 1 || depth > MAX_DEPTH) throw this.damaged(`page ${page} lies deeper than its tree`)
    const bytes = this.#read(page, 1)
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const flags = view.getUint16(10, true)
    const lower = view.getUint16(12, true)
    if (lower < PAGE_HEADER || lower > bytes.length || lower % 2 === 1)
      throw this.damaged(`page ${page} has no node list`)
    const isLeaf = flags === PAGE_LEAF
    if (!isLeaf && flags !== PAGE_BRANCH) throw this.damaged(`page ${page} has the flags ${flags}`)
    if (isLeaf !== (depth === 1)) throw this.damaged(`page ${page} is not where its tree says`)
    for (let slot = PAGE_HEADER; slot < lower; slot += 2) {
      const node = view.getUint16(slot, true)
      if (node < lower || node + NODE_HEADER > bytes.length) throw this.damaged(`page ${page} points outside itself`)
      const low = view.getUint16(node, true)
      const high = view.getUint16(node + 2, true)
      const third = view.getUint16(node + 4, true)
      const keyStart = node + NODE_HEADER
      const keyEnd = keyStart + view.getUint16(node + 6, true)
      if (keyEnd > bytes.length) throw this.damaged(`a key of page ${page} is longer than the page`)
      if (!isLeaf) {
        yield* this.#walk(BigInt(low) + (BigInt(high) << 16n) + (BigInt(third) << 32n), depth - 1)
        continue
      }
      if (third & NODE_DUPLICATES) throw this.damaged(`page ${page} holds duplicates`)
      const length = low + high * 65_536
      yield {
        key: bytes.slice(keyStart, keyEnd),
        value: third & NODE_BIG ? this.#big(view, page, keyEnd, length) : this.#inline(bytes, page, keyEnd, length),
        isTree: (third & NODE_TREE) !== 0,
      }
    }
  }

  #inline(bytes: Uint8Array, page: bigint, start: number, length: number): Uint8Array {
    if (start + length > bytes.length) throw this.damaged(`a value of page ${page} is longer than the page`)
    return bytes.slice(start, start + length)
  }

  /** A value on pages of its own; the node holds the number of the first. */
  #big(view: DataView, page: bigint, start: number, length: number): Uint8Array {
    if (start + 8 > view.byteLength) throw this.damaged(`a value of page ${page} lies outside it`)
    if (length > MAX_VALUE) throw this.damaged(`a value of page ${page} has ${length} bytes`)
    const first = view.getBigUint64(start, true)
    const count = Math.ceil((PAGE_HEADER + length) / this.#pageSize)
    const bytes = this.#read(first, count)
    const header = new DataView(bytes.buffer, bytes.byteOffset, PAGE_HEADER)
    if (header.getUint16(10, true) !== PAGE_OVERFLOW || header.getUint32(12, true) < count) {
      throw this.damaged(`page ${first} does not begin a large value`)
    }
    return bytes.subarray(PAGE_HEADER, PAGE_HEADER + length)
  }

  /** `count` pages; each carries its own number, which is compared. */
  #read(page: bigint, count: number): Uint8Array {
    if (page < 2n || page + BigInt(count) > this.#pages) throw this.damaged(`page ${page} lies outside of the file`)
    const bytes = this.#bytes(Number(page) * this.#pageSize, count * this.#pageSize)
    const own = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)
    if (own !== page) throw this.damaged(`page ${page} says it is page ${own}`)
    return bytes
  }

  #bytes(position: number, length: number): Uint8Array {
    if (this.#closed) throw new KvidxError('cancelled', `${this.path} was closed`)
    const bytes = new Uint8Array(length)
    let done = 0
    try {
      while (done < length) {
        const read = readSync(this.#file, bytes, done, length - done, position + done)
        if (read === 0) break
        done += read
      }
    } catch (error) {
      throw new KvidxError('engine_io', `${this.path} cannot be read: ${String(error)}`, { path: this.path }, error)
    }
    if (done < length) throw this.damaged(`it ends at byte ${position + done}`)
    return bytes
  }

  #meta(position: number): { pageSize: number; transaction: bigint; lastPage: bigint; main: LmdbTree } {
    const bytes = this.#bytes(position, 152)
    const view = new DataView(bytes.buffer)
    if (view.getUint32(16, true) !== MAGIC) throw this.damaged(`byte ${position + 16} does not begin a header`)
    const version = view.getUint32(20, true)
    if (version !== VERSION) {
      throw new KvidxError('invalid_body', `${this.path} has LMDB data format ${version}; ${VERSION} can be read`, {
        path: this.path,
        version,
      })
    }
    const pageSize = view.getUint32(40, true)
    if (pageSize < 512 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) {
      throw this.damaged(`its page size is ${pageSize}`)
    }
    return {
      pageSize,
      main: readTree(view, 88),
      lastPage: view.getBigUint64(136, true),
      transaction: view.getBigUint64(144, true),
    }
  }
}

function readTree(view: DataView, offset: number): LmdbTree {
  return {
    depth: view.getUint16(offset + 6, true),
    entries: view.getBigUint64(offset + 32, true),
    root: view.getBigUint64(offset + 40, true),
  }
}

function fingerprint(file: number): string {
  const { size, mtimeMs } = fstatSync(file)
  return `${size} ${mtimeMs}`
}
