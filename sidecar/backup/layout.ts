import { KvidxError } from '../../src/common/errors.ts'

/** Names and paths in a backup store: docs/formats.md, section 7. Keys are relative to the store's prefix. */

export const MANIFEST = 'manifest.json'
export const VERIFICATION = 'verification.json'
/** Names of files before `.enc`. */
export const RECORDS = 'records.kvidx.zst'
export const EXPIRIES = 'expiries.bin.zst'
export const CHANGES = 'changes.kvc.zst'
export const ENCRYPTED_SUFFIX = '.enc'
/** In `changes/`, beside the segments of its epoch. */
const EPOCH_SUFFIX = 'epochs.json'

/** `namespace/database`: the home of all lineages of that name. */
export interface DatabaseName {
  readonly namespace: string
  readonly database: string
}

/** One lineage of one database. */
export interface Home extends DatabaseName {
  readonly lineage: string
}

/** Full: `snapshots/`; Incremental: `increments/`. */
export type BackupKind = 'Full' | 'Incremental'

/** What a backup's directory is called. */
export interface BackupDirectory {
  readonly kind: BackupKind
  /** Start of the attempt, Unix ms: a repeated attempt gets a directory of its own. */
  readonly time: number
  readonly name: string
}

/** Commits with seq `first` to `last`, all of one epoch. */
export interface SegmentRange {
  readonly epoch: bigint
  readonly first: bigint
  readonly last: bigint
}

const FOLDERS = { Full: 'snapshots', Incremental: 'increments' } as const
const NAME = /^[a-z0-9](?:[-.a-z0-9]{0,198}[a-z0-9])?$/
const PART = /^[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,126}[A-Za-z0-9])?$/
const U64_MAX = 0xffff_ffff_ffff_ffffn

/** Ends in `/`. Errors: invalid_parameter naming what cannot stand in a path. */
export function databasePath(name: DatabaseName): string {
  return `${part(name.namespace, 'namespace')}/${part(name.database, 'database')}/`
}

/** Ends in `/`. */
export function homePath(home: Home): string {
  return `${databasePath(home)}${part(home.lineage, 'lineage')}/`
}

/** `…/snapshots/` or `…/increments/` */
export function kindPath(home: Home, kind: BackupKind): string {
  return `${homePath(home)}${FOLDERS[kind]}/`
}

/** `…/changes/` */
export function changesPath(home: Home): string {
  return `${homePath(home)}changes/`
}

/** Directory of a backup, ends in `/`. Errors: invalid_parameter. */
export function backupPath(home: Home, directory: BackupDirectory): string {
  return `${kindPath(home, directory.kind)}${backupDirectoryName(directory)}/`
}

/** `20261123T020000123Z-orders-daily-20261123t0200z` */
export function backupDirectoryName({ time, name }: Pick<BackupDirectory, 'time' | 'name'>): string {
  if (!NAME.test(name))
    throw new KvidxError(
      'invalid_parameter',
      `name: '${name}' (allowed: at most 200 of a-z, 0-9, '-', '.', a letter or digit at both ends)`,
      { field: 'name' },
    )
  return `${compactTime(time)}-${name}`
}

/** The inverse of backupDirectoryName; undefined for any other name. */
export function parseBackupDirectoryName(text: string): { time: number; name: string } | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-(.+)$/.exec(text)
  if (!match || !NAME.test(match[8] ?? '')) return undefined
  const [year, month, day, hour, minute, second, ms] = match.slice(1, 8).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const time = Date.UTC(year, month - 1, day, hour, minute, second, ms)
  const name = match[8] as string
  // the 31st of February would come back as another day
  return Number.isFinite(time) && backupDirectoryName({ time, name }) === text ? { time, name } : undefined
}

/** File name of a segment. */
export function segmentName(range: SegmentRange, encrypted: boolean): string {
  const { epoch, first, last } = range
  return `${pad(epoch, 10)}-${pad(first, 20)}-${last}.kvc.zst${encrypted ? ENCRYPTED_SUFFIX : ''}`
}

/** The inverse of segmentName; undefined for any other name. */
export function parseSegmentName(text: string): (SegmentRange & { readonly encrypted: boolean }) | undefined {
  const match = /^(\d{10,20})-(\d{20})-(\d{1,20})\.kvc\.zst(\.enc)?$/.exec(text)
  if (!match) return undefined
  const range = {
    epoch: BigInt(match[1] as string),
    first: BigInt(match[2] as string),
    last: BigInt(match[3] as string),
  }
  const encrypted = match[4] !== undefined
  if (range.epoch > U64_MAX || range.last > U64_MAX || range.first > range.last) return undefined
  return segmentName(range, encrypted) === text ? { ...range, encrypted } : undefined
}

/** The epoch history as it was when this epoch began: what a restore needs to cross from one epoch's segments to the next one's. */
export function epochsName(epoch: bigint): string {
  return `${epochPrefix(epoch)}${EPOCH_SUFFIX}`
}

/** What the names of an epoch's segments and of its history begin with, and those of no other epoch. */
export function epochPrefix(epoch: bigint): string {
  return `${pad(epoch, 10)}-`
}

/** The inverse of epochsName. */
export function parseEpochsName(text: string): bigint | undefined {
  const match = /^(\d{10,20})-epochs\.json$/.exec(text)
  if (!match) return undefined
  const epoch = BigInt(match[1] as string)
  return epochsName(epoch) === text ? epoch : undefined
}

/** UTC to the millisecond, without separators. */
function compactTime(time: number): string {
  return new Date(time).toISOString().replace(/[-:.]/g, '')
}

function pad(value: bigint, digits: number): string {
  return String(value).padStart(digits, '0')
}

function part(value: string, field: string): string {
  if (PART.test(value)) return value
  throw new KvidxError(
    'invalid_parameter',
    `${field}: '${value}' (allowed in a store's paths: 1 to 128 of A-Z, a-z, 0-9, '-', '_', '.', a letter or digit at both ends)`,
    { field },
  )
}
