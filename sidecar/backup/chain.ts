import { KvidxError } from '../../src/common/errors.ts'
import type { EpochRecord } from '../database/database.ts'
import type { Position } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import { type Backup, type LineageCatalog, type Segment, since } from './catalog.ts'
import { follow, Line, type Piece } from './line.ts'

/** What a restore should bring back. */
export type Target =
  /** With `upToGap` what lies before the first missing change is enough. */
  | { readonly kind: 'latest'; readonly upToGap?: true }
  /** Every commit with time <= this, Unix ms, along the current epoch's ancestry. */
  | { readonly kind: 'time'; readonly time: bigint }
  /** Of any epoch; must be the end of a commit. */
  | { readonly kind: 'position'; readonly position: Position }
  /** Exactly this backup. */
  | { readonly kind: 'backup'; readonly name: string }

export type ChangeSource =
  | { readonly type: 'increment'; readonly backup: Backup }
  | { readonly type: 'segment'; readonly segment: Segment }

/** Files that restore a target, in the order of their use. */
export interface Chain {
  readonly catalog: LineageCatalog
  readonly base: Backup
  readonly changes: readonly ChangeSource[]
  /** All files that lie on the line, for the place of one that proves damaged; none where exactly these files are to be restored. */
  readonly pieces: readonly Piece<ChangeSource>[]
  /** Where the files end, clipped to the target: up to here none may be missing. */
  readonly end: bigint
  /** A position was asked for: what a file holds behind it does not matter. */
  readonly exact?: true
  /** A damaged file that no other replaces ends the restore, and what was reached is enough. */
  readonly upToGap?: true
  /** Which commits of each epoch count; others in the files belong to other branches. */
  readonly line: Line
  /** Commits behind this seq or time are not applied. */
  readonly until: { readonly seq?: bigint; readonly time?: bigint }
  /** The files lead up to a moment of which it is known that nothing was written between it and the target's time. */
  readonly whole?: true
  /** Behind the last file changes are missing up to this seq; reaching the end of the files without reaching the time is then an error. */
  readonly gap?: { readonly after: bigint; readonly next: bigint }
}

const NO_LIMIT = 0xffff_ffff_ffff_ffffn

/**
 * Which files restore the target. Errors: backup_not_found (with what there is), backup_gap naming the missing range,
 * invalid_parameter for an epoch that is not known.
 * @param shipped up to where the database says that it shipped: a store cannot tell that its last segments are gone, so `latest` is compared with this
 */
export function resolveChain(catalog: LineageCatalog, target: Target, shipped?: Position): Chain {
  switch (target.kind) {
    case 'backup':
      return chainOfBackup(catalog, target.name)
    case 'position':
      return chainOfPosition(catalog, target.position)
    case 'time':
      return chainOfTime(catalog, target.time)
    case 'latest':
      return chainOfLatest(catalog, shipped, target.upToGap === true)
  }
}

/** A backup found damaged or proven not to restore is no base. */
function usableFulls(catalog: LineageCatalog): Backup[] {
  return catalog.backups.filter(backup => backup.kind === 'Full' && backup.verification?.result !== 'Failed')
}

/** The base that comes latest on the line, of those that `fits` allows. */
function newestBase(catalog: LineageCatalog, line: Line, fits: (backup: Backup) => boolean): Backup | undefined {
  return usableFulls(catalog)
    .filter(backup => line.holds(backup.position) && fits(backup))
    .reduce<Backup | undefined>((best, backup) => {
      if (!best || backup.position.seq > best.position.seq) return backup
      // of two at one position the one that was proven
      return backup.position.seq === best.position.seq && backup.verified && !best.verified ? backup : best
    }, undefined)
}

/** Files of changes that lie on the line, clipped to it. */
export function piecesOn(line: Line, backups: readonly Backup[], segments: readonly Segment[]): Piece<ChangeSource>[] {
  const pieces: Piece<ChangeSource>[] = []
  for (const backup of backups) {
    const limit = line.limit(backup.position.epoch)
    // what was proven not to restore leads nowhere; segments may lead past it
    if (backup.verification?.result === 'Failed') continue
    if (!backup.parent || limit === undefined || !line.holds(backup.parent.position)) continue
    const to = backup.position.seq < limit ? backup.position.seq : limit
    pieces.push({ from: backup.parent.position.seq, to, source: { type: 'increment', backup } })
  }
  for (const segment of segments) {
    const limit = line.limit(segment.epoch)
    if (limit === undefined) continue
    pieces.push({
      from: segment.first - 1n,
      to: segment.last < limit ? segment.last : limit,
      source: { type: 'segment', segment },
    })
  }
  return pieces
}

function chainOfBackup(catalog: LineageCatalog, name: string): Chain {
  const wanted = findBackup(catalog, name)
  const line = lineTo(catalog, wanted.position)
  const changes: ChangeSource[] = []
  let at = wanted
  while (at.parent) {
    changes.unshift({ type: 'increment', backup: at })
    const { directory, position } = at.parent
    const parent = catalog.backups.find(backup => backup.directory === directory)
    if (!parent || parent.position.epoch !== position.epoch || parent.position.seq !== position.seq)
      throw new KvidxError(
        'backup_gap',
        `${at.name} continues ${directory} at position ${formatPosition(position)}, which is not in the store: the changes up to seq ${position.seq} are missing`,
        { missing: directory, position: formatPosition(position) },
      )
    if (changes.length > catalog.backups.length)
      throw new KvidxError('backup_corrupt', `the parents of ${name} go round in a circle`)
    at = parent
  }
  const { seq } = wanted.position
  return { catalog, base: at, changes, pieces: [], end: seq, line, until: { seq } }
}

function findBackup(catalog: LineageCatalog, name: string): Backup {
  const found = catalog.backups.filter(backup => backup.name === name || backup.directory === name)
  const best = found.findLast(backup => backup.good) ?? found.at(-1)
  if (best) return best
  const damaged = catalog.damaged.find(item => item.key.includes(name))
  if (damaged) throw damaged.error
  const known = catalog.backups.slice(-5).map(backup => backup.name)
  throw new KvidxError(
    'backup_not_found',
    `there is no backup '${name}' of lineage ${catalog.lineage}; the newest are: ${known.join(', ') || 'none at all'}`,
    { name },
  )
}

function chainOfPosition(catalog: LineageCatalog, position: Position): Chain {
  const line = lineTo(catalog, position)
  const base = newestBase(catalog, line, () => true)
  if (!base) throw noBase(catalog, `position ${formatPosition(position)}`)
  const pieces = piecesOn(line, catalog.backups, catalog.segments)
  const { seq } = position
  const { steps, reached } = follow(pieces, base.position.seq, seq)
  if (reached < seq) throw gapError(catalog, line, reached, seq)
  return { catalog, base, changes: steps.map(step => step.source), pieces, end: seq, exact: true, line, until: { seq } }
}

function chainOfTime(catalog: LineageCatalog, time: bigint): Chain {
  const line = currentLine(catalog)
  const base = newestBase(catalog, line, backup => since(backup) <= time)
  if (!base) throw noBase(catalog, `time ${new Date(Number(time)).toISOString()}`)
  // the first backup that is known to be later ends the search
  const known = catalog.backups
    .filter(backup => since(backup) > time && line.holds(backup.position))
    .reduce((least, backup) => (backup.position.seq < least ? backup.position.seq : least), NO_LIMIT)
  // so does a change that stands in no log and came later
  const unseen = line.unseen.find(change => change.time > time)?.after ?? NO_LIMIT
  const later = unseen < known ? unseen : known
  const pieces = piecesOn(line, catalog.backups, catalog.segments)
  const { steps, reached } = follow(pieces, base.position.seq, later)
  const next = reached < later ? nextKnown(catalog, pieces, line, reached) : undefined
  const changes = steps.map(step => step.source)
  return {
    catalog,
    base,
    changes,
    pieces,
    end: reached,
    line,
    until: { time },
    ...(reached === unseen && { whole: true }),
    ...(next !== undefined && { gap: { after: reached, next } }),
  }
}

function chainOfLatest(catalog: LineageCatalog, shipped: Position | undefined, upToGap: boolean): Chain {
  const line = currentLine(catalog)
  const base = newestBase(catalog, line, () => true)
  if (!base) throw noBase(catalog, 'the latest state')
  const pieces = piecesOn(line, catalog.backups, catalog.segments)
  const { steps, reached } = follow(pieces, base.position.seq, NO_LIMIT)
  const next = nextKnown(catalog, pieces, line, reached)
  if (next !== undefined && !upToGap) throw gapError(catalog, line, reached, next - 1n)
  if (shipped && line.holds(shipped) && reached < shipped.seq) throw gapError(catalog, line, reached, shipped.seq)
  const changes = steps.map(step => step.source)
  const gap = next === undefined ? {} : { gap: { after: reached, next } }
  const enough = upToGap ? ({ upToGap: true } as const) : {}
  return { catalog, base, changes, pieces, end: reached, line, until: { seq: reached }, ...enough, ...gap }
}

/** The first seq behind `reached` that some file has. */
function nextKnown(
  catalog: LineageCatalog,
  pieces: readonly Piece<ChangeSource>[],
  line: Line,
  reached: bigint,
): bigint | undefined {
  const starts = pieces.filter(piece => piece.to > reached).map(piece => piece.from + 1n)
  const fulls = catalog.backups.filter(b => b.kind === 'Full' && line.holds(b.position) && b.position.seq > reached)
  // the one behind a change that stands in no log is known to be, wherever it is
  const unseen = line.unseen.filter(({ after }) => after >= reached).map(({ after }) => after + 2n)
  const all = [...starts, ...fulls.map(backup => backup.position.seq), ...unseen]
  return all.length === 0 ? undefined : all.reduce((least, seq) => (seq < least ? seq : least))
}

/** Errors: invalid_parameter when the epoch is not known. */
function lineTo(catalog: LineageCatalog, position: Position): Line {
  try {
    return new Line(catalog.epochs, position)
  } catch (thrown) {
    const known = catalog.epochs.map(record => record.epoch).join(', ')
    throw new KvidxError(
      'invalid_parameter',
      `position ${formatPosition(position)}: lineage ${catalog.lineage} has no whole history of epoch ${position.epoch} (known epochs: ${known || 'none'})`,
      { position: formatPosition(position) },
      thrown,
    )
  }
}

/** The line of the newest epoch, without an end. */
export function currentLine(catalog: { readonly epochs: readonly EpochRecord[]; readonly lineage: string }): Line {
  const newest = catalog.epochs.reduce((most, record) => (record.epoch > most ? record.epoch : most), 0n)
  if (catalog.epochs.length === 0)
    throw new KvidxError('backup_not_found', `there is no backup of lineage ${catalog.lineage} in the store`)
  return new Line(catalog.epochs, { epoch: newest, seq: NO_LIMIT })
}

function noBase(catalog: LineageCatalog, what: string): KvidxError {
  const fulls = usableFulls(catalog)
  const list = fulls
    .slice(0, 5)
    .map(b => `${b.name} at ${formatPosition(b.position)}, ${new Date(Number(since(b))).toISOString()}`)
  return new KvidxError(
    'backup_not_found',
    `no Full of lineage ${catalog.lineage} comes before ${what}; ${list.length === 0 ? 'there is none at all' : `the oldest are: ${list.join('; ')}`}`,
  )
}

function gapError(catalog: LineageCatalog, line: Line, reached: bigint, wanted: bigint): KvidxError {
  const pieces = piecesOn(line, catalog.backups, catalog.segments)
  const next = pieces
    .filter(p => p.to > reached && p.from > reached)
    .reduce((least, p) => (p.from < least ? p.from : least), wanted)
  const epoch = line.spans.find(span => reached >= span.from && reached < span.to)?.epoch
  return new KvidxError(
    'backup_gap',
    `the changes ${reached + 1n} to ${next}${epoch === undefined ? '' : ` (epoch ${epoch})`} of lineage ${catalog.lineage} are not in the store`,
    { first: String(reached + 1n), last: String(next), lineage: catalog.lineage },
  )
}

/** From where to where every moment can be restored: the oldest Full from which the changes reach the newest known position without a gap. */
export function recoveryWindow(catalog: LineageCatalog): { from: Backup; reached: bigint } | undefined {
  if (catalog.epochs.length === 0) return undefined
  const line = currentLine(catalog)
  const pieces = piecesOn(line, catalog.backups, catalog.segments)
  const fulls = usableFulls(catalog).filter(backup => line.holds(backup.position))
  fulls.sort((a, b) => (a.position.seq < b.position.seq ? -1 : 1))
  const newest = fulls.at(-1)
  if (!newest) return undefined
  const { reached } = follow(pieces, newest.position.seq, NO_LIMIT)
  const from = fulls.find(full => follow(pieces, full.position.seq, reached).reached >= reached) ?? newest
  return { from, reached }
}
