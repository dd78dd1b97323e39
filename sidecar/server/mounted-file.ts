import { readFile, stat } from 'node:fs/promises'
import type { Clock } from '../../src/common/clock.ts'
import type { Log } from './log.ts'

/**
 * Looks at files that may be replaced while we run: a Secret's volume (the kubelet swaps a symlink, so watching the file itself
 * would follow the old one) or a certificate that a tool renews. Looking is a stat for each file.
 */
export class MountedFiles {
  readonly #paths: readonly string[]
  readonly #load: (contents: ReadonlyMap<string, Buffer>) => void
  readonly #log: Log
  /** What was looked at when the content in force was read. */
  #seen = ''
  /** Why what is there now is not in force: said once. */
  #trouble = ''
  #stopped: (() => void) | undefined

  /** @param load takes the contents by path, absent files left out; if it throws, what it had stays in force */
  constructor(paths: readonly string[], load: (contents: ReadonlyMap<string, Buffer>) => void, log: Log) {
    this.#paths = paths
    this.#load = load
    this.#log = log
  }

  /** Reads for the first time. Errors: whatever `load` throws. */
  async open(): Promise<void> {
    const found = await this.#fingerprint()
    this.#load(await this.#read())
    // only now: what could not be read or used is looked at again
    this.#seen = found
  }

  /** Looks every `interval` milliseconds until stop. @param looked called after each look */
  watch(clock: Clock, interval: number, looked = () => {}): void {
    const stopping = new AbortController()
    this.#stopped = () => stopping.abort()
    const loop = async (): Promise<void> => {
      while (!stopping.signal.aborted) {
        await clock.sleep(interval, stopping.signal)
        await this.look()
        looked()
      }
    }
    loop().catch((error: unknown) => {
      if (!stopping.signal.aborted) this.#log.error({ err: error }, 'mounted files are no longer looked at')
    })
  }

  /** Reads again if something changed. Never rejects: what cannot be read or used is logged once. */
  async look(): Promise<void> {
    try {
      const now = await this.#fingerprint()
      if (now === this.#seen) return
      this.#load(await this.#read())
      this.#seen = now
      this.#trouble = ''
      this.#log.info({ files: this.#paths }, 'mounted files were read again')
    } catch (error) {
      // again at the next look: what keeps a file from being read (rights, a disk) leaves no trace in it when it goes away
      const trouble = String(error)
      if (trouble === this.#trouble) return
      this.#trouble = trouble
      this.#log.error(
        { err: error, files: this.#paths },
        'mounted files changed but cannot be used; the old content stays',
      )
    }
  }

  stop(): void {
    this.#stopped?.()
  }

  async #fingerprint(): Promise<string> {
    const parts = await Promise.all(
      this.#paths.map(path =>
        stat(path, { bigint: true }).then(
          found => `${found.ino}:${found.size}:${found.mtimeNs}`,
          (error: NodeJS.ErrnoException) => error.code ?? 'unreadable',
        ),
      ),
    )
    return parts.join(' ')
  }

  async #read(): Promise<Map<string, Buffer>> {
    const contents = new Map<string, Buffer>()
    for (const path of this.#paths) {
      try {
        contents.set(path, await readFile(path))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      }
    }
    return contents
  }
}
