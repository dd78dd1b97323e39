import { closeSync, openSync, readSync } from 'node:fs'
import { KvidxError } from '../../../src/common/errors.ts'
import type { IntegrityReport, Progress } from '../engine.ts'
import { fileSize } from '../files.ts'
import { checkFormat, dataFile } from './environment.ts'
import { checkPage, compareBytes, isBranch, type Node, nodesOf, type PageProblem } from './page.ts'

const META_BYTES = 24
const MAGIC = 0xbeefc0de
/** No tree of 2^64 keys is deeper; a cycle of damaged pages is. */
const DEEPEST = 32
const MOST_PROBLEMS = 100
const NO_PAGE = 0xffff_ffff_ffff_ffffn
/** Pages between two calls of `progress`. */
const STEP = 256

interface Meta {
  readonly pageSize: number
  readonly lastPage: number
  readonly transaction: bigint
  /** The tree of free pages, and the main tree, whose values are the named trees. */
  readonly roots: readonly bigint[]
}

/**
 * Walks every page that is reachable from the newest meta page and checks header, bounds of nodes, key order and overflow
 * runs. It reads the file itself, because LMDB trusts its pages: a damaged one can end the process. The caller holds a read
 * transaction, so no page that is walked here is written meanwhile. Damage inside a value is found by the content digest.
 */
export function checkLmdb(directory: string, progress: Progress): IntegrityReport {
  const path = dataFile(directory)
  const file = openSync(path, 'r')
  try {
    const problems: string[] = []
    const meta = newestMeta(file, problems)
    if (meta === undefined) return { problems }
    const walk = new TreeWalk(file, meta, problems, progress)
    for (const [index, root] of meta.roots.entries()) walk.tree(index === 0 ? 'free pages' : 'main', root)
    return { problems }
  } finally {
    closeSync(file)
  }
}

/**
 * Before LMDB maps the file: it trusts what it finds, and a page that is not there ends the process. A file that is shorter than its meta page says is always walked
 * through, others when they are suspected. Error: engine_corrupt with the problems.
 */
export function ensureSound(directory: string, suspected: boolean): void {
  const path = dataFile(directory)
  // a file of another format is told as such, not as damage
  checkFormat(path)
  if (fileSize(path) === 0 || !(suspected || isShort(path))) return
  const { problems } = checkLmdb(directory, () => false)
  if (problems.length > 0)
    throw new KvidxError('engine_corrupt', `the pages of ${path} are damaged: ${problems.slice(0, 5).join('; ')}`, {
      problems,
    })
}

function isShort(path: string): boolean {
  const file = openSync(path, 'r')
  try {
    const meta = newestMeta(file, [])
    return meta === undefined || fileSize(path) < (meta.lastPage + 1) * meta.pageSize
  } finally {
    closeSync(file)
  }
}

function newestMeta(file: number, problems: string[]): Meta | undefined {
  const first = readMeta(file, 0)
  const second = readMeta(file, first?.pageSize ?? 4096)
  for (const [number, meta] of [first, second].entries())
    if (meta === undefined) problems.push(`page ${number}: not a meta page of LMDB's data format 2`)
  if (first === undefined || second === undefined) return first ?? second
  return first.transaction >= second.transaction ? first : second
}

function readMeta(file: number, offset: number): Meta | undefined {
  const bytes = Buffer.alloc(192)
  if (readSync(file, bytes, 0, bytes.length, offset) < bytes.length) return undefined
  if (bytes.readUInt32LE(META_BYTES) !== MAGIC || bytes.readUInt32LE(META_BYTES + 4) !== 2) return undefined
  const pageSize = bytes.readUInt32LE(48)
  if (pageSize < 512 || pageSize > 65536 || (pageSize & (pageSize - 1)) !== 0) return undefined
  return {
    pageSize,
    lastPage: Number(bytes.readBigUInt64LE(144)),
    transaction: bytes.readBigUInt64LE(152),
    roots: [bytes.readBigUInt64LE(48 + 40), bytes.readBigUInt64LE(96 + 40)],
  }
}

class TreeWalk {
  readonly #file: number
  readonly #meta: Meta
  readonly #problems: string[]
  readonly #progress: Progress
  /** One bit a page: a page that belongs to two trees, or twice to one, is damage. */
  readonly #seen: Uint8Array
  #done = 0

  constructor(file: number, meta: Meta, problems: string[], progress: Progress) {
    this.#file = file
    this.#meta = meta
    this.#problems = problems
    this.#progress = progress
    this.#seen = new Uint8Array((meta.lastPage >> 3) + 1)
  }

  tree(name: string, root: bigint): void {
    this.#report()
    if (root !== NO_PAGE) this.#page(name, root, 0, undefined)
  }

  /** Checks one page and what is below it; `low` is the key that its parent has for it. */
  #page(tree: string, number: bigint, depth: number, low: Uint8Array | undefined): void {
    if (this.#problems.length >= MOST_PROBLEMS) return
    const problem = this.#claim(number, 1)
    if (problem !== undefined || depth > DEEPEST) {
      this.#problems.push(`tree ${tree}, page ${number}: ${problem ?? 'deeper than any tree can be'}`)
      return
    }
    const page = this.#read(number)
    if (typeof page === 'string') {
      this.#problems.push(`tree ${tree}, page ${number}: ${page}`)
      return
    }
    const damage = checkPage(page, number, this.#meta)
    if (damage !== undefined) {
      this.#problems.push(`tree ${tree}, page ${number}: ${damage}`)
      return
    }
    this.#done++
    if (this.#done % STEP === 0) this.#report()
    const branch = isBranch(page)
    const nodes = nodesOf(page)
    // Free-page lists are keyed by native integers; byte order says nothing about them.
    if (tree !== 'free pages') this.#checkOrder(tree, number, nodes, branch, low)
    for (const node of nodes) {
      if (branch) this.#page(tree, node.page, depth + 1, node.key.length === 0 ? undefined : Uint8Array.from(node.key))
      else this.#value(tree, number, node)
    }
  }

  #checkOrder(
    tree: string,
    number: bigint,
    nodes: readonly Node[],
    branch: boolean,
    low: Uint8Array | undefined,
  ): void {
    for (const [index, node] of nodes.entries()) {
      const before = nodes[index - 1]
      // The first key of a branch page is not used and may be empty.
      const comparable = before !== undefined && !(branch && index === 1)
      if (comparable && compareBytes(before.key, node.key) >= 0)
        this.#problems.push(`tree ${tree}, page ${number}: keys ${index - 1} and ${index} are out of order`)
      if (index === 0 && !branch && low !== undefined && compareBytes(node.key, low) < 0)
        this.#problems.push(`tree ${tree}, page ${number}: its first key lies before the parent's`)
    }
  }

  #value(tree: string, number: bigint, node: Node): void {
    if (node.overflow !== undefined) {
      const { page, pages } = node.overflow
      const problem = this.#claim(page, pages) ?? this.#overflow(page, pages, node.size)
      if (problem !== undefined) this.#problems.push(`tree ${tree}, page ${number}, value at page ${page}: ${problem}`)
      this.#done += pages
      return
    }
    if (node.subtree !== undefined && node.subtree !== NO_PAGE)
      this.#page(Buffer.from(node.key).toString('latin1').replaceAll('\0', ''), node.subtree, 0, undefined)
  }

  #overflow(page: bigint, pages: number, size: number): PageProblem {
    const bytes = this.#read(page)
    if (typeof bytes === 'string') return bytes
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    if (view.getBigUint64(0, true) !== page) return `its number is written as ${view.getBigUint64(0, true)}`
    if ((view.getUint16(18, true) & 0x04) === 0) return 'is not an overflow page'
    if (view.getUint32(20, true) !== pages) return `says ${view.getUint32(20, true)} pages, its node says ${pages}`
    if (size > pages * this.#meta.pageSize - META_BYTES) return `${size} bytes do not fit into ${pages} pages`
    return undefined
  }

  #claim(number: bigint, pages: number): PageProblem {
    const first = Number(number)
    if (number < 2n || first + pages - 1 > this.#meta.lastPage) return 'lies outside the file'
    for (let page = first; page < first + pages; page++) {
      const bit = 1 << (page & 7)
      const byte = this.#seen[page >> 3] ?? 0
      if ((byte & bit) !== 0) return 'is used twice'
      this.#seen[page >> 3] = byte | bit
    }
    return undefined
  }

  #read(number: bigint): Uint8Array | string {
    const bytes = Buffer.allocUnsafe(this.#meta.pageSize)
    const read = readSync(this.#file, bytes, 0, bytes.length, Number(number) * this.#meta.pageSize)
    return read === bytes.length ? bytes : `only ${read} bytes can be read`
  }

  #report(): void {
    if (this.#progress(Math.min(this.#done, this.#meta.lastPage), this.#meta.lastPage))
      throw new KvidxError('cancelled', 'The integrity check was cancelled')
  }
}
