import { readFile } from 'node:fs/promises'
import { SYNC_MODES, type SyncMode } from '../engine/engine.ts'
import { type VolumeLayout, writeFileDurably } from './layout.ts'

/** How far the runs of a volume could be trusted: with Normal and Off a power loss takes commits that were acknowledged. */
export async function readSyncMode(layout: VolumeLayout): Promise<SyncMode | undefined> {
  const text = await readFile(layout.syncMode, 'utf8').catch(() => '')
  return SYNC_MODES.find(mode => mode === text.trim())
}

/** On the disk before the first write of a run that is not Full; for one that is, only when it was settled what the last one left. */
export async function writeSyncMode(layout: VolumeLayout, mode: SyncMode): Promise<void> {
  if ((await readSyncMode(layout)) !== mode) await writeFileDurably(layout.syncMode, `${mode}\n`)
}
