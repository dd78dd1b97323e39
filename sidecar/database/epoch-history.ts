import { readFile, rm } from 'node:fs/promises'
import { type VolumeLayout, writeFileDurably } from '../volume/layout.ts'
import type { EpochRecord } from './database.ts'
import { decodeEpochs, encodeEpochs } from './state.ts'

/**
 * A copy of the epoch history outside of the engine's files: a position must never be given out twice, also not by a database that is rebuilt after
 * these files were damaged. The engine's own history is the one that counts.
 */
export async function rememberEpochs(layout: VolumeLayout, epochs: readonly EpochRecord[]): Promise<void> {
  const text = encodeEpochs(epochs).toString()
  if ((await readFile(layout.epochs, 'utf8').catch(() => '')) !== text) await writeFileDurably(layout.epochs, text)
}

/** What is remembered; nothing where there is no copy, or one that cannot be read. */
export async function rememberedEpochs(layout: VolumeLayout): Promise<readonly EpochRecord[]> {
  try {
    return decodeEpochs(await readFile(layout.epochs))
  } catch {
    return []
  }
}

/** All records of several accounts of one history, in order. Earlier accounts win. */
export function mergeEpochs(...accounts: ReadonlyArray<readonly EpochRecord[]>): EpochRecord[] {
  const known = new Map<bigint, EpochRecord>()
  for (const record of accounts.flat()) if (!known.has(record.epoch)) known.set(record.epoch, record)
  return [...known.values()].sort((a, b) => (a.epoch < b.epoch ? -1 : 1))
}

export async function forgetEpochs(layout: VolumeLayout): Promise<void> {
  await rm(layout.epochs, { force: true })
}
