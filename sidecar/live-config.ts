import type { Logger } from 'pino'
import { type DynamicConfig, parseSidecarConfig, type SidecarConfig } from '../src/api/v1alpha1/sidecar-config.ts'
import type { Clock } from '../src/common/clock.ts'
import { MountedFiles } from './server/mounted-file.ts'
import { readConfigFile } from './settings.ts'

/** How often the file is looked at, ms. The kubelet takes a minute to bring a change of a ConfigMap. */
const INTERVAL = 2000

type Listener = (dynamic: DynamicConfig) => void
type Overlay = (config: SidecarConfig) => SidecarConfig

/** The configuration document of a running process: the dynamic part follows the file, the static part is that of the start. */
export class LiveConfig {
  readonly #path: string
  readonly #overlay: Overlay
  readonly #files: MountedFiles
  readonly #log: Logger
  readonly #listeners = new Set<Listener>()
  #current: SidecarConfig
  #restartNeeded = false

  private constructor(path: string, overlay: Overlay, log: (config: SidecarConfig) => Logger) {
    this.#path = path
    this.#overlay = overlay
    this.#current = overlay(readConfigFile(path))
    this.#log = log(this.#current)
    this.#files = new MountedFiles([path], contents => this.#take(contents.get(path)), this.#log)
  }

  /** @param log made from the first document. Errors: invalid_manifest naming file and field; those of the overlay */
  static open(path: string, overlay: Overlay, log: (config: SidecarConfig) => Logger): LiveConfig {
    return new LiveConfig(path, overlay, log)
  }

  get current(): SidecarConfig {
    return this.#current
  }

  get dynamic(): DynamicConfig {
    return this.#current.dynamic
  }

  /** The static part of the file is no longer what this process was started with. */
  get restartNeeded(): boolean {
    return this.#restartNeeded
  }

  /** Calls back after each change of the dynamic part. Returns how to stop. */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Looks at the file until `stop`. A document that is not valid changes nothing and is logged. */
  async watch(clock: Clock, interval = INTERVAL): Promise<void> {
    // it may have changed since the start read it, and that it can no longer be used is no reason not to start with what it was
    await this.#files.open().catch(() => this.#files.look())
    this.#files.watch(clock, interval)
  }

  stop(): void {
    this.#files.stop()
  }

  #take(content: Buffer | undefined): void {
    // the kubelet swaps a link: for a moment there may be no file
    if (!content) return
    const next = this.#overlay(parseSidecarConfig(content.toString(), this.#path))
    const before = this.#current
    this.#restartNeeded = JSON.stringify(next.static) !== JSON.stringify(before.static)
    if (this.#restartNeeded)
      this.#log.warn('the static part of the configuration changed: it holds from the next start')
    if (JSON.stringify(next.dynamic) === JSON.stringify(before.dynamic)) return
    this.#current = { ...before, dynamic: next.dynamic }
    this.#log.info('the configuration changed')
    for (const listener of this.#listeners) listener(next.dynamic)
  }
}
