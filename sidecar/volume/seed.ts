import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { Identity } from './identity.ts'
import { syncDirectory, type VolumeLayout, writeFileDurably } from './layout.ts'

/** Fills a new directory with a database, durably. Returns where the data came from, for identity.json. */
export type Seed = (directory: string, signal: AbortSignal) => Promise<Readonly<Record<string, unknown>>>

/**
 * The first data of a new volume. It is built in staging; one rename makes it the database, and with it comes the identity that is to be: a start that finds it
 * finishes, one that does not begins anew. Until then there is nothing, afterwards everything. Errors: volume_not_empty, and the seed's.
 */
export async function seedVolume(
  layout: VolumeLayout,
  identity: Identity,
  seed: Seed,
  signal: AbortSignal,
): Promise<Identity> {
  const finished = await readSeeded(layout)
  if (finished) {
    // another bootstrap was asked for meanwhile: what is there came from somewhere else
    if (finished.bootstrappedFrom === identity.bootstrappedFrom) return finished
    await rm(layout.database, { recursive: true, force: true })
    await mkdir(layout.database, { mode: 0o700 })
  }
  if ((await readdir(layout.database)).length > 0)
    throw new KvidxError(
      'volume_not_empty',
      `bootstrap would fill ${layout.database}, which holds data that no identity.json names; remove spec.bootstrap to adopt it`,
      { field: 'bootstrap' },
    )
  const staged = join(layout.staging, 'bootstrap')
  await rm(staged, { recursive: true, force: true })
  await mkdir(staged, { mode: 0o700 })
  const origin = await seed(staged, signal)
  failpoint('bootstrap.staged')
  const complete: Identity = { ...identity, origin }
  await writeFileDurably(join(staged, SEEDED), `${JSON.stringify(complete, undefined, 2)}\n`)
  await syncDirectory(staged)
  failpoint('bootstrap.beforeRename')
  // an empty directory gives way to a rename
  await rename(staged, layout.database)
  failpoint('bootstrap.renamed')
  await syncDirectory(layout.staging)
  await syncDirectory(layout.root)
  failpoint('bootstrap.afterRename')
  return complete
}

const SEEDED = 'identity.json'

/** Once the volume's own identity.json is on the disk, the copy has done its work. */
export async function forgetSeeded(layout: VolumeLayout): Promise<void> {
  failpoint('bootstrap.afterIdentity')
  await rm(join(layout.database, SEEDED), { force: true })
  failpoint('bootstrap.forgotten')
}

async function readSeeded(layout: VolumeLayout): Promise<Identity | undefined> {
  try {
    return JSON.parse(await readFile(join(layout.database, SEEDED), 'utf8')) as Identity
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new KvidxError('engine_corrupt', `${layout.database}/${SEEDED} cannot be read`, {}, error)
  }
}
