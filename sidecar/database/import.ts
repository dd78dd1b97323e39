import { KvidxError } from '../../src/common/errors.ts'
import { decodeStream } from '../format/decode.ts'
import type { DatabaseConfig } from './config.ts'
import type { ImportOptions, ImportResult } from './database.ts'
import type { Operation, WriteRequest, WriteResult } from './operation.ts'
import { formatPosition } from './position.ts'

/** Records of one commit of a sliced import. */
const SLICE_RECORDS = 10_000
const SLICE_BYTES = 8 * 1024 * 1024

type Write = (request: WriteRequest) => Promise<WriteResult>

/**
 * Import into a database that has data: one commit, or slices of one commit each. Into an empty one see LocalDatabase.
 * Whatever ends an import in slices says what is in already.
 */
export async function importInto(
  write: Write,
  body: AsyncIterable<Uint8Array>,
  options: ImportOptions,
  limits: DatabaseConfig['limits'],
  signal: AbortSignal,
): Promise<ImportResult> {
  const totals = { read: 0, imported: 0, skipped: 0, replaced: 0, position: { epoch: 0n, seq: 0n } }
  try {
    await importCommits(totals, write, body, options, limits, signal)
    return totals
  } catch (error) {
    if (options.atomic || !(error instanceof KvidxError)) throw error
    const { imported, skipped, position } = totals
    const done = {
      imported: String(imported),
      ...(imported + skipped > 0 && { position: formatPosition(position) }),
    }
    const message = `${error.message}; ${imported} records before were imported`
    throw new KvidxError(error.code, message, { ...done, ...error.details }, error)
  }
}

async function importCommits(
  totals: { -readonly [member in keyof ImportResult]: ImportResult[member] },
  write: Write,
  body: AsyncIterable<Uint8Array>,
  options: ImportOptions,
  limits: DatabaseConfig['limits'],
  signal: AbortSignal,
): Promise<void> {
  let operations: Operation[] = []
  let bytes = 0
  const sliceBytes = Math.min(SLICE_BYTES, limits.atomicBytes)
  const commit = async () => {
    const { position, applied, outcomes } = await write({ operations })
    const first = totals.read - operations.length
    totals.position = position
    if (!applied) {
      const index = outcomes.length - 1
      const key = (operations[index] as Operation & { op: 'put' }).key
      throw new KvidxError('duplicate_key', `record ${first + index}: key ${key} exists already`, {
        record: first + index,
        key: String(key),
        imported: String(totals.imported),
        position: formatPosition(position),
      })
    }
    for (const outcome of outcomes) {
      if (outcome.outcome === 'condition_failed') totals.skipped++
      else {
        totals.imported++
        if (outcome.outcome === 'changed' && !outcome.created) totals.replaced++
      }
    }
    operations = []
    bytes = 0
  }
  for await (const records of decodeStream(
    body,
    options.format,
    { maxDataBytes: limits.maxDataBytes, openEnd: true },
    signal,
  )) {
    for (const { key, term, cmd, data, expiresAt } of records) {
      // a slice is a commit like any other
      if (!options.atomic && operations.length > 0 && bytes + data.length > sliceBytes) await commit()
      operations.push({
        op: 'put',
        key,
        term,
        cmd,
        data,
        ...(expiresAt !== 0n && { expiry: { at: expiresAt } }),
        ...(options.onDuplicate !== 'replace' && { condition: { absent: true } }),
        ...(options.onDuplicate === 'skip' && { optional: true }),
      })
      totals.read++
      bytes += data.length
      if (options.atomic && (operations.length > limits.atomicRecords || bytes > limits.atomicBytes))
        throw new KvidxError(
          'too_large',
          `the import is above what one commit may hold (allowed: ${limits.atomicRecords} records, ${limits.atomicBytes} bytes); atomic=false imports it in slices, clear=true replaces everything at any size`,
          { maxRecords: limits.atomicRecords, maxBytes: limits.atomicBytes },
        )
      if (!options.atomic && operations.length >= SLICE_RECORDS) await commit()
    }
  }
  // even an empty import answers the position it was judged at
  await commit()
}
