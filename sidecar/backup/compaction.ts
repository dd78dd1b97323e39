import { KvidxError } from '../../src/common/errors.ts'
import { changeFileHeader } from '../database/frame.ts'
import type { Segment } from './catalog.ts'
import { readSegment } from './change-file.ts'
import { changesPath, type Home, segmentName } from './layout.ts'
import { follow } from './line.ts'
import { type FileContext, sealed } from './stored-file.ts'

/** Sizes (as stored) up to which segments are merged: what is shipped, then about a quarter of an hour, then most of a day of a busy database. */
export interface CompactionPolicy {
  /** Bytes that a merged segment of each level may have, ascending. */
  readonly levels: readonly number[]
  /** So many segments below a level's size are merged, 2 or more; fewer stay. */
  readonly minFiles: number
  /** A merged segment must be so old before those that it replaces are deleted, ms: a restore that is running may read them. */
  readonly graceMs: number
}

const MIB = 1024 * 1024
export const DEFAULT_COMPACTION: CompactionPolicy = {
  levels: [16 * MIB, 256 * MIB],
  minFiles: 32,
  graceMs: 15 * 60_000,
}

export interface CompactionPlan {
  /** Each a gapless run of one epoch that becomes one segment. */
  readonly merges: readonly (readonly Segment[])[]
  /** Wholly inside a larger segment that is old enough. */
  readonly obsolete: readonly Obsolete[]
}

export interface Obsolete {
  readonly segment: Segment
  /** Holds the same commits. */
  readonly cover: Segment
}

/** Decides what to merge and what to delete. Pure. @param segments of one lineage, ascending by epoch and first seq @param now Unix ms */
export function planCompaction(segments: readonly Segment[], policy: CompactionPolicy, now: number): CompactionPlan {
  const covered = coversOf(segments)
  const live = segments.filter(segment => covered.get(segment) === undefined)
  const obsolete = segments.flatMap(segment => {
    const cover = covered.get(segment)
    return cover !== undefined && now - cover.modified >= policy.graceMs ? [{ segment, cover }] : []
  })
  return {
    merges: policy.levels.flatMap((limit, level) => mergesOf(live, policy, limit, policy.levels[level - 1] ?? 0)),
    obsolete,
  }
}

/** For each segment that lies wholly inside another one: that one. */
function coversOf(segments: readonly Segment[]): Map<Segment, Segment> {
  const ascending = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)
  // behind this order, whoever may cover a segment stands before it
  const order = (a: Segment, b: Segment) =>
    ascending(a.epoch, b.epoch) || ascending(a.first, b.first) || ascending(b.last, a.last)
  const covers = new Map<Segment, Segment>()
  let farthest: Segment | undefined
  for (const segment of [...segments].sort(order)) {
    if (farthest?.epoch === segment.epoch && farthest.last >= segment.last) covers.set(segment, farthest)
    else farthest = segment
  }
  return covers
}

/** Runs of segments that belong to the level: below its size, and not below that of the level before (those are merged there first). */
function mergesOf(live: readonly Segment[], policy: CompactionPolicy, limit: number, below: number): Segment[][] {
  const merges: Segment[][] = []
  let run: Segment[] = []
  let bytes = 0
  const close = () => {
    if (run.length >= policy.minFiles) merges.push(run)
    run = []
    bytes = 0
  }
  for (const segment of live) {
    const last = run.at(-1)
    const belongs = segment.size < limit / 2 && segment.size >= below / 2
    const follows = last === undefined || (last.epoch === segment.epoch && last.last + 1n === segment.first)
    if (!belongs || !follows || bytes + segment.size > limit) close()
    if (!belongs) continue
    run.push(segment)
    bytes += segment.size
  }
  close()
  return merges
}

export interface CompactionResult {
  readonly merged: number
  readonly deleted: number
  /** Segments that could not be deleted, because the credentials do not allow it. */
  readonly kept: number
}

/**
 * Carries a plan out. A merged segment is read back from the store, commit by commit, when it is made, and again before anything that it replaces goes, which is with
 * a later plan. One that cannot be read while its parts are there is removed instead. Without the right to delete, everything stays. Errors: backup_corrupt and
 * backup_gap of a segment that is damaged, the store's.
 */
export async function compactSegments(
  context: FileContext,
  home: Home,
  plan: CompactionPlan,
): Promise<CompactionResult> {
  let deleted = 0
  let kept = 0
  const remove = async (key: string) => {
    try {
      await context.store.delete(key, context.signal)
      deleted++
    } catch (thrown) {
      if (!(thrown instanceof KvidxError) || thrown.code !== 'store_denied') throw thrown
      kept++
    }
  }
  for (const run of plan.merges) await mergeSegments(context, home, run)
  const byCover = Map.groupBy(plan.obsolete, ({ cover }) => cover)
  for (const [cover, replaced] of byCover) {
    const parts = replaced.map(({ segment }) => segment)
    if (await isSound(context, cover)) for (const { key } of parts) await remove(key)
    // it would be preferred to the parts, which are all that there is; made anew, it may be better
    else if (reachesOver(parts, cover)) await remove(cover.key)
  }
  return { merged: plan.merges.length, deleted, kept }
}

async function isSound(context: FileContext, segment: Segment): Promise<boolean> {
  try {
    for await (const _ of readSegment(context, segment));
    return true
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || thrown.code !== 'backup_corrupt') throw thrown
    return false
  }
}

function reachesOver(parts: readonly Segment[], { first, last }: Segment): boolean {
  const pieces = parts.map(part => ({ from: part.first - 1n, to: part.last, source: part }))
  return follow(pieces, first - 1n, last).reached >= last
}

/** Writes one segment with the commits of all; memory is bounded by the largest commit. */
async function mergeSegments(context: FileContext, home: Home, run: readonly Segment[]): Promise<void> {
  const [first, last] = [run[0], run.at(-1)]
  if (!first || !last) return
  const encrypted = context.keys.current !== undefined
  const range = { epoch: first.epoch, first: first.first, last: last.last }
  const key = changesPath(home) + segmentName(range, encrypted)
  const size = run.reduce((sum, segment) => sum + segment.size, 0)
  // an equal range of one history has equal commits, so replacing it (after a crash, say) changes nothing
  await context.store.put(key, sealed(commitsOf(context, run), context.keys, context.level), {
    // compressed together they need hardly more than apart
    atMost: size * 2 + MIB,
    ...(context.signal && { signal: context.signal }),
  })
  for await (const _ of readSegment(context, { ...range, key, size: 0, modified: 0, encrypted }));
}

async function* commitsOf(context: FileContext, run: readonly Segment[]): AsyncGenerator<Uint8Array> {
  yield changeFileHeader('commits')
  for (const segment of run) {
    for await (const frames of readSegment(context, segment)) yield Buffer.concat(frames.map(({ frame }) => frame))
  }
}
