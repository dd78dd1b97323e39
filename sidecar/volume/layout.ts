import { chmod, lstat, mkdir, open, readdir, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { unwritable } from '../../src/common/directory.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'

/** Names below the volume's root: design section 4. Everything in it is ours; the root itself belongs to the kubelet. */
export interface VolumeLayout {
  readonly root: string
  readonly identity: string
  readonly lock: string
  /** `main.db`, `main.lmdb/` or `main.rocks/` */
  readonly database: string
  readonly staging: string
  readonly quarantine: string
  readonly ballast: string
  /** There only between a clean stop and the next start. */
  readonly cleanExit: string
  /** There only while a staged database takes the place of the old one. */
  readonly swap: string
  /** Copy of the epoch history. */
  readonly epochs: string
  /** There only while the files have not been checked since something was wrong. */
  readonly suspicion: string
  /** The sync mode of the last run that may have written. */
  readonly syncMode: string
}

export function volumeLayout(root: string): VolumeLayout {
  return {
    root,
    identity: join(root, 'identity.json'),
    lock: join(root, 'lock'),
    database: join(root, 'db'),
    staging: join(root, 'staging'),
    quarantine: join(root, 'quarantine'),
    ballast: join(root, 'ballast'),
    cleanExit: join(root, 'clean-exit.json'),
    swap: join(root, 'swap.json'),
    epochs: join(root, 'epochs.json'),
    suspicion: join(root, 'suspicion.json'),
    syncMode: join(root, 'sync-mode'),
  }
}

/** What a formatted volume holds before anybody wrote to it. */
const NOT_OURS = new Set(['lost+found'])

function unusable({ root }: VolumeLayout, why: string): KvidxError {
  return new KvidxError('engine_io', `the data volume cannot be used: ${why}`, { path: root })
}

/** True when nothing but `lost+found` is there. Errors: engine_io. */
export async function isNewVolume(layout: VolumeLayout): Promise<boolean> {
  const names = await readdir(layout.root).catch((error: unknown) => {
    throw unusable(layout, unwritable(layout.root) ?? (error as Error).message)
  })
  return names.every(name => NOT_OURS.has(name))
}

/** Creates our directories (0700) and repairs their modes. Errors: engine_io naming the path. */
export async function prepareLayout(layout: VolumeLayout): Promise<void> {
  const hindrance = unwritable(layout.root)
  if (hindrance !== undefined) throw unusable(layout, hindrance)
  for (const path of [layout.database, layout.staging, layout.quarantine]) {
    try {
      await mkdir(path, { recursive: true, mode: 0o700 })
      if (((await stat(path)).mode & 0o777) !== 0o700) await chmod(path, 0o700)
    } catch (error) {
      throw new KvidxError(
        'engine_io',
        `${path} cannot be made or opened: ${(error as Error).message}`,
        { path },
        error,
      )
    }
  }
}

/**
 * Directories 0700, files 0600: the kubelet gives them to a group, an adopted volume has them as somebody copied them. What belongs to another user stays as it
 * is; whether it can be used is for the engine to say.
 */
export async function repairModes(layout: VolumeLayout): Promise<void> {
  const names = Object.values(layout).filter(path => path !== layout.root)
  const below = [layout.database, layout.staging, layout.quarantine].map(async directory =>
    (await readdir(directory, { recursive: true })).map(name => join(directory, name)),
  )
  for (const path of [...names, ...(await Promise.all(below)).flat()]) {
    const found = await lstat(path).catch(() => undefined)
    if (!found || found.uid !== process.getuid?.()) continue
    const wanted = found.isDirectory() ? 0o700 : 0o600
    if ((found.isDirectory() || found.isFile()) && (found.mode & 0o777) !== wanted) await chmod(path, wanted)
  }
}

/** A rename or a new name is safe only when the directory that holds it is on the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Writes a whole small file so that after power loss either the old or the new content is there. */
export async function writeFileDurably(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.new`
  const handle = await open(temporary, 'w', mode)
  try {
    await handle.writeFile(content)
    await handle.sync()
  } finally {
    await handle.close()
  }
  failpoint(`${basename(path)}.written`)
  await rename(temporary, path)
  failpoint(`${basename(path)}.renamed`)
  await syncDirectory(join(path, '..'))
}
