import type { Readable } from 'node:stream'
import { KvidxError } from '../../../src/common/errors.ts'
import type { Progress } from '../engine.ts'
import { fileSize } from '../files.ts'
import { ended, startBeside } from './beside.ts'

const PROGRESS_INTERVAL = 50
const LOCK_PATIENCE_MS = 10_000

/**
 * VACUUM of `file` in a process that can be ended. The caller's own connections stay open and write nothing meanwhile; readers go on where there is a WAL.
 * Errors: cancelled, engine_io with SQLite's words.
 * @param live bytes that the rewritten file will have, for the progress
 * @param directory for SQLite's temporary copy, of that size, too
 */
export async function vacuumBeside(file: string, live: number, directory: string, progress: Progress): Promise<void> {
  const args = [file, String(LOCK_PATIENCE_MS)]
  const env = { SQLITE_TMPDIR: directory }
  const child = startBeside('sidecar/engine/sqlite/vacuum.worker', args, ['ignore', 'ignore', 'pipe'], env)
  let said = ''
  ;(child.stderr as Readable).on('data', chunk => {
    said = `${said}${String(chunk)}`.slice(-2000)
  })
  // first a copy beside, of which nothing is seen, then the copy goes into the WAL
  const look = () => progress(Math.min(fileSize(`${file}-wal`), live), live)
  const { code, cancelled } = await ended(child, PROGRESS_INTERVAL, look).catch((error: Error) => {
    throw new KvidxError('engine_io', `the vacuum cannot be started: ${error.message}`, {}, error)
  })
  if (cancelled) throw new KvidxError('cancelled', 'the vacuum was cancelled')
  if (code !== 0) throw new KvidxError('engine_io', `SQLite cannot vacuum: ${/SqliteError.*/.exec(said)?.[0] ?? said}`)
}
