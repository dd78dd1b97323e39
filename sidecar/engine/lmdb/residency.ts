import { readFileSync, realpathSync } from 'node:fs'
import koffi from 'koffi'

/** Linux. The pages stay in the system's cache; only this process's references to them go. */
const MADV_DONTNEED = 4
/** Bytes read between two releases: a look at the maps costs a fraction of a millisecond. */
const STEP = 16 << 20

/**
 * Keeps what long reads leave behind out of the process's resident memory. LMDB reads through a map of the file, so a scan of everything makes the whole
 * file resident: harmless while there is memory, but it hides what the process itself uses, and a limit of the container counts it. The map is only
 * ever read, and another thread that reads there meanwhile finds the page again in the cache.
 */
export class Residency {
  readonly #file: string
  #since = 0

  constructor(file: string) {
    this.#file = file
  }

  /** Counts what was read. */
  read(bytes: number): void {
    this.#since += bytes
    if (this.#since < STEP) return
    this.#since = 0
    this.release()
  }

  release(): void {
    if (process.platform !== 'linux') return
    const path = realpathSync(this.#file)
    for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
      if (!line.endsWith(path)) continue
      const [start, end] = line.slice(0, line.indexOf(' ')).split('-') as [string, string]
      const address = Number.parseInt(start, 16)
      // advice: if the system does not take it, nothing is lost
      madvise()(address, Number.parseInt(end, 16) - address, MADV_DONTNEED)
    }
  }
}

type Madvise = (address: number, length: number, advice: number) => number
let loaded: Madvise | undefined

function madvise(): Madvise {
  loaded ??= koffi.load(null).func('madvise', 'int', ['uintptr_t', 'size_t', 'int']) as unknown as Madvise
  return loaded
}
