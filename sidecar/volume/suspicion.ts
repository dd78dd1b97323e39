import { readFile, rm } from 'node:fs/promises'
import { syncDirectory, type VolumeLayout, writeFileDurably } from './layout.ts'

/** Why the files must be checked before they are served. It outlives the process: the next one would open them without a word. */
export interface Suspicion {
  /** What the engine's own check found. */
  readonly damage?: string
  /** Starts without a whole check since the last one that was sound: a damaged file may end the process before it can say so. */
  readonly starts: number
}

const NONE: Suspicion = { starts: 0 }
/** After so many starts that did not live to see their check end, the check comes first. */
const MOST_STARTS = 3

export async function readSuspicion(layout: VolumeLayout): Promise<Suspicion> {
  try {
    const { damage, starts } = JSON.parse(await readFile(layout.suspicion, 'utf8')) as Record<string, unknown>
    return { starts: typeof starts === 'number' ? starts : 0, ...(typeof damage === 'string' && { damage }) }
  } catch {
    return NONE
  }
}

export function mustCheckFirst({ damage, starts }: Suspicion): boolean {
  return damage !== undefined || starts >= MOST_STARTS
}

export async function writeSuspicion(layout: VolumeLayout, suspicion: Suspicion): Promise<void> {
  await writeFileDurably(layout.suspicion, `${JSON.stringify(suspicion)}\n`)
}

/** The files are sound, or are not the same ones any more. */
export async function clearSuspicion(layout: VolumeLayout): Promise<void> {
  await rm(layout.suspicion, { force: true })
  await syncDirectory(layout.root)
}
