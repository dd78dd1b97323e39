import type { Clock, Timer } from '../../src/common/clock.ts'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import type { TaskName, TaskStatus } from '../database/database.ts'
import type { TaskRunner } from '../database/local-database.ts'

/** What a task may use while it runs. */
export interface TaskContext {
  readonly signal: AbortSignal
  readonly parameters: Readonly<Record<string, string>>
  /** It runs because its time has come, not because somebody asked. */
  readonly scheduled: boolean
  /** 0 … 1 */
  progress(part: number): void
}

export interface Task {
  readonly name: TaskName
  /** When it runs next by schedule, Unix ms, asked after each run and when settings change; undefined: only when asked for. */
  next?(now: number): number | undefined
  /** Parameters that a caller may give. */
  readonly parameters: readonly string[]
  run(context: TaskContext): Promise<Record<string, unknown>>
}

interface Run {
  readonly promise: Promise<Record<string, unknown>>
  readonly controller: AbortController
  readonly parameters: Readonly<Record<string, string>>
  /** Who waits for it. With the last of them it is cancelled, unless its time had come anyway. */
  waiting: number
  scheduled: boolean
}

interface Entry {
  readonly task: Task
  running: Run | undefined
  status: TaskStatus
  timer: Timer | undefined
}

/** Told when a task ends; for metrics and the log. */
export type TaskListener = (
  name: TaskName,
  outcome: 'ok' | 'failed' | 'cancelled',
  seconds: number,
  message: string | undefined,
) => void

/** The long tasks: at most one run of each at a time, by schedule or on request, with progress and a way to stop it. */
export class TaskBoard implements TaskRunner {
  readonly #clock: Clock
  readonly #entries = new Map<TaskName, Entry>()
  readonly #listener: TaskListener
  #started = false
  #stopped = false

  constructor(tasks: readonly Task[], clock: Clock, listener: TaskListener) {
    this.#clock = clock
    this.#listener = listener
    for (const task of tasks)
      this.#entries.set(task.name, {
        task,
        running: undefined,
        status: { name: task.name, running: false },
        timer: undefined,
      })
  }

  get statuses(): readonly TaskStatus[] {
    return [...this.#entries.values()].map(entry => entry.status)
  }

  start(): void {
    this.#started = true
    this.reschedule()
  }

  /** The settings changed: asks each task anew when it runs. */
  reschedule(): void {
    if (!this.#started) return
    for (const entry of this.#entries.values()) if (!entry.running) this.#schedule(entry)
  }

  /**
   * Joins a run under way. The signal ends the wait, and the run only with the last who waits for it, and never one by schedule. Errors: unknown_parameter;
   * conflict when the run under way lacks a parameter of this call; cancelled; what the task throws.
   */
  run(
    name: TaskName,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>> {
    const entry = this.#entries.get(name)
    if (!entry || this.#stopped) return Promise.reject(new KvidxError('not_ready', `task ${name} cannot run now`))
    const unknown = Object.keys(parameters).find(parameter => !entry.task.parameters.includes(parameter))
    if (unknown !== undefined)
      return Promise.reject(
        new KvidxError(
          'unknown_parameter',
          `${unknown}: task ${name} does not have it (allowed: ${entry.task.parameters.join(', ') || 'none'})`,
          { field: unknown },
        ),
      )
    if (signal.aborted) return Promise.reject(new KvidxError('cancelled', `task ${name} was cancelled`))
    const running = entry.running ?? this.#begin(entry, parameters, false)
    // they are booleans: one that is not given is false
    const lacking = Object.keys(parameters).find(
      parameter => parameters[parameter] !== (running.parameters[parameter] ?? 'false'),
    )
    if (lacking !== undefined)
      return Promise.reject(
        new KvidxError(
          'conflict',
          `${name} is running without ${lacking}=${parameters[lacking]}: wait for its end, or cancel it`,
          { field: lacking },
        ),
      )
    return wait(running, signal)
  }

  cancel(name: TaskName): boolean {
    const running = this.#entries.get(name)?.running
    running?.controller.abort()
    return running !== undefined
  }

  /** Cancels what runs and waits for it. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const entry of this.#entries.values()) {
      entry.timer?.cancel()
      entry.running?.controller.abort()
    }
    await Promise.allSettled([...this.#entries.values()].map(entry => entry.running?.promise))
  }

  #schedule(entry: Entry): void {
    if (!this.#started || this.#stopped) return
    entry.timer?.cancel()
    const now = this.#clock.now()
    const nextRun = entry.task.next?.(now)
    const { nextRun: _, ...rest } = entry.status
    entry.status = { ...rest, ...(nextRun !== undefined && { nextRun }) }
    if (nextRun === undefined) return
    entry.timer = this.#clock.setTimer(Math.max(0, nextRun - now), () => {
      const run = entry.running ?? this.#begin(entry, {}, true)
      run.scheduled = true
      // its failure stands in the status; the next run comes all the same
      run.promise.catch(() => {})
    })
  }

  #begin(entry: Entry, parameters: Readonly<Record<string, string>>, scheduled: boolean): Run {
    const controller = new AbortController()
    const began = this.#clock.monotonic()
    entry.status = { ...entry.status, running: true, lastRun: this.#clock.now() }
    const end = (outcome: 'ok' | 'failed' | 'cancelled', message?: string) => {
      const lastDurationMs = this.#clock.monotonic() - began
      const { progress: _, lastMessage: __, ...rest } = entry.status
      entry.status = {
        ...rest,
        running: false,
        lastDurationMs,
        lastOutcome: outcome,
        ...(message !== undefined && { lastMessage: message }),
      }
      entry.running = undefined
      this.#listener(entry.task.name, outcome, lastDurationMs / 1000, message)
      this.#schedule(entry)
    }
    const context: TaskContext = {
      signal: controller.signal,
      parameters,
      scheduled,
      progress: part => {
        entry.status = { ...entry.status, progress: Math.min(1, Math.max(0, part)) }
      },
    }
    const promise = entry.task.run(context).then(
      result => {
        end('ok')
        return result
      },
      (error: unknown) => {
        const failure = controller.signal.aborted
          ? new KvidxError('cancelled', `task ${entry.task.name} was cancelled`, {}, error)
          : asKvidxError(error)
        end(failure.code === 'cancelled' ? 'cancelled' : 'failed', failure.message)
        throw failure
      },
    )
    entry.running = { promise, controller, parameters, waiting: 0, scheduled }
    return entry.running
  }
}

function wait(run: Run, signal: AbortSignal): Promise<Record<string, unknown>> {
  run.waiting++
  return new Promise((resolve, reject) => {
    const leave = () => {
      run.waiting--
      // the last one is told how it ended
      if (run.waiting === 0 && !run.scheduled) run.controller.abort()
      else reject(new KvidxError('cancelled', 'the wait was cancelled; the task goes on'))
    }
    signal.addEventListener('abort', leave, { once: true })
    run.promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
