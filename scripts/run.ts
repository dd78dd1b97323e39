import { spawn } from 'node:child_process'

export interface RunResult {
  readonly code: number
  /** Standard output, when `capture` was asked for. */
  readonly stdout: string
}

export interface RunOptions {
  /** Stands before each line of output, so that commands running side by side can be told apart. */
  readonly label?: string
  /** Collects standard output instead of showing it. */
  readonly capture?: boolean
  /** Shows nothing at all. */
  readonly quiet?: boolean
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/** Runs a command to its end. Never rejects: a command that does not start has the exit code 127 and says why. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { label, capture, quiet, env = process.env, cwd } = options
  const piped = label !== undefined
  const other = quiet ? 'ignore' : 'inherit'
  return new Promise(resolve => {
    const child = spawn(command, args, {
      env,
      ...(cwd === undefined ? {} : { cwd }),
      stdio: ['ignore', piped || capture ? 'pipe' : other, piped ? 'pipe' : other],
    })
    let stdout = ''
    const show = (stream: NodeJS.ReadableStream | null): void => {
      let rest = ''
      stream?.setEncoding('utf8')
      stream?.on('data', (text: string) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) process.stdout.write(`${label}: ${line}\n`)
      })
      stream?.on('end', () => rest && process.stdout.write(`${label}: ${rest}\n`))
    }
    if (capture) {
      child.stdout?.setEncoding('utf8')
      child.stdout?.on('data', (text: string) => {
        stdout += text
      })
    } else if (piped) show(child.stdout)
    if (piped) show(child.stderr)
    child.on('error', error => {
      process.stderr.write(`${command}: ${error.message}\n`)
      resolve({ code: 127, stdout })
    })
    child.on('close', (code, signal) => resolve({ code: code ?? (signal ? 128 : 1), stdout }))
  })
}

/** Like `run`, and throws when the exit code is not 0. */
export async function must(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout } = await run(command, args, options)
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${code}`)
  return stdout
}
