import { type ChildProcess, type IOType, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { failpointSetting } from '../../../src/common/environment.ts'
import { workerUrl } from '../../../src/common/worker-url.ts'

/** A program of ours in a process of its own: SQLite cannot be asked to stop in the middle of what it does, but a process can be ended. */
export function startBeside(
  program: string,
  args: readonly string[],
  stdio: readonly IOType[],
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  const failpoints = failpointSetting()
  return spawn(process.execPath, [fileURLToPath(workerUrl(program)), ...args], {
    stdio: [...stdio],
    env: { ...env, ...(failpoints !== undefined && { KVIDX_FAILPOINTS: failpoints }) },
  })
}

/**
 * Resolves when the process has ended and all that it said has come: how, and whether that was because `isEnough`, asked every `interval` ms, said so.
 * Rejects when it could not be started.
 */
export function ended(
  child: ChildProcess,
  interval: number,
  isEnough: () => boolean,
): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null; readonly cancelled: boolean }> {
  let cancelled = false
  const timer = setInterval(() => {
    if (!isEnough()) return
    cancelled = true
    child.kill('SIGKILL')
  }, interval)
  return new Promise<Awaited<ReturnType<typeof ended>>>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, cancelled }))
  }).finally(() => clearInterval(timer))
}
