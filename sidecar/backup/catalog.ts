import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import { pipelined } from '../../src/common/pipelined.ts'
import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import { unseal } from './canonical.ts'
import {
  type BackupKind,
  changesPath,
  type DatabaseName,
  databasePath,
  type Home,
  kindPath,
  MANIFEST,
  parseBackupDirectoryName,
  parseEpochsName,
  parseSegmentName,
  type SegmentRange,
  VERIFICATION,
} from './layout.ts'
import {
  checkEpochsDocument,
  epochsOf,
  LARGEST_MANIFEST,
  type Manifest,
  parseManifest,
  positionOf,
} from './manifest.ts'
import { readAll } from './store/body.ts'
import { type BackupStore, listFolders, listObjects, type ObjectInfo } from './store/store.ts'
import { parseVerification, type Verification } from './verification.ts'

/** One backup with a readable manifest. */
export interface Backup {
  readonly kind: BackupKind
  readonly name: string
  /** Name of its directory: unique in its kind. */
  readonly directory: string
  /** Key prefix of its files, ends in `/`. */
  readonly path: string
  /** Start of the backup, Unix ms. */
  readonly time: number
  readonly manifest: Manifest
  readonly verification?: Verification
  readonly position: Position
  /** Time of the last commit in it, Unix ms; 0: the database had none yet. */
  readonly commitTime: bigint
  readonly parent?: { readonly directory: string; readonly position: Position }
  /** All files as stored. */
  readonly storedBytes: number
  /** Restored and compared. */
  readonly verified: boolean
  /** Verified, or complete where no verification was asked for. */
  readonly good: boolean
}

/** One segment of the continuous backup. */
export interface Segment extends SegmentRange {
  readonly key: string
  readonly size: number
  /** Unix ms, by the store's clock */
  readonly modified: number
  readonly encrypted: boolean
}

/** Something that should be readable and is not. It is never deleted by itself. */
export interface Damaged {
  readonly key: string
  readonly error: KvidxError
}

/** Files without a manifest: a backup that is running, or died. */
export interface Unfinished {
  /** Key prefix, ends in `/`. */
  readonly path: string
  readonly keys: readonly string[]
  readonly bytes: number
  /** Of the newest file, Unix ms. */
  readonly modified: number
}

export interface LineageCatalog {
  readonly home: Home
  readonly lineage: string
  /** Both kinds, oldest first. */
  readonly backups: readonly Backup[]
  /** Ascending by epoch and seq. */
  readonly segments: readonly Segment[]
  /** Every epoch that a manifest or the segments' own record tells of, ascending. */
  readonly epochs: readonly EpochRecord[]
  readonly damaged: readonly Damaged[]
  readonly unfinished: readonly Unfinished[]
}

const READS_AT_ONCE = 8

/** All lineages that the store has of a database; empty when it has none. Errors: only the store's own. */
export async function readCatalog(
  store: BackupStore,
  name: DatabaseName,
  signal?: AbortSignal,
): Promise<LineageCatalog[]> {
  const path = databasePath(name)
  const lineages = (await listFolders(store, path, signal)).map(folder => folder.slice(path.length, -1))
  const catalogs: LineageCatalog[] = []
  for (const lineage of lineages) catalogs.push(await readLineage(store, { ...name, lineage }, signal))
  return catalogs
}

/** One lineage; without a trace of it in the store everything is empty. Errors: only the store's own. */
export async function readLineage(store: BackupStore, home: Home, signal?: AbortSignal): Promise<LineageCatalog> {
  const found = new Collected(home)
  for (const kind of ['Full', 'Incremental'] as const) await collectBackups(store, kind, found, signal)
  await collectChanges(store, found, signal)
  return found.catalog()
}

/** One backup, read anew. Errors: backup_not_found, and whatever makes it unreadable. @param directory name of its directory */
export async function readBackup(
  store: BackupStore,
  home: Home,
  kind: BackupKind,
  directory: string,
  signal?: AbortSignal,
): Promise<Backup> {
  const path = `${kindPath(home, kind)}${directory}/`
  const objects: ObjectInfo[] = []
  for await (const object of listObjects(store, path, signal)) objects.push(object)
  const found = new Collected(home)
  await collectBackup(store, kind, directory, objects, found, signal)
  const [backup] = found.backups
  if (backup) return backup
  throw found.damaged[0]?.error ?? new KvidxError('backup_not_found', `${path}${MANIFEST} is not in ${store.location}`)
}

class Collected {
  readonly home: Home
  readonly backups: Backup[] = []
  readonly segments: Segment[] = []
  readonly damaged: Damaged[] = []
  readonly unfinished: Unfinished[] = []
  readonly #epochs = new Map<bigint, EpochRecord>()

  constructor(home: Home) {
    this.home = home
  }

  addEpochs(epochs: readonly EpochRecord[], key: string): void {
    for (const record of epochs) {
      const known = this.#epochs.get(record.epoch)
      if (known && (known.parentEpoch !== record.parentEpoch || known.forkSeq !== record.forkSeq)) {
        const message = `${key} says that epoch ${record.epoch} forked at seq ${record.forkSeq}, another document says ${known.forkSeq}`
        this.damaged.push({ key, error: new KvidxError('history_conflict', message, { epoch: String(record.epoch) }) })
      } else this.#epochs.set(record.epoch, record)
    }
  }

  catalog(): LineageCatalog {
    const ascending = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)
    this.backups.sort((a, b) => a.time - b.time || (a.directory < b.directory ? -1 : 1))
    this.segments.sort(
      (a, b) => ascending(a.epoch, b.epoch) || ascending(a.first, b.first) || ascending(a.last, b.last),
    )
    const epochs = [...this.#epochs.values()].sort((a, b) => ascending(a.epoch, b.epoch))
    const { home, backups, segments, damaged, unfinished } = this
    return { home, lineage: home.lineage, backups, segments, epochs, damaged, unfinished }
  }
}

async function collectBackups(
  store: BackupStore,
  kind: BackupKind,
  found: Collected,
  signal: AbortSignal | undefined,
): Promise<void> {
  const prefix = kindPath(found.home, kind)
  const directories = new Map<string, ObjectInfo[]>()
  for await (const object of listObjects(store, prefix, signal)) {
    const [directory, ...rest] = object.key.slice(prefix.length).split('/')
    if (directory === undefined || rest.length !== 1) continue
    const list = directories.get(directory)
    if (list) list.push(object)
    else directories.set(directory, [object])
  }
  const read = pipelined(generate(directories), READS_AT_ONCE, async ([directory, objects]) => {
    await collectBackup(store, kind, directory, objects, found, signal)
  })
  for await (const _ of read);
}

async function collectBackup(
  store: BackupStore,
  kind: BackupKind,
  directory: string,
  objects: readonly ObjectInfo[],
  found: Collected,
  signal: AbortSignal | undefined,
): Promise<void> {
  const path = `${kindPath(found.home, kind)}${directory}/`
  const key = path + MANIFEST
  if (!objects.some(object => object.key === key)) {
    if (objects.length === 0) return
    const bytes = objects.reduce((sum, object) => sum + object.size, 0)
    const modified = Math.max(...objects.map(object => object.modified))
    found.unfinished.push({ path, keys: objects.map(object => object.key), bytes, modified })
    return
  }
  try {
    const manifest = parseManifest(await readSmall(store, key, signal), key)
    const named = checkPlace(manifest, kind, directory, found.home, key)
    checkFiles(manifest, path, objects)
    const verification = await readVerification(store, path, objects, found, signal)
    found.addEpochs(epochsOf(manifest.epochs), key)
    found.backups.push(backupOf(manifest, verification, path, directory, named.time))
  } catch (thrown) {
    addDamaged(found, key, thrown)
  }
}

/** The first moment that the backup is known to show, Unix ms: a database without commits was empty when the backup began, not since 1970. */
export function since({ commitTime, time }: Backup): bigint {
  return commitTime === 0n ? BigInt(time) : commitTime
}

function backupOf(
  manifest: Manifest,
  verification: Verification | undefined,
  path: string,
  directory: string,
  time: number,
): Backup {
  const verified = verification?.result === 'Verified'
  const { parent } = manifest
  return {
    kind: manifest.kind,
    name: manifest.name,
    directory,
    path,
    time,
    manifest,
    ...(verification && { verification }),
    position: positionOf(manifest.position),
    commitTime: BigInt(manifest.commitTime),
    ...(parent && { parent: { directory: parent.directory, position: positionOf(parent.position) } }),
    storedBytes: manifest.files.reduce((sum, file) => sum + file.size, 0),
    verified,
    good: verified || (!manifest.verify && verification === undefined),
  }
}

/** A sound manifest in a foreign place is a copy that went astray. */
function checkPlace(
  manifest: Manifest,
  kind: BackupKind,
  directory: string,
  home: Home,
  key: string,
): { time: number } {
  const { namespace, database, lineage } = manifest
  if (lineage !== home.lineage || namespace !== home.namespace || database !== home.database)
    throw new KvidxError(
      'foreign_lineage',
      `${key} belongs to ${namespace}/${database}, lineage ${lineage}, and lies under ${home.namespace}/${home.database}, lineage ${home.lineage}`,
      { lineage },
    )
  const named = parseBackupDirectoryName(directory)
  if (!named || manifest.kind !== kind || named.name !== manifest.name)
    throw new KvidxError(
      'backup_corrupt',
      `${key} is the manifest of the ${manifest.kind} '${manifest.name}', which does not fit its directory`,
    )
  return named
}

function checkFiles(manifest: Manifest, path: string, objects: readonly ObjectInfo[]): void {
  for (const file of manifest.files) {
    const object = objects.find(candidate => candidate.key === path + file.name)
    if (!object) throw new KvidxError('backup_corrupt', `${path}${file.name} is missing`, { file: file.name })
    if (object.size !== file.size)
      throw new KvidxError(
        'backup_corrupt',
        `${path}${file.name} has ${object.size} bytes, its manifest says ${file.size}`,
        {
          file: file.name,
        },
      )
  }
}

async function readVerification(
  store: BackupStore,
  path: string,
  objects: readonly ObjectInfo[],
  found: Collected,
  signal: AbortSignal | undefined,
): Promise<Verification | undefined> {
  const key = path + VERIFICATION
  if (!objects.some(object => object.key === key)) return undefined
  try {
    return parseVerification(await readSmall(store, key, signal), key)
  } catch (thrown) {
    // the backup itself may be sound: it counts as not verified
    addDamaged(found, key, thrown)
    return undefined
  }
}

async function collectChanges(store: BackupStore, found: Collected, signal: AbortSignal | undefined): Promise<void> {
  const prefix = changesPath(found.home)
  const histories: string[] = []
  for await (const { key, size, modified } of listObjects(store, prefix, signal)) {
    const name = key.slice(prefix.length)
    const range = parseSegmentName(name)
    if (range) found.segments.push({ ...range, key, size, modified })
    else if (parseEpochsName(name) !== undefined) histories.push(key)
  }
  for (const key of histories) {
    try {
      const value = unseal(await readSmall(store, key, signal), key)
      const document = checkEpochsDocument(value, key)
      if (document.lineage !== found.home.lineage)
        throw new KvidxError('foreign_lineage', `${key} belongs to lineage ${document.lineage}`, {
          lineage: document.lineage,
        })
      found.addEpochs(epochsOf(document.epochs), key)
    } catch (thrown) {
      addDamaged(found, key, thrown)
    }
  }
}

/** Damage is reported and the walk goes on; a store that does not answer ends it, or half a catalog would look like a whole one. */
function addDamaged(found: Collected, key: string, thrown: unknown): void {
  const error = asKvidxError(thrown)
  if (['store_unreachable', 'store_denied', 'cancelled', 'internal'].includes(error.code)) throw thrown
  found.damaged.push({ key, error })
}

async function readSmall(store: BackupStore, key: string, signal: AbortSignal | undefined): Promise<Buffer> {
  const { size, chunks } = await store.get(key, signal && { signal })
  if (size > LARGEST_MANIFEST) {
    for await (const _ of chunks) break
    throw new KvidxError('backup_corrupt', `${key} has ${size} bytes (allowed: ${LARGEST_MANIFEST})`, { key })
  }
  return readAll(chunks, LARGEST_MANIFEST, key)
}

async function* generate<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items
}
