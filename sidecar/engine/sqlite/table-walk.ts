import { rowidAt } from './leaf.ts'
import type { WalPages } from './wal-pages.ts'

const INTERIOR = 0x05
const LEAF = 0x0d
const MOST_LEVELS = 20
/** Interior pages kept: those above the place where a walk is, and a few of the last ones. */
const KEPT = 16

/** A page that does not look as it should. SQLite itself then says what there is to say. */
export class OddPage extends Error {}

export interface Leaf {
  readonly bytes: Buffer
  readonly cells: number
}

interface Interior extends Leaf {
  /** The child that is being walked; `cells` is the last. */
  at: number
}

/** Walks the leaves of a table in row id order. */
export class TableWalk {
  readonly #pages: WalPages
  readonly #root: number
  readonly #usable: number
  readonly #kept = new Map<number, Buffer>()
  readonly #leaf: Buffer
  #path: Interior[] = []

  /** @param usable bytes of a page that hold content */
  constructor(pages: WalPages, root: number, usable: number) {
    this.#pages = pages
    this.#root = root
    this.#usable = usable
    this.#leaf = Buffer.allocUnsafeSlow(pages.pageSize)
  }

  /** The leaf that holds the first row with an id of `first` or more; it may hold smaller ones only. */
  seek(first: bigint): Leaf {
    this.#path = []
    return this.#descend(this.#root, first)
  }

  /** Undefined behind the last. */
  next(): Leaf | undefined {
    for (let level = this.#path.at(-1); level; level = this.#path.at(-1)) {
      if (level.at < level.cells) {
        level.at++
        return this.#descend(childOf(level, this.#usable), undefined)
      }
      this.#path.pop()
    }
    return undefined
  }

  #descend(root: number, first: bigint | undefined): Leaf {
    for (let page = root; this.#path.length < MOST_LEVELS; ) {
      const bytes = this.#read(page)
      // the file's own header stands before that of the first page
      const kind = page === 1 ? 0 : bytes[0]
      const cells = bytes.readUInt16BE(3)
      if (kind === LEAF && 8 + cells * 2 <= this.#usable) return { bytes, cells }
      if (kind !== INTERIOR || 12 + cells * 2 > this.#usable) throw new OddPage(`page ${page} is of kind ${kind}`)
      const level: Interior = { bytes, cells, at: 0 }
      if (first !== undefined) level.at = childFor(level, first, this.#usable)
      this.#path.push(level)
      page = childOf(level, this.#usable)
    }
    throw new OddPage('the tree is deeper than any can be')
  }

  /** Leaves lie in one buffer that is used again; interior pages in buffers of their own. */
  #read(page: number): Buffer {
    const known = this.#kept.get(page)
    if (known) return known
    if (!this.#pages.read(page, this.#leaf)) throw new OddPage(`page ${page} cannot be read`)
    if (page === 1 || this.#leaf[0] !== INTERIOR) return this.#leaf
    const bytes = Buffer.from(this.#leaf)
    if (this.#kept.size >= KEPT) this.#kept.delete(this.#kept.keys().next().value as number)
    this.#kept.set(page, bytes)
    return bytes
  }
}

/** The child at the present place. */
function childOf({ bytes, cells, at }: Interior, usable: number): number {
  return at === cells ? bytes.readUInt32BE(8) : bytes.readUInt32BE(cellAt(bytes, at, usable))
}

/** The first child whose rows reach up to `first`. */
function childFor({ bytes, cells }: Leaf, first: bigint, usable: number): number {
  let low = 0
  for (let high = cells; low < high; ) {
    const middle = (low + high) >>> 1
    if (rowidAt(bytes, cellAt(bytes, middle, usable) + 4) < first) low = middle + 1
    else high = middle
  }
  return low
}

function cellAt(bytes: Buffer, index: number, usable: number): number {
  const at = bytes.readUInt16BE(12 + index * 2)
  if (at + 5 > usable) throw new OddPage('a cell lies outside its page')
  return at
}
