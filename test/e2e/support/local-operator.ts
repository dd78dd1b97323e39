import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, type WriteStream, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundle } from '../../../scripts/bundle.ts'
import { e2e } from './environment.ts'
import { RELEASE } from './helm.ts'
import { kubectl, kubectlJson } from './kubectl.ts'

interface Kubeconfig {
  readonly clusters: readonly { readonly cluster: object }[]
}

/**
 * The operator as a process of this machine, with the rights that the chart gives it: it can be killed at any moment and started again at once, which
 * a kubelet would do slower each time. Use it while the chart's own replicas are scaled to zero.
 */
export class LocalOperator {
  readonly #directory: string
  readonly #log: WriteStream
  #child: ChildProcess | undefined

  private constructor(directory: string) {
    this.#directory = directory
    this.#log = createWriteStream(join(directory, 'operator.log'))
  }

  /** Builds it into a directory; it does not run yet. */
  static async prepare(directory: string): Promise<LocalOperator> {
    const { clusters } = await kubectlJson<Kubeconfig>(['config', 'view', '--minify', '--raw'])
    const token = await kubectl(['-n', e2e.operatorNamespace, 'create', 'token', RELEASE, '--duration=2h'])
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ ...clusters[0], name: 'cluster' }],
      users: [{ name: 'operator', user: { token } }],
      contexts: [{ name: 'operator', context: { cluster: 'cluster', user: 'operator' } }],
      'current-context': 'operator',
    }
    writeFileSync(join(directory, 'kubeconfig'), JSON.stringify(kubeconfig), { mode: 0o600 })
    await bundle(join(directory, 'dist'))
    return new LocalOperator(directory)
  }

  /** Where all of its lives write. */
  get logFile(): string {
    return join(this.#directory, 'operator.log')
  }

  start(): void {
    const args = ['operator', '--kubeconfig', join(this.#directory, 'kubeconfig'), '--database-image', e2e.image]
    const listen = ['--metrics-host', '127.0.0.1', '--metrics-port', '0']
    const child = spawn(process.execPath, [join(this.#directory, 'dist/kvidx.js'), ...args, ...listen], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.#log.write(chunk)
      })
    this.#child = child
  }

  /** SIGKILL. Rejects when it had ended by itself. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child) return
    this.#child = undefined
    if (child.exitCode !== null)
      throw new Error(`the operator ended by itself, with ${child.exitCode}: ${this.logFile}`)
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
}
