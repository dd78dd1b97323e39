import Database from 'better-sqlite3'
import { type ErrorCode, KvidxError } from '../../../src/common/errors.ts'
import { isFull } from '../files.ts'

function codeOf(code: string, directory: string): ErrorCode {
  if (code === 'SQLITE_FULL') return 'no_space'
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB' || code === 'SQLITE_FORMAT') return 'engine_corrupt'
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) return 'locked'
  if (code === 'SQLITE_TOOBIG') return 'too_large'
  if (code === 'SQLITE_IOERR_SHMSIZE' || code === 'SQLITE_IOERR_WRITE')
    return isFull(directory) ? 'no_space' : 'engine_io'
  if (code.startsWith('SQLITE_IOERR') || code.startsWith('SQLITE_CANTOPEN') || code.startsWith('SQLITE_READONLY'))
    return 'engine_io'
  if (code === 'SQLITE_PERM' || code === 'SQLITE_AUTH') return 'engine_io'
  return 'internal'
}

/** An error of the binding as a KvidxError; whatever else was thrown (by a visitor, say) passes through unchanged. */
export function sqliteError(thrown: unknown, directory: string, action: string): unknown {
  if (!(thrown instanceof Database.SqliteError)) return thrown
  return new KvidxError(
    codeOf(thrown.code, directory),
    `SQLite cannot ${action}: ${thrown.message} (${thrown.code})`,
    { engineCode: thrown.code },
    thrown,
  )
}

/** Runs `body`; errors of the binding come out as KvidxErrors that name `action`. */
export function guarded<T>(directory: string, action: string, body: () => T): T {
  try {
    return body()
  } catch (thrown) {
    throw sqliteError(thrown, directory, action)
  }
}
