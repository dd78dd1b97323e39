import { spawn } from 'node:child_process'

export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** Standard input. */
  readonly input?: string | Uint8Array
  /** Bound of the whole call, ms; default 60 s. The command is killed then, and the call rejects. */
  readonly timeout?: number
}

/** Runs a command to its end, whatever its exit code. */
export function command(file: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { input, timeout = 60_000 } = options
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${file} ${args.join(' ')}: not within ${timeout / 1000} s; it said: ${Buffer.concat(stderr)}`))
    }, timeout)
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code: code ?? 128, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() })
    })
    child.stdin.on('error', () => {}) // a command may end without reading all of it
    child.stdin.end(input)
  })
}

/** Like `command`; rejects with what it said when the exit code is not 0. Resolves with standard output. */
export async function succeed(file: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await command(file, args, options)
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: exit code ${code}\n${stderr}${stdout}`)
  return stdout
}
