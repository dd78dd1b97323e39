import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import { syncDirectory, type VolumeLayout, writeFileDurably } from './layout.ts'

/**
 * A staged database takes the place of the old one, which goes to quarantine. The journal makes it one step: before it is on
 * the disk nothing has happened, afterwards the next start finishes what a crash interrupted.
 */
interface SwapJournal {
  readonly formatVersion: 1
  /** Name below staging/. */
  readonly staged: string
  /** Name below quarantine/. */
  readonly quarantined: string
}

/** Beside a database in quarantine: why it is there. */
export const NOTE = 'note.json'

/** `<time>-<reason>`, so that a listing sorts by age. */
export function quarantineName(now: number, reason: string): string {
  return `${new Date(now).toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')}-${reason}`
}

/** Moves the database to quarantine; an empty directory takes its place. It must be closed. */
export async function putAside(layout: VolumeLayout, reason: string, now: number): Promise<void> {
  const quarantine = join(layout.quarantine, quarantineName(now, reason))
  await mkdir(quarantine, { recursive: true, mode: 0o700 })
  await rename(layout.database, join(quarantine, 'db'))
  await mkdir(layout.database, { mode: 0o700 })
  for (const directory of [quarantine, layout.quarantine, layout.root]) await syncDirectory(directory)
}

/**
 * Puts `staging/<staged>` (complete and fsynced) in the place of `db/`. Both databases must be closed. Returns the quarantine's name.
 * @param note says what goes to quarantine and why, given its name; lies there beside it as `note.json`
 */
export async function swapIn(
  layout: VolumeLayout,
  staged: string,
  reason: string,
  now: number,
  note?: (quarantine: string) => string,
): Promise<string> {
  let quarantined = quarantineName(now, reason)
  for (let n = 2; await exists(join(layout.quarantine, quarantined)); n++)
    quarantined = `${quarantineName(now, reason)}-${n}`
  const journal: SwapJournal = { formatVersion: 1, staged, quarantined }
  failpoint('swap.beforeJournal')
  if (note) {
    const directory = join(layout.quarantine, quarantined)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await writeFileDurably(join(directory, NOTE), note(quarantined))
  }
  await writeFileDurably(layout.swap, JSON.stringify(journal))
  failpoint('swap.afterJournal')
  await roll(layout, journal)
  return quarantined
}

/** A swap began and has not ended: only the next start, or another try, may open the database. */
export function swapPending(layout: VolumeLayout): Promise<boolean> {
  return exists(layout.swap)
}

/** Removes what was staged, unless a swap that is not finished needs it. */
export async function removeStaged(layout: VolumeLayout, staged: string): Promise<void> {
  if (!(await swapPending(layout))) await rm(join(layout.staging, staged), { recursive: true, force: true })
}

/** Finishes a swap that a crash interrupted, and clears what an unfinished staging left. Returns the quarantine's name if there was one. */
export async function finishSwap(layout: VolumeLayout): Promise<string | undefined> {
  let text: string | undefined
  try {
    text = await readFile(layout.swap, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new KvidxError('engine_io', `${layout.swap} cannot be read: ${(error as Error).message}`, {}, error)
    // nothing was under way; a staging without a journal was never part of the database
    for (const name of await readdir(layout.staging))
      await rm(join(layout.staging, name), { recursive: true, force: true })
    return undefined
  }
  let journal: SwapJournal
  try {
    journal = JSON.parse(text) as SwapJournal
  } catch (error) {
    throw new KvidxError('engine_corrupt', `${layout.swap} is not JSON`, {}, error)
  }
  checkJournal(layout, journal)
  await roll(layout, journal)
  return journal.quarantined
}

/** Names become paths: what is not a plain name is not ours. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/

function checkJournal(layout: VolumeLayout, journal: unknown): void {
  const { formatVersion, staged, quarantined } = (journal ?? {}) as Partial<Record<keyof SwapJournal, unknown>>
  const plain = (name: unknown) => typeof name === 'string' && NAME.test(name)
  if (formatVersion !== 1 || !plain(staged) || !plain(quarantined))
    throw new KvidxError(
      'engine_corrupt',
      `${layout.swap} is not a journal of ours; look into staging/ and quarantine/, then remove it`,
    )
}

async function roll(layout: VolumeLayout, journal: SwapJournal): Promise<void> {
  const staged = join(layout.staging, journal.staged)
  const quarantine = join(layout.quarantine, journal.quarantined)
  if (await exists(staged)) {
    if (await exists(layout.database)) {
      await mkdir(quarantine, { recursive: true, mode: 0o700 })
      if (await exists(join(quarantine, 'db'))) {
        // the old one is safe already; what stands in its place is an empty directory made by a start
        await rm(layout.database, { recursive: true, force: true })
      } else {
        failpoint('swap.beforeQuarantine')
        await rename(layout.database, join(quarantine, 'db'))
        failpoint('swap.quarantined')
      }
      await syncDirectory(quarantine)
      await syncDirectory(layout.quarantine)
      await syncDirectory(layout.root)
    }
    failpoint('swap.betweenRenames')
    await rename(staged, layout.database)
    failpoint('swap.renamed')
    await syncDirectory(layout.staging)
    await syncDirectory(layout.root)
    failpoint('swap.afterRenames')
  } else if (!(await exists(layout.database))) {
    throw new KvidxError(
      'engine_corrupt',
      `the swap of ${journal.staged} cannot be finished: neither ${staged} nor ${layout.database} is there; the old database is in ${quarantine}`,
    )
  }
  await rm(layout.swap, { force: true })
  failpoint('swap.forgotten')
  await syncDirectory(layout.root)
  failpoint('swap.done')
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch {
    return false
  }
}
