import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tokenOf } from './database.ts'

/** A database as this process reaches it: through `kubectl port-forward`, which is made anew when its pod was replaced. */
export class Direct {
  readonly #namespace: string
  readonly #name: string
  #opened: Promise<Opened> | undefined

  constructor(namespace: string, name: string) {
    this.#namespace = namespace
    this.#name = name
  }

  /** One request with the admin token. Rejects when there is no answer; whether it was carried out is then not known. */
  async request(path: string, init: RequestInit = {}): Promise<Response> {
    this.#opened ??= open(this.#namespace, this.#name)
    const opened = this.#opened
    try {
      const { address, token } = await opened
      const headers = { ...init.headers, authorization: `Bearer ${token}` }
      return await fetch(`${address}${path}`, { signal: AbortSignal.timeout(15_000), ...init, headers })
    } catch (error) {
      if (this.#opened === opened) this.#opened = undefined
      opened.then(({ child }) => child.kill()).catch(() => {})
      throw error
    }
  }

  async json<T>(path: string, init?: RequestInit): Promise<T> {
    const answer = await this.request(path, init)
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`)
    return JSON.parse(text) as T
  }

  async stop(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined)
    this.#opened = undefined
    if (!opened || opened.child.exitCode !== null) return
    const ended = once(opened.child, 'exit')
    opened.child.kill()
    await ended
  }
}

interface Opened {
  readonly address: string
  readonly token: string
  readonly child: ChildProcess
}

async function open(namespace: string, name: string): Promise<Opened> {
  const token = await tokenOf(namespace, name, 'admin')
  const args = ['-n', namespace, 'port-forward', `pod/${name}-0`, '--address=127.0.0.1', ':7400']
  const child = spawn('kubectl', args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  const address = await new Promise<string>((resolve, reject) => {
    const fail = () => reject(new Error(`kubectl ${args.join(' ')}: ${said}`))
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        const port = /Forwarding from 127\.0\.0\.1:(\d+)/.exec(said)?.[1]
        if (port !== undefined) resolve(`http://127.0.0.1:${port}`)
      })
    child.once('exit', fail).once('error', fail)
  })
  return { address, token, child }
}
