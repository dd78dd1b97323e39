import type { PageFile } from './page-file.ts'

const PTRMAP_ENTRY = 5
/** What a pointer map says of a page. */
const PTRMAP = { root: 1, free: 2, overflowFirst: 3, overflowNext: 4, btree: 5 } as const

/** Which pages are taken by what, so that none is read twice and none that was given up is taken for content. */
export class PageUse {
  /** The list of free pages was read to its end and has as many pages as the header says. */
  readonly freeListSound: boolean
  readonly #file: PageFile
  readonly #used: Uint8Array
  readonly #free: Uint8Array

  constructor(file: PageFile) {
    this.#file = file
    this.#used = new Uint8Array(Math.ceil((file.pages + 1) / 8))
    this.#free = new Uint8Array(this.#used.length)
    this.freeListSound = file.headerSound && this.#readFreeList()
  }

  /** Takes a page; false when it lies outside the file or is taken already. */
  take(page: number): boolean {
    if (page < 1 || page > this.#file.pages || has(this.#used, page)) return false
    set(this.#used, page)
    return true
  }

  isTaken(page: number): boolean {
    return has(this.#used, page)
  }

  /** On the list of free pages. */
  isFree(page: number): boolean {
    return has(this.#free, page)
  }

  isPointerMap(page: number): boolean {
    return this.#file.autoVacuum && page >= 2 && (page - 2) % (this.#perMap + 1) === 0
  }

  /** False when the pointer map says that `page` is not the overflow page that follows `previous`. True when there is no map. */
  mayFollow(page: number, previous: number, first: boolean): boolean {
    const noted = this.#noted(page)
    if (noted === undefined) return true
    return noted.type === (first ? PTRMAP.overflowFirst : PTRMAP.overflowNext) && noted.parent === previous
  }

  /** False when the list of free pages is damaged and the pointer map says that the page belongs to no b-tree. */
  mayBeBtree(page: number): boolean {
    if (this.freeListSound) return true
    const noted = this.#noted(page)
    return noted === undefined || noted.type === PTRMAP.btree || noted.type === PTRMAP.root
  }

  get #perMap(): number {
    return Math.floor(this.#file.usable / PTRMAP_ENTRY)
  }

  /** Undefined without pointer maps, or where one is damaged itself. */
  #noted(page: number): { type: number; parent: number } | undefined {
    if (!this.#file.autoVacuum || page < 3 || this.isPointerMap(page)) return undefined
    const group = Math.floor((page - 2) / (this.#perMap + 1))
    const map = this.#map(group * (this.#perMap + 1) + 2)
    if (map === undefined) return undefined
    const at = (page - (group * (this.#perMap + 1) + 2) - 1) * PTRMAP_ENTRY
    const type = map[at] as number
    return type < PTRMAP.root || type > PTRMAP.btree ? undefined : { type, parent: map.readUInt32BE(at + 1) }
  }

  readonly #maps = new Map<number, Buffer | undefined>()

  #map(page: number): Buffer | undefined {
    if (this.#maps.has(page)) return this.#maps.get(page)
    if (this.#maps.size >= 64) this.#maps.clear()
    const bytes = this.#file.read(page)
    this.#maps.set(page, bytes)
    return bytes
  }

  #readFreeList(): boolean {
    const { usable } = this.#file
    let count = 0
    for (let trunk = this.#file.firstTrunk; trunk !== 0; ) {
      if (trunk > this.#file.pages || has(this.#free, trunk)) return false
      const bytes = this.#file.read(trunk)
      if (bytes === undefined) return false
      const leaves = bytes.readUInt32BE(4)
      if (leaves > usable / 4 - 2) return false
      set(this.#free, trunk)
      for (let i = 0; i < leaves; i++) {
        const page = bytes.readUInt32BE(8 + i * 4)
        if (page < 2 || page > this.#file.pages) return false
        set(this.#free, page)
      }
      count += 1 + leaves
      trunk = bytes.readUInt32BE(0)
    }
    return count === this.#file.freePages
  }
}

function has(bits: Uint8Array, page: number): boolean {
  return ((bits[page >> 3] ?? 0) & (1 << (page & 7))) !== 0
}

function set(bits: Uint8Array, page: number): void {
  bits[page >> 3] = (bits[page >> 3] as number) | (1 << (page & 7))
}
