import { type BtreePage, PAGE, parsePage, payloadCell } from './btree-page.ts'
import type { Value } from './row.ts'

/** `id, created, term, cmd, data`; the last is missing when a row with NULL data was written with its trailing NULL left out. */
export const LOG_COLUMNS = 5

/** Does the row look like one of kvidxkit's table `log`? `created` is always 0. */
export function isLogRow(row: readonly Value[]): boolean {
  const [id, created, term, cmd, data] = row
  if (row.length !== 5 && row.length !== 4) return false
  if (id !== null || created !== 0n || typeof term !== 'bigint' || typeof cmd !== 'bigint') return false
  return data === undefined || data === null || (typeof data === 'object' && data.kind === 'blob')
}

/** Does the row look like one of the table of expiries? */
export function isExpiryRow(row: readonly Value[]): boolean {
  return row.length === 2 && row[0] === null && typeof row[1] === 'bigint'
}

/** Rows of `log` on a page of unknown origin. */
export function countRecords(bytes: Buffer, usable: number): number {
  const page = parsePage(bytes, 2, usable)
  return typeof page === 'string' || page.kind !== PAGE.leafTable ? 0 : rowsThatFit(page, usable)
}

function rowsThatFit(page: BtreePage, usable: number): number {
  let count = 0
  for (let i = 0; i < page.cells; i++) {
    const cell = payloadCell(page, i, usable)
    if (cell !== undefined && logHeaderFits(cell.local, cell.length)) count++
  }
  return count
}

/** The header alone: id NULL, created 0, two integers, a blob or nothing, and lengths that add up. Needs no overflow pages. */
function logHeaderFits(local: Buffer, length: number): boolean {
  const header = local[0] as number
  if (header < 5 || header > 16 || header > local.length) return false
  if (local[1] !== 0 || local[2] !== 8) return false
  let at = 3
  let body = header
  for (let column = 2; column < 4; column++) {
    const type = local[at++] as number
    if (type > 9 || type === 7 || type === 0) return false
    body += [0, 1, 2, 3, 4, 6, 8, 8, 0, 0][type] as number
  }
  if (at === header) return body === length
  let type = 0
  while (at < header) {
    const byte = local[at++] as number
    type = type * 128 + (byte & 0x7f)
    if (byte < 0x80) break
  }
  if (at !== header) return false
  if (type === 0) return body === length
  return type >= 12 && type % 2 === 0 && body + (type - 12) / 2 === length
}
