import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { failpointSetting } from '../../../src/common/environment.ts'
import { type ErrorCode, KvidxError } from '../../../src/common/errors.ts'
import { workerUrl } from '../../../src/common/worker-url.ts'
import type { EngineOptions, IntegrityReport, Progress } from '../engine.ts'

/** A line of the checking process. */
export type Said =
  | { readonly done: number; readonly total: number }
  | { readonly report: IntegrityReport }
  | { readonly code: ErrorCode; readonly message: string }

/** Between two questions whether to go on, ms. */
const INTERVAL = 100

/** SQLite's check in a process that can be ended. Errors: cancelled, and the engine's; engine_io when the process dies. */
export async function checkBeside(options: EngineOptions, progress: Progress): Promise<IntegrityReport> {
  if (progress(0, 1)) throw new KvidxError('cancelled', 'the integrity check was cancelled before it began')
  const script = fileURLToPath(workerUrl('sidecar/engine/sqlite/integrity.worker'))
  const failpoints = failpointSetting()
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...(failpoints !== undefined && { KVIDX_FAILPOINTS: failpoints }) },
  })
  const ended = new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(signal ?? `code ${code}`))
  })
  let at = { done: 0, total: 1 }
  let last: Exclude<Said, typeof at> | undefined
  createInterface({ input: child.stdout }).on('line', line => {
    const said = JSON.parse(line) as Said
    if ('done' in said) at = said
    else last = said
  })
  let cancelled = false
  const timer = setInterval(() => {
    if (!progress(at.done, at.total)) return
    cancelled = true
    child.kill('SIGKILL')
  }, INTERVAL)
  try {
    const end = await ended
    if (cancelled) throw new KvidxError('cancelled', 'the integrity check was cancelled')
    if (!last) throw new KvidxError('engine_io', `the process that checks the database ended with ${end}`)
    if ('code' in last) throw new KvidxError(last.code, last.message)
    return last.report
  } finally {
    clearInterval(timer)
  }
}
