import { constants } from 'node:fs'
import { copyFile, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { KvidxError } from '../../../src/common/errors.ts'

/** What belongs to a SQLite database beside its main file. The `-shm` is only an index of the WAL and is made anew. */
const SUFFIXES = ['', '-wal', '-journal'] as const

export const SQLITE_MAGIC = Buffer.from('SQLite format 3\0')

export interface SqliteCopy {
  /** The main file of the copy. */
  readonly path: string
  /** Removes the copy. */
  remove(): Promise<void>
}

/**
 * Copies a database that is not open anywhere, WAL and rollback journal included. Opening the original instead would write beside it even when opened
 * read-only. Reflinks make the copy free where the file system has them. Errors: `conflict` when the files changed meanwhile; `engine_io`.
 */
export async function copySqliteFile(path: string, scratch: string): Promise<SqliteCopy> {
  let directory: string | undefined
  const remove = async () => {
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
  }
  try {
    directory = await mkdtemp(join(scratch, 'sqlite-'))
    const target = join(directory, 'copy.sqlite3')
    const before = await fingerprint(path)
    for (const suffix of SUFFIXES) {
      if (before.has(suffix)) await copyFile(path + suffix, target + suffix, constants.COPYFILE_FICLONE)
    }
    const after = await fingerprint(path)
    for (const suffix of SUFFIXES) {
      if (before.get(suffix) !== after.get(suffix)) {
        throw new KvidxError(
          'conflict',
          `${path}${suffix} changed while it was copied: close the program that has the database open`,
          { path: path + suffix },
        )
      }
    }
    return { path: target, remove }
  } catch (thrown) {
    await remove()
    if (thrown instanceof KvidxError) throw thrown
    throw new KvidxError('engine_io', `the SQLite file ${path} cannot be copied: ${String(thrown)}`, { path }, thrown)
  }
}

/** Whether the file begins as a SQLite database does. Errors: `engine_io` when it cannot be read. */
export async function isSqliteFile(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'r')
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(SQLITE_MAGIC.length), 0, SQLITE_MAGIC.length, 0)
      return bytesRead === SQLITE_MAGIC.length && buffer.equals(SQLITE_MAGIC)
    } finally {
      await file.close()
    }
  } catch (thrown) {
    throw new KvidxError('engine_io', `${path} cannot be read: ${String(thrown)}`, { path }, thrown)
  }
}

async function fingerprint(path: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const suffix of SUFFIXES) {
    try {
      const { size, mtimeNs, ino } = await stat(path + suffix, { bigint: true })
      found.set(suffix, `${ino} ${size} ${mtimeNs}`)
    } catch (thrown) {
      if (suffix === '' || (thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
    }
  }
  return found
}
