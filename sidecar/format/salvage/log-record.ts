import type { StoredRecord } from '../../engine/engine.ts'
import { toUnsigned } from '../../engine/sqlite/integer.ts'
import type { ExpiryTable } from './expiry-table.ts'
import { LOG_COLUMNS } from './record-page.ts'
import { parseRow, type Value } from './row.ts'
import type { Payload } from './tree.ts'

const EMPTY = new Uint8Array(0)

/** A row of `log`, and what about it is not as kvidxkit writes it. */
export interface LogRecord {
  readonly record: StoredRecord
  readonly doubt?: string
}

/** Undefined when the payload is no row of `log` at all. */
export function logRecord(rowid: bigint, payload: Payload, expiries: ExpiryTable): LogRecord | undefined {
  const row = parseRow(payload.bytes, LOG_COLUMNS)
  if (row === undefined || row.length < LOG_COLUMNS - 1) return undefined
  const [id, created, term, cmd, data] = row as [Value, Value, Value, Value, Value | undefined]
  const bytes = data === undefined || data === null ? EMPTY : typeof data === 'object' ? data.bytes : undefined
  if (bytes === undefined) return undefined
  const expiry = expiries.get(rowid)
  const record = {
    key: toUnsigned(rowid),
    term: typeof term === 'bigint' ? toUnsigned(term) : 0n,
    cmd: typeof cmd === 'bigint' ? toUnsigned(cmd) : 0n,
    data: bytes,
    expiresAt: expiry === undefined ? 0n : expiry === 0n ? 1n : toUnsigned(expiry),
  }
  const odd: string[] = payload.doubt === undefined ? [] : [payload.doubt]
  if (id !== null) odd.push('id is stored twice')
  if (created !== 0n) odd.push('created is not 0')
  if (typeof term !== 'bigint') odd.push('term is not an integer')
  if (typeof cmd !== 'bigint') odd.push('cmd is not an integer')
  if (data !== undefined && data !== null && typeof data === 'object' && data.kind === 'text')
    odd.push('data is a text')
  return odd.length === 0 ? { record } : { record, doubt: odd.join(', ') }
}
