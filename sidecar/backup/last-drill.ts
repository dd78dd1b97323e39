import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type VolumeLayout, writeFileDurably } from '../volume/layout.ts'

type Result = Readonly<Record<string, unknown>>

/** How the last restore drill ended, kept beside the data: a restart must not take back that one failed. */
export class LastDrill {
  readonly #path: string

  constructor(layout: VolumeLayout) {
    this.#path = join(layout.root, 'drill.json')
  }

  /** Errors: those of the file system. */
  write(lineage: string, result: Result): Promise<void> {
    return writeFileDurably(this.#path, JSON.stringify({ lineage, result }))
  }

  /** Undefined: none, or one of another lineage, as a copy of a volume has. What cannot be read is not missed: the next drill comes. */
  async read(lineage: string): Promise<Result | undefined> {
    try {
      const { lineage: its, result } = JSON.parse(await readFile(this.#path, 'utf8')) as Record<string, unknown>
      const usable = its === lineage && typeof result === 'object' && result !== null && 'phase' in result
      return usable ? { ...result, kind: 'drill' } : undefined
    } catch {
      return undefined
    }
  }
}
