import { volumeSpace } from '../../src/common/volume-space.ts'
import { listQuarantine, pruneQuarantine } from '../restore/quarantine.ts'
import type { VolumeLayout } from '../volume/layout.ts'

/** Member `volume` of `/status`. Bytes; times in Unix ms. */
export interface VolumeStatus {
  readonly size: number
  readonly free: number
  /** What the engine can reuse besides. */
  readonly reusable?: number
  readonly daysUntilFull?: number
  readonly quarantine: { readonly entries: number; readonly bytes: number; readonly oldest?: number }
}

/** The volume as it was last looked at; walking through the quarantine takes time, so `/status` never waits for it. */
export class VolumeWatch {
  readonly #layout: VolumeLayout
  #quarantine: VolumeStatus['quarantine'] = { entries: 0, bytes: 0 }

  constructor(layout: VolumeLayout) {
    this.#layout = layout
  }

  /**
   * Removes what is old (never the newest), and counts what stays. Returns the names that went.
   * @param now Unix ms; undefined while the clock is not trusted: nothing is old then
   */
  async look(keepMs: number, now: number | undefined): Promise<readonly string[]> {
    const gone = now === undefined ? [] : await pruneQuarantine(this.#layout, keepMs, now)
    const entries = await listQuarantine(this.#layout)
    const oldest = entries.at(-1)
    this.#quarantine = {
      entries: entries.length,
      bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0),
      ...(oldest && { oldest: Date.parse(oldest.time) }),
    }
    return gone
  }

  status(more: Pick<VolumeStatus, 'reusable' | 'daysUntilFull'>): VolumeStatus {
    return { ...volumeSpace(this.#layout.root), ...more, quarantine: this.#quarantine }
  }
}
