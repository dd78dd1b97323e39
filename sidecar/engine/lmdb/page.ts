/**
 * Pages of LMDB's data format 2, as bytes: 24 bytes of header (number u64, transaction u64, pad u16, flags u16, lower u16,
 * upper u16), then the offsets of the nodes, and from the end of the page downwards the nodes themselves.
 */
const HEADER = 24
const BRANCH = 0x01
const LEAF = 0x02
const NODE_HEADER = 8
const BIG = 0x01
const SUBTREE = 0x02
const OVERFLOW_REFERENCE = 24
const TREE_RECORD = 48

/** What is wrong, in words; undefined: nothing. */
export type PageProblem = string | undefined

export interface Node {
  readonly key: Uint8Array
  /** Bytes of the value. */
  readonly size: number
  /** Branch pages: the child. */
  readonly page: bigint
  /** The value lies in pages of its own. */
  readonly overflow?: { readonly page: bigint; readonly pages: number }
  /** The value describes a named tree: its root. */
  readonly subtree?: bigint
}

function viewOf(page: Uint8Array): DataView {
  return new DataView(page.buffer, page.byteOffset, page.byteLength)
}

export function isBranch(page: Uint8Array): boolean {
  return (viewOf(page).getUint16(18, true) & BRANCH) !== 0
}

/** Checks header and bounds, so that `nodesOf` reads nothing outside the page. */
export function checkPage(
  page: Uint8Array,
  number: bigint,
  meta: { readonly transaction: bigint; readonly lastPage: number },
): PageProblem {
  const view = viewOf(page)
  if (view.getBigUint64(0, true) !== number) return `its number is written as ${view.getBigUint64(0, true)}`
  if (view.getBigUint64(8, true) > meta.transaction) return 'is of a transaction that never was'
  const flags = view.getUint16(18, true)
  if (flags !== BRANCH && flags !== LEAF) return `has the flags 0x${flags.toString(16)}: neither branch nor leaf`
  const lower = view.getUint16(20, true)
  const upper = view.getUint16(22, true)
  if (lower > upper || upper > page.length - HEADER || lower % 2 !== 0)
    return `its free space is from ${lower} to ${upper} of ${page.length - HEADER}`
  const nodes = lower / 2
  if (nodes === 0) return 'holds nothing'
  for (let index = 0; index < nodes; index++) {
    const offset = view.getUint16(HEADER + index * 2, true) + HEADER
    if (offset < HEADER + upper || offset + NODE_HEADER > page.length) return `node ${index} lies outside`
    const nodeFlags = view.getUint16(offset + 4, true)
    const body = offset + NODE_HEADER + view.getUint16(offset + 6, true)
    const size = flags === BRANCH ? 0 : valueBytes(view, offset, nodeFlags)
    if (body + size > page.length) return `node ${index} ends outside`
    if (flags === LEAF && (nodeFlags & ~(BIG | SUBTREE)) !== 0)
      return `node ${index} has flags that are not in use here`
    if ((nodeFlags & SUBTREE) !== 0 && flags === LEAF && size !== TREE_RECORD) return `node ${index} is no tree record`
  }
  return undefined
}

function valueBytes(view: DataView, offset: number, flags: number): number {
  return (flags & BIG) !== 0 ? OVERFLOW_REFERENCE : view.getUint32(offset, true)
}

/** The nodes of a page that `checkPage` found sound. */
export function nodesOf(page: Uint8Array): Node[] {
  const view = viewOf(page)
  const branch = isBranch(page)
  const nodes: Node[] = []
  for (let index = 0; index < view.getUint16(20, true) / 2; index++) {
    const offset = view.getUint16(HEADER + index * 2, true) + HEADER
    const flags = view.getUint16(offset + 4, true)
    const body = offset + NODE_HEADER + view.getUint16(offset + 6, true)
    const low = view.getUint32(offset, true)
    nodes.push({
      key: page.subarray(offset + NODE_HEADER, body),
      size: low,
      // A child's number is 48 bits: the flags' place holds the upper ones.
      page: branch ? BigInt(low) | (BigInt(flags) << 32n) : 0n,
      ...(!branch && (flags & BIG) !== 0
        ? { overflow: { page: view.getBigUint64(body, true), pages: Number(view.getBigUint64(body + 16, true)) } }
        : {}),
      ...(!branch && (flags & SUBTREE) !== 0 ? { subtree: view.getBigUint64(body + 40, true) } : {}),
    })
  }
  return nodes
}

export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  return Buffer.compare(left, right)
}
