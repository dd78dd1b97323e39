import { spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childEnvironment } from '../common/environment.ts'
import type { JobEnd, RunJob } from './context.ts'

/** Between SIGTERM and SIGKILL, ms: less than the pod's own grace, so that there is time to write the record. */
const GRACE = 40_000
const LONGEST_RESULT = 1024 * 1024
const LOG_TAIL = 8192

export interface ChildOptions {
  /** Absolute path of bin/kvidx, or of what stands in for it. */
  readonly program: string
  /** Directory for the file of the result. Default: that of the system. */
  readonly directory?: string
}

/**
 * Runs `kvidx job` in a process of its own, so that what it takes down with it (memory, a native library) leaves somebody to write the record.
 * Its log goes on to ours.
 */
export function childRunner({ program, directory = tmpdir() }: ChildOptions): RunJob {
  return async (args, onLine, signal) => {
    signal.throwIfAborted()
    const resultFile = join(directory, `kvidx-result-${process.pid}.json`)
    await rm(resultFile, { force: true })
    const child = spawn(process.execPath, [program, 'job', ...args, '--result-file', resultFile], {
      env: childEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const lines = new Lines(onLine)
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      lines.take(chunk)
      process.stdout.write(chunk)
    })
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      log = (log + chunk).slice(-LOG_TAIL)
      process.stderr.write(chunk)
    })
    let kill: NodeJS.Timeout | undefined
    const stop = () => {
      child.kill('SIGTERM')
      kill = setTimeout(() => child.kill('SIGKILL'), GRACE)
    }
    signal.addEventListener('abort', stop, { once: true })
    try {
      const [code, killed] = await new Promise<[number | null, string | null]>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', (exitCode, name) => resolve([exitCode, name]))
      })
      const result = (await resultOf(resultFile)) ?? lines.last
      const end: JobEnd = { exitCode: code ?? 128, log: killed === null ? log : `${log}\nended by ${killed}` }
      return result === undefined ? end : { ...end, result }
    } finally {
      signal.removeEventListener('abort', stop)
      clearTimeout(kill)
      await rm(resultFile, { force: true })
    }
  }
}

async function resultOf(file: string): Promise<string | undefined> {
  try {
    const text = (await readFile(file, 'utf8')).trim()
    return text === '' || text.length > LONGEST_RESULT ? undefined : text
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whole lines that can be JSON objects; a line longer than a result can be is dropped. */
class Lines {
  readonly #tell: (line: string) => void
  #rest = ''
  /** The last one. */
  last: string | undefined

  constructor(tell: (line: string) => void) {
    this.#tell = tell
  }

  take(chunk: string): void {
    const parts = (this.#rest + chunk).split('\n')
    this.#rest = (parts.pop() ?? '').slice(-LONGEST_RESULT)
    for (const part of parts) {
      const line = part.trim()
      if (!line.startsWith('{') || line.length > LONGEST_RESULT) continue
      this.last = line
      this.#tell(line)
    }
  }
}
