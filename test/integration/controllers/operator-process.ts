import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ENTRY = fileURLToPath(new URL('./operator-entry.ts', import.meta.url))

export interface OperatorProcessOptions {
  readonly kubeconfig: string
  readonly namespaces: readonly string[]
  /** Namespace of the lease; without it the process works without one. */
  readonly leaseNamespace?: string
  readonly image?: string | undefined
  /** Where its log goes; default: nowhere. */
  readonly log?: string
  readonly workers?: number
}

/** `kvidx operator` as a process of its own, which can be killed. */
export class OperatorProcess {
  readonly child: ChildProcess
  /** `http://127.0.0.1:port` */
  readonly address: string

  private constructor(child: ChildProcess, address: string) {
    this.child = child
    this.address = address
  }

  /** Resolves once its server listens; rejects when it ends before. */
  static async start(options: OperatorProcessOptions): Promise<OperatorProcess> {
    const child = spawn(process.execPath, [ENTRY, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    const log = options.log === undefined ? undefined : createWriteStream(options.log, { flags: 'a' })
    let tail = ''
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        log?.write(chunk)
        tail = `${tail}${chunk.toString()}`.slice(-4000)
      })
    const address = await new Promise<string>((resolve, reject) => {
      child.once('message', message => resolve(String(message)))
      child.once('exit', code => reject(new Error(`the operator ended with ${code}: ${tail}`)))
    })
    return new OperatorProcess(child, address)
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    this.child.kill('SIGKILL')
    await once(this.child, 'exit')
  }

  /** SIGTERM, and its end. */
  async stop(): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    this.child.kill('SIGTERM')
    const [code] = (await once(this.child, 'exit')) as [number | null]
    return code
  }

  async metrics(): Promise<string> {
    return (await fetch(`${this.address}/metrics`)).text()
  }

  async leading(): Promise<boolean> {
    const status = (await (await fetch(`${this.address}/status`)).json()) as { leading: boolean }
    return status.leading
  }
}
