import { type ErrorCode, KvidxError } from '../../../src/common/errors.ts'
import { isFull } from '../files.ts'

const EIO = 5

/** LMDB's own return codes, and the errno values it passes through. */
const CODES: Readonly<Record<number, ErrorCode>> = {
  [-30792]: 'no_space', // MDB_MAP_FULL
  28: 'no_space', // ENOSPC
  122: 'no_space', // EDQUOT
  [-30797]: 'engine_corrupt', // MDB_PAGE_NOTFOUND
  [-30796]: 'engine_corrupt', // MDB_CORRUPTED
  [-30794]: 'engine_corrupt', // MDB_VERSION_MISMATCH
  [-30793]: 'engine_corrupt', // MDB_INVALID
  [-30795]: 'engine_io', // MDB_PANIC: an earlier write of the meta page failed
  [-30790]: 'overloaded', // MDB_READERS_FULL
  [EIO]: 'engine_io',
  13: 'engine_io', // EACCES
  30: 'engine_io', // EROFS
}

/**
 * An error of the binding as a KvidxError; whatever else was thrown passes through unchanged. A write that the disk cuts short
 * comes as EIO: with `directory` it is told apart.
 */
export function lmdbError(thrown: unknown, action: string, directory?: string): unknown {
  if (!(thrown instanceof Error) || thrown instanceof KvidxError) return thrown
  const code = 'code' in thrown && typeof thrown.code === 'number' ? thrown.code : undefined
  if (code === undefined) return thrown
  return new KvidxError(
    code === EIO && directory !== undefined && isFull(directory) ? 'no_space' : (CODES[code] ?? 'internal'),
    `LMDB cannot ${action}: ${thrown.message} (${code})`,
    { engineCode: code },
    thrown,
  )
}

/** Runs `body`; errors of the binding come out as KvidxErrors that name `action`. */
export function guarded<T>(action: string, body: () => T): T {
  try {
    return body()
  } catch (thrown) {
    throw lmdbError(thrown, action)
  }
}
