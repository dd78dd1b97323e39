import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { VolumeLayout } from './layout.ts'
import { NOTE } from './swap.ts'

/** How a damaged database was brought back; lies as note.json beside the damaged files in quarantine, and is gone with them. u64 as decimal strings. */
export interface RecoveryNote {
  readonly action: 'Salvaged' | 'Restored'
  /** RFC 3339 */
  readonly time: string
  /** What was wrong. */
  readonly damage: string
  /** Where the damaged files are, below quarantine/. */
  readonly quarantine: string
  /** Of the damaged database (salvage) or of the store (restore): the last commit that is in what there is now. */
  readonly reached: string
  /** Where the new epoch begins. */
  readonly position: string
  readonly records: string
  readonly dataBytes: string
  readonly digest: string
  /** Nothing that was committed is missing, or, of a restore, no change that the store has. */
  readonly complete: boolean
  /** Salvage: records that were committed and are missing; absent: the counters could not be read, so nobody knows. */
  readonly lost?: string
  /** Files that it came from. */
  readonly sources: readonly string[]
  /** A salvage's own report: ranges, records and pages that were lost or are doubtful. */
  readonly salvage?: Readonly<Record<string, unknown>>
}

/** The newest one whose damaged files are still there. */
export async function lastRecovery(layout: VolumeLayout): Promise<RecoveryNote | undefined> {
  const names = await readdir(layout.quarantine).catch(() => [])
  for (const name of names.sort().reverse()) {
    try {
      const note = JSON.parse(await readFile(join(layout.quarantine, name, NOTE), 'utf8')) as RecoveryNote
      // written before the swap: without the files it did not come to that
      await stat(join(layout.quarantine, name, 'db'))
      return note
    } catch {
      // an entry of another kind
    }
  }
  return undefined
}

/** Of each list of a salvage's report so many are shown in `/status`; the note on the volume has them all. */
const SHOWN = 20

/** The note as `/status` shows it, which is asked for again and again. */
export function shortened(note: RecoveryNote): RecoveryNote {
  const { salvage, ...rest } = note
  const short = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.slice(0, SHOWN)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, short(member)]))
  }
  return salvage ? { ...rest, salvage: short(salvage) as Record<string, unknown> } : rest
}
