import Database from 'better-sqlite3'
import { KvidxError } from '../../../src/common/errors.ts'
import type { IntegrityReport, Progress } from '../engine.ts'
import type { Connection } from './connection.ts'
import { sqliteError } from './errors.ts'

const SLICE_ROWS = 100_000
const SMALLEST = -(1n << 63n)
const LARGEST = (1n << 63n) - 1n
/** Enough to see what is wrong; a badly damaged file would give millions. */
const MOST_PROBLEMS = 100

/**
 * First walks the records in slices (this is where the time goes, and it can be cancelled between slices), then lets SQLite
 * check the structure as a whole. SQLite has no page checksums: damage inside a value is found by the content digest, not here.
 */
export function checkSqlite(connection: Connection, directory: string, progress: Progress): IntegrityReport {
  const problems: string[] = []
  try {
    walkRecords(connection, progress)
  } catch (thrown) {
    if (!isDamage(thrown)) throw sqliteError(thrown, directory, 'check the database')
    problems.push(`log: ${thrown.message} (${thrown.code})`)
  }
  try {
    const rows = connection.pragma(`integrity_check(${MOST_PROBLEMS})`) as { integrity_check: string }[]
    for (const row of rows) if (row.integrity_check !== 'ok') problems.push(row.integrity_check)
  } catch (thrown) {
    if (!isDamage(thrown)) throw sqliteError(thrown, directory, 'check the database')
    problems.push(`${thrown.message} (${thrown.code})`)
  }
  return { problems: problems.slice(0, MOST_PROBLEMS) }
}

function isDamage(thrown: unknown): thrown is InstanceType<typeof Database.SqliteError> {
  return (
    thrown instanceof Database.SqliteError &&
    (thrown.code.startsWith('SQLITE_CORRUPT') || thrown.code === 'SQLITE_NOTADB')
  )
}

/** Reads each leaf of `log`, slice by slice; each slice ends its statement, so the WAL is never held for longer than one. */
function walkRecords(connection: Connection, progress: Progress): void {
  const total = connection.prepare<[], number>('SELECT count(*) FROM log').pluck().get() ?? 0
  const slice = connection
    .prepare(`SELECT max(id), count(*) FROM (SELECT id FROM log WHERE id >= ? ORDER BY id LIMIT ${SLICE_ROWS})`)
    .raw()
    .safeIntegers()
  let done = 0
  let next = SMALLEST
  for (;;) {
    if (progress(Math.min(done, total), total)) throw new KvidxError('cancelled', 'The integrity check was cancelled')
    const [last, count] = slice.get(next) as [bigint | null, bigint]
    if (last === null || count < SLICE_ROWS || last === LARGEST) return
    done += Number(count)
    next = last + 1n
  }
}
