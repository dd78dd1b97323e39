import type { EngineFigures } from '../engine/engine.ts'

export interface Degradation {
  readonly reason: 'LargeWal' | 'Fragmented' | 'SlowDisk'
  readonly message: string
}

export interface Thresholds {
  /** bytes */
  readonly walSize: number
  /** 0 … 1 */
  readonly fragmentation: number
}

/** A write older than this without an answer means that the disk does not keep up, ms. */
const SLOW_WRITE = 5000
/** The reasons that come and go with the figures. */
export const DEGRADATIONS: readonly Degradation['reason'][] = ['LargeWal', 'Fragmented', 'SlowDisk']
/** In a file this small nothing is worth a word about unused pages, bytes. */
const SMALL_FILE = 16 * 1024 * 1024

/** What is wrong by the figures. Pure. @param oldestWrite age of the oldest write without an answer, ms */
export function degradations(
  figures: EngineFigures | undefined,
  thresholds: Thresholds,
  oldestWrite: number,
): readonly Degradation[] {
  const found: Degradation[] = []
  const { walBytes = 0, fragmentation = 0, freeBytes = 0, fileBytes = 0 } = figures ?? {}
  if (walBytes > thresholds.walSize)
    found.push({
      reason: 'LargeWal',
      message: `the write-ahead log has ${mebibytes(walBytes)}, more than ${mebibytes(thresholds.walSize)}`,
    })
  if (fragmentation > thresholds.fragmentation && fileBytes >= SMALL_FILE)
    found.push({
      reason: 'Fragmented',
      message: `${percent(fragmentation)} of the files are unused (${mebibytes(freeBytes)}), more than ${percent(thresholds.fragmentation)}`,
    })
  if (oldestWrite > SLOW_WRITE)
    found.push({
      reason: 'SlowDisk',
      message: `a write has been waiting for the disk for more than ${SLOW_WRITE / 1000} s`,
    })
  return found
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`
}
