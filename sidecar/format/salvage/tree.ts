import {
  type BtreePage,
  indexChild,
  interiorCell,
  PAGE,
  type PayloadCell,
  parsePage,
  payloadCell,
} from './btree-page.ts'
import type { PageFile } from './page-file.ts'
import type { PageUse } from './page-use.ts'

const MAX_DEPTH = 20
export const SMALLEST_ROWID = -(1n << 63n)
export const LARGEST_ROWID = (1n << 63n) - 1n

/** Row ids, both ends inclusive, signed. */
export interface RowSpan {
  readonly first: bigint
  readonly last: bigint
}

export interface TreeEvents {
  /** A leaf of a table whose rows should lie in the span. `doubt`: why it may not belong there. */
  leaf(page: BtreePage, number: number, span: RowSpan, doubt: string | undefined): void
  /** Rows of the span may be lost: the page that should hold them cannot be read. */
  lost(span: RowSpan, page: number, reason: string): void
}

/** Walks a table's b-tree in row id order, as far as it can be walked. */
export function walkTable(file: PageFile, use: PageUse, root: number, events: TreeEvents): void {
  const visit = (number: number, span: RowSpan, depth: number): void => {
    if (span.first > span.last) return
    const page = openPage(file, use, number, depth)
    if (typeof page === 'string') {
      events.lost(span, number, page)
    } else if (page.kind === PAGE.leafTable) {
      // tree and free list cannot both be right; the rows' own order will tell
      events.leaf(page, number, span, use.isFree(number) ? 'its page is on the list of free pages' : undefined)
    } else if (page.kind === PAGE.interiorTable) {
      let first = span.first
      let damaged = false
      for (let i = 0; i < page.cells; i++) {
        const cell = interiorCell(page, i, file.usable)
        // keys ascend; one that does not, or leaves the span, was damaged
        if (cell === undefined || cell.key < first || cell.key > span.last) {
          damaged = true
          continue
        }
        if (damaged) events.lost({ first, last: cell.key }, number, 'a cell of this interior page is damaged')
        damaged = false
        visit(cell.child, { first, last: cell.key }, depth + 1)
        first = cell.key + 1n
      }
      if (damaged) events.lost({ first, last: span.last }, number, 'a cell of this interior page is damaged')
      visit(page.rightChild, { first, last: span.last }, depth + 1)
    } else {
      events.lost(span, number, 'it is a page of an index')
    }
  }
  visit(root, { first: SMALLEST_ROWID, last: LARGEST_ROWID }, 0)
}

/** Visits the entries of an index (or of a table WITHOUT ROWID) in no particular order. Returns false when some could not be reached. */
export function walkIndex(
  file: PageFile,
  use: PageUse,
  root: number,
  entry: (cell: PayloadCell, page: number) => void,
): boolean {
  let whole = true
  const visit = (number: number, depth: number): void => {
    const page = openPage(file, use, number, depth)
    if (typeof page === 'string' || (page.kind !== PAGE.leafIndex && page.kind !== PAGE.interiorIndex)) {
      whole = false
      return
    }
    for (let i = 0; i < page.cells; i++) {
      if (page.kind === PAGE.interiorIndex) {
        const child = indexChild(page, i, file.usable)
        if (child === undefined) whole = false
        else visit(child, depth + 1)
      }
      const cell = payloadCell(page, i, file.usable)
      if (cell === undefined) whole = false
      else entry(cell, number)
    }
    if (page.kind === PAGE.interiorIndex) visit(page.rightChild, depth + 1)
  }
  visit(root, 0)
  return whole
}

/** A whole payload; `doubt`: why some of it may belong to something else. */
export interface Payload {
  readonly bytes: Buffer
  readonly doubt?: string
}

/** The whole payload of a cell that lies on `page`, or why it cannot be read. */
export function readPayload(
  file: PageFile,
  use: PageUse,
  cell: PayloadCell,
  page: number,
  maxBytes: number,
): Payload | string {
  if (cell.overflow === 0) return { bytes: cell.local }
  if (cell.length > maxBytes) return `it claims ${cell.length} bytes, above the limit of ${maxBytes}`
  const perPage = file.usable - 4
  const needed = Math.ceil((cell.length - cell.local.length) / perPage)
  if (needed > file.pages) return `it claims ${cell.length} bytes, more than the file has`
  const parts: Buffer[] = [cell.local]
  let left = cell.length - cell.local.length
  let next = cell.overflow
  let previous = page
  let doubt: string | undefined
  for (let i = 0; i < needed; i++) {
    if (use.isFree(next)) doubt ??= `its overflow page ${next} is on the list of free pages`
    if (!use.mayFollow(next, previous, i === 0))
      doubt ??= `the pointer map gives its overflow page ${next} to something else`
    if (!use.take(next)) return `its overflow page ${next} is used elsewhere or outside the file`
    const bytes = file.read(next)
    if (bytes === undefined) return `its overflow page ${next} cannot be read`
    const size = Math.min(left, perPage)
    parts.push(bytes.subarray(4, 4 + size))
    left -= size
    previous = next
    next = bytes.readUInt32BE(0)
  }
  if (next !== 0) doubt ??= `its chain of overflow pages goes on behind its ${cell.length} bytes`
  const bytes = Buffer.concat(parts, cell.length)
  return doubt === undefined ? { bytes } : { bytes, doubt }
}

function openPage(file: PageFile, use: PageUse, number: number, depth: number): BtreePage | string {
  if (depth > MAX_DEPTH) return 'the tree is deeper than any can be'
  if (number < 1 || number > file.pages) return 'it lies outside the file'
  if (!use.take(number)) return 'it is used elsewhere already'
  const bytes = file.read(number)
  return bytes === undefined ? 'it cannot be read' : parsePage(bytes, number, file.usable)
}
