import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Cron } from 'croner'
import type { DynamicConfig } from '../api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../common/clock.ts'
import { childEnvironment } from '../common/environment.ts'
import { formatBytes } from '../common/quantity.ts'
import { replaceFile } from './replace-file.ts'

type BackupConfig = NonNullable<DynamicConfig['backup']>
type Schedule = BackupConfig['schedules'][number]

/** When a schedule was last due, and how that ended. Unix ms. */
export interface ScheduleMemory {
  readonly slot: number
  /** Absent: nothing ran; the schedule counts from here on. */
  readonly succeeded?: boolean
}

export interface SchedulesOptions {
  readonly backup: BackupConfig
  /** Flags for `kvidx job`: --config, --server, --token-file. */
  readonly flags: readonly string[]
  /** Path of bin/kvidx. */
  readonly launcher: string
  /** `http://host:port` of the operations API. */
  readonly opsAddress: string
  readonly scratch: string
  /** What is remembered between runs of this program. */
  readonly memoryFile: string
  readonly clock: Clock
  readonly print: (line: string) => void
}

/** Looked at so often, ms: a laptop that slept notices within this time. */
const TICK = 1000
/** Remembered beside the schedules, under what is no name of one. */
const DRILL = '(drill)'
/** A run that failed is repeated after so long, then after twice that, and so on, ms. */
const FIRST_RETRY = 60_000
const LONGEST_RETRY = 30 * 60_000
/** A slot that is further ahead of the clock was remembered under a wrong one, ms. */
const AHEAD = 60_000

/**
 * The newest slot of a schedule that is due at `now` and not done yet; undefined: none. A slot older than the deadline is given up. Pure.
 * @param after slots up to here are done, Unix ms
 */
export function dueSlot(
  pattern: string,
  timeZone: string,
  after: number,
  now: number,
  deadline: number,
): number | undefined {
  const cron = new Cron(pattern, { timezone: timeZone, paused: true })
  // the newest one that has passed: several that were missed are made up for once
  const slot = cron.previousRuns(1, new Date(now + 1))[0]?.getTime()
  return slot !== undefined && slot > after && slot <= now && now - slot <= deadline ? slot : undefined
}

/** The backup schedules of one database of `kvidx run`: the same jobs as on Kubernetes, one at a time. */
export class BackupSchedules {
  readonly #options: SchedulesOptions
  readonly #stopping = new AbortController()
  #memory: Record<string, ScheduleMemory>
  /** Of runs that failed: when, by the monotonic clock, they are repeated. */
  readonly #retries = new Map<string, { readonly slot: number; readonly at: number; readonly delay: number }>()
  #complaint = ''
  #loop: Promise<void> | undefined

  constructor(options: SchedulesOptions) {
    this.#options = options
    this.#memory = readMemory(options.memoryFile)
  }

  start(): void {
    this.#loop ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { backup, clock, print } = this.#options
    const { signal } = this.#stopping
    for (const schedule of backup.schedules)
      if (schedule.type === 'VolumeSnapshot')
        print(`schedule ${schedule.name}: a VolumeSnapshot needs Kubernetes; it is left out here`)
    while (!signal.aborted) {
      if (!backup.suspend && (await this.#ready())) {
        for (const schedule of backup.schedules) {
          const slot = this.#due(schedule)
          if (slot !== undefined && !signal.aborted) await this.#backup(schedule, slot)
        }
        await this.#drill()
      }
      await clock.sleep(TICK, signal).catch(() => {})
    }
  }

  #due(schedule: Schedule): number | undefined {
    const { backup, clock } = this.#options
    if (schedule.suspend || schedule.type === 'VolumeSnapshot') return undefined
    const now = clock.now()
    const done = this.#done(schedule.name, now)
    // changes that are shipped are worth nothing without a Full to replay them on
    const first = backup.continuous.enabled && schedule === this.#firstFull()
    if (!done || (first && done.succeeded === undefined)) {
      if (first) return now
      this.#remember(schedule.name, { slot: now })
      return undefined
    }
    const slot = dueSlot(schedule.schedule, backup.timeZone, done.slot, now, schedule.startingDeadline)
    if (slot !== undefined || done.succeeded !== false) return slot
    // the same slot is the same name: what an attempt has stored is taken by the next one
    if (!first && now - done.slot > schedule.startingDeadline) return undefined
    return clock.monotonic() >= (this.#retries.get(schedule.name)?.at ?? 0) ? done.slot : undefined
  }

  /** The schedule that makes the first Full, as long as none has succeeded. */
  #firstFull(): Schedule | undefined {
    const fulls = this.#options.backup.schedules.filter(({ type, suspend }) => type === 'Full' && !suspend)
    return fulls.some(({ name }) => this.#memory[name]?.succeeded) ? undefined : fulls[0]
  }

  /** What is remembered. After a clock that was ahead was put right, nothing would be due until it is there again. */
  #done(name: string, now: number): ScheduleMemory | undefined {
    const done = this.#memory[name]
    if (!done || done.slot <= now + AHEAD) return done
    this.#options.print(
      `schedule ${name}: it ran for ${new Date(done.slot).toISOString()}, which is still to come; it counts from now on`,
    )
    const corrected = { ...done, slot: now }
    this.#remember(name, corrected)
    return corrected
  }

  async #backup(schedule: Schedule, slot: number): Promise<void> {
    const { print } = this.#options
    const began = this.#options.clock.monotonic()
    const args = ['backup', '--schedule', schedule.name, '--slot', new Date(slot).toISOString()]
    const result = await this.#job(args, schedule.timeout)
    const seconds = ((this.#options.clock.monotonic() - began) / 1000).toFixed(1)
    const succeeded = result.phase === 'Completed'
    if (this.#stopping.signal.aborted) return
    this.#remember(schedule.name, { slot, succeeded })
    if (!succeeded) {
      this.#retryLater(schedule.name, slot, result.code)
      print(`backup ${schedule.name} failed: ${result.error ?? 'the job gave no result'}`)
      return
    }
    this.#retries.delete(schedule.name)
    const what = `${result.type} at ${result.position}, ${result.records} records, ${formatBytes(Number(result.storedBytes))}${result.slices === undefined ? '' : `, read in ${result.slices} key slices`}`
    const why = result.fallback === undefined ? '' : ` (instead of an increment: ${result.fallback})`
    print(`backup ${result.name}: ${what}, ${String(result.verification).toLowerCase()}, ${seconds} s${why}`)
    if (schedule.type === 'Full') {
      const pruned = await this.#job(['prune'], schedule.timeout)
      if (pruned.phase !== 'Completed' && !this.#stopping.signal.aborted)
        print(`prune failed: ${pruned.error ?? 'the job gave no result'}`)
      const removed = Array.isArray(pruned.removed) ? pruned.removed : []
      if (removed.length > 0) print(`prune: ${removed.length} backups removed`)
    }
  }

  #retryLater(name: string, slot: number, code: unknown): void {
    const before = this.#retries.get(name)
    // what is stored and does not hold is what the next attempt would take
    const first = code === 'backup_corrupt' ? Number.POSITIVE_INFINITY : FIRST_RETRY
    const delay = before?.slot === slot ? Math.min(before.delay * 2, LONGEST_RETRY) : first
    this.#retries.set(name, { slot, at: this.#options.clock.monotonic() + delay, delay })
  }

  async #drill(): Promise<void> {
    const { backup, clock, print } = this.#options
    const { drill, timeZone } = backup
    if (!drill || drill.suspend || this.#stopping.signal.aborted) return
    const done = this.#done(DRILL, clock.now())
    const slot = done && dueSlot(drill.schedule, timeZone, done.slot, clock.now(), 3_600_000)
    if (!done) this.#remember(DRILL, { slot: clock.now() })
    if (slot === undefined) return
    const result = await this.#job(['drill'], 3_600_000)
    this.#remember(DRILL, { slot, succeeded: result.phase === 'Completed' })
    print(
      result.phase === 'Completed'
        ? `drill: restored ${result.time} (${result.records} records) in ${Number(result.rtoMs) / 1000} s`
        : `drill failed: ${result.error ?? 'the job gave no result'}`,
    )
  }

  async #ready(): Promise<boolean> {
    try {
      return (await fetch(`${this.#options.opsAddress}/ready`, { signal: AbortSignal.timeout(2000) })).ok
    } catch {
      return false
    }
  }

  /** Runs `kvidx job …` and gives its last result line. Never rejects. */
  #job(args: readonly string[], timeout: number): Promise<Record<string, unknown>> {
    const { launcher, flags, scratch, clock } = this.#options
    const { signal } = this.#stopping
    const child = spawn(process.execPath, [launcher, 'job', ...args, ...flags, '--scratch', scratch], {
      env: childEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let log = ''
    child.stdout.on('data', chunk => {
      out = (out + String(chunk)).slice(-1_000_000)
    })
    child.stderr.on('data', chunk => {
      log = (log + String(chunk)).slice(-10_000)
    })
    const end = () => child.kill('SIGTERM')
    const timer = clock.setTimer(timeout, end)
    signal.addEventListener('abort', end, { once: true })
    return new Promise(resolve => {
      const settle = () => {
        timer.cancel()
        signal.removeEventListener('abort', end)
        resolve(lastResult(out) ?? { phase: 'Failed', error: log.trim().split('\n').at(-1) || 'the job could not run' })
      }
      child.once('error', settle)
      child.once('close', settle)
    })
  }

  #remember(name: string, memory: ScheduleMemory): void {
    this.#memory = { ...this.#memory, [name]: memory }
    const { memoryFile, print } = this.#options
    try {
      replaceFile(memoryFile, `${JSON.stringify(this.#memory)}\n`)
      this.#complaint = ''
    } catch (error) {
      // a full disk, say: it is known until the end of this program
      const { message } = error as Error
      if (message !== this.#complaint) print(`what its schedules did cannot be remembered: ${message}`)
      this.#complaint = message
    }
  }
}

function lastResult(out: string): Record<string, unknown> | undefined {
  for (const line of out.trim().split('\n').reverse()) {
    try {
      const value = JSON.parse(line) as Record<string, unknown>
      if (typeof value.phase === 'string') return value
    } catch {
      // not a result line
    }
  }
  return undefined
}

function readMemory(path: string): Record<string, ScheduleMemory> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, ScheduleMemory>
  } catch {
    return {}
  }
}

/** Where the schedules of a database remember what they did. */
export function scheduleMemory(directory: string): string {
  return join(directory, 'schedules.json')
}
