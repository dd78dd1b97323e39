import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { failpointSetting } from '../../../src/common/environment.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { workerUrl } from '../../../src/common/worker-url.ts'
import type { Progress } from '../engine.ts'
import { fileSize } from '../files.ts'

const PROGRESS_INTERVAL = 50
const LOCK_PATIENCE_MS = 10_000

/**
 * VACUUM of `file` in a process that can be ended. The caller's own connections stay open and write nothing meanwhile; readers go on where there is a WAL.
 * Errors: cancelled, engine_io with SQLite's words.
 * @param live bytes that the rewritten file will have, for the progress
 * @param directory for SQLite's temporary copy, of that size, too
 */
export function vacuumBeside(file: string, live: number, directory: string, progress: Progress): Promise<void> {
  const script = fileURLToPath(workerUrl('sidecar/engine/sqlite/vacuum.worker'))
  const failpoints = failpointSetting()
  const child = spawn(process.execPath, [script, file, String(LOCK_PATIENCE_MS)], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { SQLITE_TMPDIR: directory, ...(failpoints !== undefined && { KVIDX_FAILPOINTS: failpoints }) },
  })
  let said = ''
  child.stderr.on('data', chunk => {
    said = `${said}${String(chunk)}`.slice(-2000)
  })
  let cancelled = false
  // first a copy beside, of which nothing is seen, then the copy goes into the WAL
  const timer = setInterval(() => {
    if (!progress(Math.min(fileSize(`${file}-wal`), live), live)) return
    cancelled = true
    child.kill('SIGKILL')
  }, PROGRESS_INTERVAL)
  return new Promise<void>((resolve, reject) => {
    child.once('error', error =>
      reject(new KvidxError('engine_io', `the vacuum cannot be started: ${error.message}`, {}, error)),
    )
    child.once('exit', code => {
      if (cancelled) reject(new KvidxError('cancelled', 'the vacuum was cancelled'))
      else if (code === 0) resolve()
      else reject(new KvidxError('engine_io', `SQLite cannot vacuum: ${/SqliteError.*/.exec(said)?.[0] ?? said}`))
    })
  }).finally(() => clearInterval(timer))
}
