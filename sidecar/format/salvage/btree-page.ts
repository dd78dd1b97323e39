/** Kinds of b-tree pages by their first byte. */
export const PAGE = { interiorIndex: 0x02, interiorTable: 0x05, leafIndex: 0x0a, leafTable: 0x0d } as const

const KINDS: ReadonlySet<number> = new Set(Object.values(PAGE))
/** The file header stands before the first page's own. */
const FILE_HEADER = 100

/** A cell with a payload, as far as it lies on its page. */
export interface PayloadCell {
  /** Row id of a table's leaf; 0n for an index. */
  readonly rowid: bigint
  /** Bytes of the whole payload. */
  readonly length: number
  readonly local: Buffer
  /** First overflow page; 0: none. */
  readonly overflow: number
}

/** One b-tree page whose frame is sound: kind, number of cells and the place of the cell pointers. */
export interface BtreePage {
  readonly kind: number
  readonly bytes: Buffer
  readonly cells: number
  /** Offset of the cell pointers. */
  readonly pointers: number
  /** The last child of an interior page; 0 for a leaf. */
  readonly rightChild: number
}

/** Undefined, or why this is no b-tree page. */
export function parsePage(bytes: Buffer, page: number, usable: number): BtreePage | string {
  const at = page === 1 ? FILE_HEADER : 0
  const kind = bytes[at] as number
  if (!KINDS.has(kind)) return `its kind is ${kind}, which no b-tree page has`
  const interior = kind === PAGE.interiorIndex || kind === PAGE.interiorTable
  const cells = bytes.readUInt16BE(at + 3)
  const pointers = at + (interior ? 12 : 8)
  if (pointers + cells * 2 > usable) return `it claims ${cells} cells, more than fit`
  const content = bytes.readUInt16BE(at + 5) || 65536
  if (content < pointers + cells * 2 || content > usable) return `its content is said to begin at ${content}`
  if (interior && cells === 0) return 'an interior page has no cells'
  return { kind, bytes, cells, pointers, rightChild: interior ? bytes.readUInt32BE(at + 8) : 0 }
}

/** Child and key of a cell of an interior table page; undefined when it does not fit on the page. */
export function interiorCell(
  page: BtreePage,
  index: number,
  usable: number,
): { child: number; key: bigint } | undefined {
  const at = cellOffset(page, index, usable)
  if (at === undefined || at + 5 > usable) return undefined
  const key = varint(page.bytes, at + 4, usable)
  return key === undefined ? undefined : { child: page.bytes.readUInt32BE(at), key: BigInt.asIntN(64, key.value) }
}

/** The child of a cell of an interior index page. */
export function indexChild(page: BtreePage, index: number, usable: number): number | undefined {
  const at = cellOffset(page, index, usable)
  return at === undefined || at + 4 > usable ? undefined : page.bytes.readUInt32BE(at)
}

/** A cell with a payload: leaves of tables, and all pages of indexes. Undefined when it does not fit on the page. */
export function payloadCell(page: BtreePage, index: number, usable: number): PayloadCell | undefined {
  let at = cellOffset(page, index, usable)
  if (at === undefined) return undefined
  if (page.kind === PAGE.interiorIndex) at += 4
  const length = varint(page.bytes, at, usable)
  if (length === undefined || length.value > 0x7fff_ffffn) return undefined
  at = length.end
  let rowid = 0n
  if (page.kind === PAGE.leafTable) {
    const id = varint(page.bytes, at, usable)
    if (id === undefined) return undefined
    rowid = BigInt.asIntN(64, id.value)
    at = id.end
  }
  const size = Number(length.value)
  const here = localSize(size, usable, page.kind === PAGE.leafTable)
  const spills = here < size
  if (at + here + (spills ? 4 : 0) > usable) return undefined
  return {
    rowid,
    length: size,
    local: page.bytes.subarray(at, at + here),
    overflow: spills ? page.bytes.readUInt32BE(at + here) : 0,
  }
}

function cellOffset(page: BtreePage, index: number, usable: number): number | undefined {
  const at = page.bytes.readUInt16BE(page.pointers + index * 2)
  return at < page.pointers + page.cells * 2 || at >= usable ? undefined : at
}

/** How much of a payload stays on its page (file format, section 1.6). */
function localSize(length: number, usable: number, table: boolean): number {
  const most = table ? usable - 35 : Math.floor(((usable - 12) * 64) / 255) - 23
  if (length <= most) return length
  const least = Math.floor(((usable - 12) * 32) / 255) - 23
  const fitting = least + ((length - least) % (usable - 4))
  return fitting <= most ? fitting : least
}

/** SQLite's varint of 1 to 9 bytes; undefined when it crosses `limit`. */
export function varint(bytes: Buffer, from: number, limit: number): { value: bigint; end: number } | undefined {
  let small = 0
  for (let i = 0; i < 9; i++) {
    if (from + i >= limit) return undefined
    const byte = bytes[from + i] as number
    if (i < 6) {
      small = small * 128 + (byte & 0x7f)
      if (byte < 0x80) return { value: BigInt(small), end: from + i + 1 }
      continue
    }
    return longVarint(bytes, from, limit)
  }
  return undefined
}

function longVarint(bytes: Buffer, from: number, limit: number): { value: bigint; end: number } | undefined {
  let value = 0n
  for (let i = 0; i < 9; i++) {
    if (from + i >= limit) return undefined
    const byte = bytes[from + i] as number
    if (i === 8) return { value: (value << 8n) | BigInt(byte), end: from + 9 }
    value = (value << 7n) | BigInt(byte & 0x7f)
    if (byte < 0x80) return { value, end: from + i + 1 }
  }
  return undefined
}
