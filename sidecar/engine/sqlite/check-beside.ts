import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { type ErrorCode, KvidxError } from '../../../src/common/errors.ts'
import type { EngineOptions, IntegrityReport, Progress } from '../engine.ts'
import { ended, startBeside } from './beside.ts'

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
  const child = startBeside(
    'sidecar/engine/sqlite/integrity.worker',
    [JSON.stringify(options)],
    ['ignore', 'pipe', 'inherit'],
  )
  let at = { done: 0, total: 1 }
  let last: Exclude<Said, typeof at> | undefined
  createInterface({ input: child.stdout as Readable }).on('line', line => {
    const said = JSON.parse(line) as Said
    if ('done' in said) at = said
    else last = said
  })
  const { code, signal, cancelled } = await ended(child, INTERVAL, () => progress(at.done, at.total))
  if (cancelled) throw new KvidxError('cancelled', 'the integrity check was cancelled')
  if (!last)
    throw new KvidxError('engine_io', `the process that checks the database ended with ${signal ?? `code ${code}`}`)
  if ('code' in last) throw new KvidxError(last.code, last.message)
  return last.report
}
