import type { Backup, LineageCatalog } from '../backup/catalog.ts'
import { formatPosition } from '../database/position.ts'

/** One backup of a store, as a line of JSON for whoever keeps records of them. */
export interface CatalogEntry {
  readonly kind: 'entry'
  readonly phase: 'Completed'
  readonly name: string
  readonly type: Backup['kind']
  readonly verify: boolean
  readonly verification: 'Verified' | 'Failed' | 'Skipped' | 'Pending'
  readonly schedule?: string
  readonly lineage: string
  /** epoch.seq */
  readonly position: string
  readonly records: number
  readonly dataBytes: number
  readonly storedBytes: number
  readonly digest: string
  readonly location: string
  /** Directory of the backup that it continues. */
  readonly parent?: string
  readonly engine: string
  readonly version: string
  readonly startedAt: string
  readonly completedAt: string
  readonly verifiedAt?: string
}

/**
 * All backups of all lineages, newest first: of two that have one name, the newer is the one that is meant by it.
 * @param location of the store
 */
export function catalogEntries(catalogs: readonly LineageCatalog[], location: string): readonly CatalogEntry[] {
  return catalogs
    .flatMap(({ backups }) => backups)
    .sort((a, b) => b.time - a.time)
    .map(backup => entryOf(backup, location))
}

/** What a job says of a backup that is in the store. @param location of the store */
export function describeStored({ kind, manifest, parent, position, storedBytes, path }: Backup, location: string) {
  return {
    type: kind,
    lineage: manifest.lineage,
    position: formatPosition(position),
    records: Number(manifest.count),
    dataBytes: Number(manifest.dataBytes),
    storedBytes,
    digest: manifest.digest,
    location: `${location}/${path}`,
    ...(parent && { parent: parent.directory }),
    engine: manifest.engine,
    version: manifest.software,
    startedAt: manifest.startedAt,
    completedAt: manifest.completedAt,
  }
}

function entryOf(backup: Backup, location: string): CatalogEntry {
  const { manifest, verification } = backup
  const unverified = manifest.verify ? 'Pending' : 'Skipped'
  return {
    kind: 'entry',
    phase: 'Completed',
    name: backup.name,
    verify: manifest.verify,
    verification: backup.verified ? 'Verified' : verification?.result === 'Failed' ? 'Failed' : unverified,
    ...(manifest.schedule !== undefined && { schedule: manifest.schedule }),
    ...describeStored(backup, location),
    ...(backup.verified && verification && { verifiedAt: verification.completedAt }),
  }
}
