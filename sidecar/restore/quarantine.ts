import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { KvidxError } from '../../src/common/errors.ts'
import { syncDirectory, type VolumeLayout } from '../volume/layout.ts'

/** What was put out of the way and may be needed again. */
export interface QuarantineEntry {
  readonly name: string
  /** Why it is there: restored, import, undo, … */
  readonly reason: string
  /** When it was put there, RFC 3339. */
  readonly time: string
  readonly bytes: number
}

/** A number tells those of one second apart: it is no part of the reason. */
const NAME = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([A-Za-z-]+?)(?:-\d+)?$/

/** Newest first; what does not have a name of ours is left out. */
export async function listQuarantine(layout: VolumeLayout): Promise<QuarantineEntry[]> {
  const names = await readdir(layout.quarantine).catch(() => [])
  const entries: (QuarantineEntry & { readonly moved: number })[] = []
  for (const name of names) {
    const match = NAME.exec(name)
    if (!match) continue
    const [, year, month, day, hour, minute, second, reason = ''] = match
    const bytes = await treeSize(join(layout.quarantine, name))
    // when the database was moved into it: the order of those of one second
    const moved = (await stat(join(layout.quarantine, name)).catch(() => ({ mtimeMs: 0 }))).mtimeMs
    entries.push({ name, reason, time: `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`, bytes, moved })
  }
  entries.sort((a, b) => (a.time === b.time ? b.moved - a.moved : a.time < b.time ? 1 : -1))
  return entries.map(({ moved: _, ...entry }) => entry)
}

/** Removes one entry for good. Errors: not_found naming what there is. */
export async function removeQuarantined(layout: VolumeLayout, name: string): Promise<void> {
  const entries = await listQuarantine(layout)
  if (!entries.some(entry => entry.name === name))
    throw new KvidxError(
      'not_found',
      `there is no '${name}' in quarantine (there are: ${entries.map(entry => entry.name).join(', ') || 'none'})`,
      { name },
    )
  await rm(join(layout.quarantine, name), { recursive: true, force: true })
  await syncDirectory(layout.quarantine)
}

/** Removes what is older than `keepMs`, but never the newest. Returns the names. @param now Unix ms */
export async function pruneQuarantine(layout: VolumeLayout, keepMs: number, now: number): Promise<string[]> {
  const [, ...older] = await listQuarantine(layout)
  const gone = older.filter(entry => now - Date.parse(entry.time) > keepMs).map(entry => entry.name)
  for (const name of gone) await rm(join(layout.quarantine, name), { recursive: true, force: true })
  return gone
}

/** Bytes of all files below; what vanishes meanwhile counts as nothing. */
export async function treeSize(directory: string): Promise<number> {
  let bytes = 0
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => [])
  for (const entry of entries)
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size
  return bytes
}
