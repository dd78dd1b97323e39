import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { volumeSpace } from '../../src/common/volume-space.ts'
import type { VolumeLayout } from '../volume/layout.ts'
import { writeFileDurably } from '../volume/layout.ts'
import { daysUntilFull, type GrowthSample, withSample } from './forecast.ts'

/** Between two samples, ms. */
const INTERVAL = 600_000

/** Samples of the volume's use, kept beside the data so that a restart does not begin anew. */
export class Growth {
  readonly #layout: VolumeLayout
  #samples: readonly GrowthSample[] | undefined
  days: number | undefined

  constructor(layout: VolumeLayout) {
    this.#layout = layout
  }

  /** Takes a sample when one is due. @param now Unix ms */
  async look(reusable: number, now: number): Promise<void> {
    this.#samples ??= await this.#read()
    const last = this.#samples.at(-1)
    const { size, free } = volumeSpace(this.#layout.root)
    const room = free + reusable
    if (!last || now - last.time >= INTERVAL || now < last.time) {
      this.#samples = withSample(this.#samples, { time: now, used: size - room })
      await writeFileDurably(this.#path, JSON.stringify(this.#samples))
    }
    this.days = daysUntilFull(this.#samples, room)
  }

  get #path(): string {
    return join(this.#layout.root, 'growth.json')
  }

  /** What cannot be read is not missed. */
  async #read(): Promise<GrowthSample[]> {
    try {
      const found: unknown = JSON.parse(await readFile(this.#path, 'utf8'))
      if (!Array.isArray(found)) return []
      return (found as GrowthSample[]).filter(sample => Number.isFinite(sample?.time) && Number.isFinite(sample.used))
    } catch {
      return []
    }
  }
}
