import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import type { Clock } from '../common/clock.ts'

/** How a child is started: an executable and its arguments. */
export interface Launch {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Its standard error goes here. */
  readonly logFile: string
  /** Before each start. What it throws is why there is none. */
  readonly prepare?: () => void
}

export interface ChildEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** It could not be started at all. */
  readonly unstarted?: true
  /** What it said last: why it ended, mostly. */
  readonly lastLine?: string
  /** Milliseconds until the next start. */
  readonly restartIn: number
}

const FIRST_DELAY = 500
const LONGEST_DELAY = 30_000
/** A child that lived so long starts at the first delay again. */
const HEALTHY_AFTER = 60_000
/** After this a stop is no longer asked for but done. */
const STOP_TIMEOUT = 45_000
const LOG_LIMIT = 16 * 1024 * 1024

/** Keeps one child running until it is told to stop: restarts with a backoff from 0.5 s to 30 s. */
export class Supervisor {
  readonly #launch: Launch
  readonly #clock: Clock
  readonly #onEnd: (end: ChildEnd) => void
  readonly #stopping = new AbortController()
  #child: ChildProcess | undefined
  #loop: Promise<void> | undefined

  constructor(launch: Launch, clock: Clock, onEnd: (end: ChildEnd) => void) {
    this.#launch = launch
    this.#clock = clock
    this.#onEnd = onEnd
  }

  /** Of the process that runs now. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  /** Asks the child to end, and resolves when it has. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    const child = this.#child
    child?.kill('SIGTERM')
    const timer = this.#clock.setTimer(STOP_TIMEOUT, () => child?.kill('SIGKILL'))
    await this.#loop
    timer.cancel()
  }

  /** Does not wait for anything. */
  kill(): void {
    this.#stopping.abort()
    this.#child?.kill('SIGKILL')
  }

  async #run(): Promise<void> {
    let delay = FIRST_DELAY
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const began = this.#clock.monotonic()
      const end = await this.#once().catch((error: unknown) => ({
        code: null,
        signal: null,
        unstarted: true as const,
        lastLine: (error as Error).message,
      }))
      if (signal.aborted) return
      if (this.#clock.monotonic() - began > HEALTHY_AFTER) delay = FIRST_DELAY
      const lastLine = lastWords(this.#launch.logFile)
      this.#onEnd({ ...(lastLine !== undefined && { lastLine }), ...end, restartIn: delay })
      await this.#clock.sleep(delay, signal).catch(() => {})
      delay = Math.min(delay * 2, LONGEST_DELAY)
    }
  }

  /** Errors: those of the system, when it could not be started. */
  async #once(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    const { command, args, env, logFile, prepare } = this.#launch
    prepare?.()
    const log = openLog(logFile)
    // the IPC channel closes when we die, however we die: that is how the child learns of it. It is a process group of its own, because Ctrl-C
    // would otherwise reach it twice, from the terminal and from us, and a second one means "at once"
    const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', log, 'ipc'], detached: true })
    closeSync(log)
    this.#child = child
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
  }
}

/** The message of the log's last line: its error's where it has one. Undefined when there is none. */
function lastWords(path: string): string | undefined {
  let end: string
  try {
    const log = openSync(path, 'r')
    const { size } = statSync(path)
    const tail = Buffer.alloc(Math.min(size, 16_384))
    readSync(log, tail, 0, tail.length, size - tail.length)
    closeSync(log)
    end = tail.toString().trimEnd()
  } catch {
    return undefined
  }
  const line = end.slice(end.lastIndexOf('\n') + 1)
  try {
    const { err, msg } = JSON.parse(line) as { err?: { message?: string }; msg?: string }
    return err?.message ?? msg
  } catch {
    // what Node or a library wrote itself
    return line === '' ? undefined : line.slice(0, 300)
  }
}

/** Appends; what is above the limit goes to `<file>.1` first. */
function openLog(path: string): number {
  try {
    if (statSync(path).size > LOG_LIMIT) renameSync(path, `${path}.1`)
  } catch {
    // there is none yet
  }
  return openSync(path, 'a', 0o600)
}
