import { formatBytes } from '../common/quantity.ts'
import type { Io } from './io.ts'

/** How far long work has come. */
export interface Progress {
  /** @param total undefined while it is not known */
  show(done: number, total?: number): void
  /** Takes the bar away. */
  end(): void
}

const WIDTH = 28
/** Milliseconds between two pictures. */
const INTERVAL = 100

const NONE: Progress = { show() {}, end() {} }

/** A bar on the terminal, or nothing where nobody looks. */
export function progressBar(io: Io, label: string, unit: 'bytes' | 'share'): Progress {
  if (!io.watched) return NONE
  const began = performance.now()
  let last = Number.NEGATIVE_INFINITY
  let shown = false
  return {
    show(done, total) {
      const now = performance.now()
      if (now - last < INTERVAL) return
      last = now
      shown = true
      io.notes.write(`\r\x1b[2K${picture(label, unit, done, total, now - began)}`)
    },
    end() {
      if (shown) io.notes.write('\r\x1b[2K')
    },
  }
}

/** The bar as text. @param elapsed milliseconds */
export function picture(
  label: string,
  unit: 'bytes' | 'share',
  done: number,
  total: number | undefined,
  elapsed: number,
): string {
  const parts = [label]
  if (total !== undefined && total > 0) {
    const share = Math.min(1, done / total)
    const full = Math.round(share * WIDTH)
    parts.push(`[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}]`, `${Math.floor(share * 100)}%`)
  }
  if (unit === 'bytes') {
    parts.push(formatBytes(done))
    if (elapsed > 500) parts.push(`${formatBytes((done / elapsed) * 1000)}/s`)
  }
  return parts.join(' ')
}

/** Progress of work in several stages: a bar where the end is known, else what was done. */
export function stagedProgress(io: Io): { show(stage: string, done: number, total?: number): void; end(): void } {
  let stage = ''
  let bar: Progress = NONE
  return {
    show(next, done, total) {
      if (next !== stage) {
        bar.end()
        stage = next
        bar = progressBar(io, next, 'share')
      }
      bar.show(done, total)
    },
    end() {
      bar.end()
      stage = ''
    },
  }
}
