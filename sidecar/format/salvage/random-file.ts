import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { KvidxError } from '../../../src/common/errors.ts'

/** A file of which parts may be unreadable. */
export class RandomFile {
  readonly size: number
  readonly #descriptor: number

  /** Errors: `engine_io` when it cannot be opened. */
  constructor(path: string) {
    try {
      this.#descriptor = openSync(path, 'r')
      this.size = fstatSync(this.#descriptor).size
    } catch (thrown) {
      throw new KvidxError('engine_io', `${path} cannot be opened: ${String(thrown)}`, { path }, thrown)
    }
  }

  /** Exactly `length` bytes; undefined when the file ends before or the disk cannot read them. */
  read(offset: number, length: number): Buffer | undefined {
    if (offset + length > this.size) return undefined
    const bytes = Buffer.allocUnsafe(length)
    try {
      let have = 0
      while (have < length) {
        const count = readSync(this.#descriptor, bytes, have, length - have, offset + have)
        if (count === 0) return undefined
        have += count
      }
      return bytes
    } catch {
      // a bad sector is what salvage is for; the page counts as damaged
      return undefined
    }
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}
