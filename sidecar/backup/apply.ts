import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'
import { replayFrame } from '../database/replay.ts'
import type { EngineWriter } from '../engine/engine.ts'
import type { Backup } from './catalog.ts'
import type { Chain, ChangeSource } from './chain.ts'
import { type CheckedFrame, readFrames, readSegment } from './change-file.ts'
import { follow } from './line.ts'
import { type FileContext, readFile } from './stored-file.ts'

/** Frames of one engine transaction. */
const BATCH_BYTES = 8 * 1024 * 1024
/** Damaged files in one message. */
const NAMED = 3

/** What a file of changes can be found to be, so that another one may do instead. */
const DAMAGE: readonly string[] = ['backup_corrupt', 'backup_gap', 'wrong_encryption_key']

/** How the replay ended. */
export interface Applied {
  readonly state: DatabaseState
  /** A commit behind the target was met, so the state is exactly that of the target; false: the files ended before. */
  readonly stopped: boolean
  /** What was played, in this order. */
  readonly sources: readonly ChangeSource[]
  /** Files that could not be read to their end. Others took their place; of one that nothing replaces only with `upToGap`. */
  readonly damaged: readonly KvidxError[]
}

/**
 * Replays the changes of a chain on top of its base, up to its target. Every frame is compared with what it says of the state after it. A file that proves damaged is
 * replaced by others that have the same changes, a merged segment by its parts. Errors: backup_corrupt, wrong_encryption_key and backup_gap, naming the files or the
 * missing range, and the last position that can be restored; invalid_parameter when the target lies inside a commit.
 */
export async function applyChanges(
  context: FileContext,
  writer: EngineWriter,
  chain: Chain,
  base: DatabaseState,
  onPosition: (seq: bigint) => void = () => {},
  onIncrement: (backup: Backup, state: DatabaseState) => void = () => {},
): Promise<Applied> {
  let state = base
  const sources: ChangeSource[] = []
  const damaged: KvidxError[] = []
  const ended = (stopped: boolean): Applied => ({ state, stopped, sources, damaged })
  let pieces = chain.pieces
  let lost: KvidxError | undefined
  const ahead = [...chain.changes]
  for (let source = ahead.shift(); source; source = ahead.shift()) {
    const part = await applySource(context, writer, chain, source, state, onPosition)
    state = part.state
    if (part.ended !== 'damaged') sources.push(source)
    if (part.ended === 'stopped') return ended(true)
    if (part.ended === 'whole') {
      if (source.type !== 'increment') continue
      checkEnd(source.backup, state, chain)
      if (state.position.seq === source.backup.position.seq) onIncrement(source.backup, state)
      continue
    }
    const { damage } = part
    const piece = pieces.find(candidate => candidate.source === source)
    if (!piece) throw damage
    damaged.push(damage)
    pieces = pieces.filter(candidate => candidate !== piece)
    // from its beginning on: what came out of the damaged file is skipped, and must stand in the others, too
    const instead = follow(pieces, piece.from, chain.end)
    if (instead.reached < chain.end) lost = damage
    ahead.splice(0, ahead.length, ...instead.steps.map(step => step.source))
  }
  const { seq, time } = chain.until
  if (lost) {
    if (chain.exact && state.position.seq === seq) return ended(true)
    // a key may still come: what it opens is no gap
    if (chain.upToGap && lost.code !== 'wrong_encryption_key') return ended(false)
    throw unreachable(lost, damaged, state)
  }
  if (seq !== undefined && state.position.seq !== seq) throw gap(chain, state.position.seq + 1n, seq)
  if (time !== undefined && chain.gap) throw gap(chain, chain.gap.after + 1n, chain.gap.next - 1n)
  return ended(seq !== undefined || chain.whole === true)
}

/** How far one file led. */
type Part = { readonly state: DatabaseState } & (
  | { readonly ended: 'whole' }
  | { readonly ended: 'stopped' }
  | { readonly ended: 'damaged'; readonly damage: KvidxError }
)

async function applySource(
  context: FileContext,
  writer: EngineWriter,
  chain: Chain,
  source: ChangeSource,
  begin: DatabaseState,
  onPosition: (seq: bigint) => void,
): Promise<Part> {
  let state = begin
  let batch: CheckedFrame[] = []
  let bytes = 0
  const flush = () => {
    const frames = batch
    batch = []
    bytes = 0
    if (frames.length === 0) return
    // the state counts only once its transaction is through
    state = writer.transact(transaction =>
      frames.reduce((now, { frame }) => replayFrame(transaction, frame, now), state),
    )
    onPosition(state.position.seq)
  }
  try {
    try {
      for await (const frames of framesOf(context, source)) {
        for (const checked of frames) {
          const verdict = judge(chain, checked, batch.at(-1)?.header.lastSeq ?? state.position.seq)
          if (verdict === 'skip') continue
          if (verdict === 'stop') {
            flush()
            return { state, ended: 'stopped' }
          }
          batch.push(checked)
          bytes += checked.frame.length
          if (bytes >= BATCH_BYTES) flush()
        }
      }
    } finally {
      // the commits before the damage are sound; those of a batch that was rolled back are not in it any more
      flush()
    }
    return { state, ended: 'whole' }
  } catch (thrown) {
    if (!(thrown instanceof KvidxError) || !DAMAGE.includes(thrown.code)) throw thrown
    return { state, ended: 'damaged', damage: inSource(source, thrown) }
  }
}

/** The same error, naming the file: a commit that contradicts the state before it is known by its position only. */
function inSource(source: ChangeSource, error: KvidxError): KvidxError {
  const key = source.type === 'segment' ? source.segment.key : source.backup.path
  return error.message.includes(key)
    ? error
    : new KvidxError(error.code, `${key}: ${error.message}`, error.details, error)
}

/** @param lost after which the remaining files lead no further */
function unreachable(lost: KvidxError, damaged: readonly KvidxError[], { position }: DatabaseState): KvidxError {
  const reached = formatPosition(position)
  const named = damaged.slice(0, NAMED).map(({ message }) => message)
  return new KvidxError(
    lost.code,
    `${named.join('; ')}; no other files lead over this: the last position that can be restored is ${reached}`,
    { ...lost.details, reached },
    lost,
  )
}

/** Whether a frame belongs to the target: on its line, behind what is there, not behind where it ends. */
function judge(chain: Chain, { header }: CheckedFrame, reached: bigint): 'apply' | 'skip' | 'stop' {
  const { epoch, firstSeq, lastSeq, time } = header
  if (lastSeq <= reached) return 'skip'
  const limit = chain.line.limit(epoch)
  // written by a branch that the target does not descend from
  if (limit === undefined || firstSeq > limit) return 'skip'
  const { seq, time: until } = chain.until
  if (seq !== undefined && firstSeq > seq) return 'stop'
  if (until !== undefined && time > until) return 'stop'
  const end = seq !== undefined && seq < limit ? seq : limit
  if (lastSeq > end)
    throw new KvidxError(
      seq === undefined ? 'backup_corrupt' : 'invalid_parameter',
      `position ${end} lies inside the commit ${firstSeq} to ${lastSeq} of epoch ${epoch}; a commit is restored whole (allowed: ${firstSeq - 1n} or ${lastSeq})`,
      { first: String(firstSeq), last: String(lastSeq) },
    )
  return 'apply'
}

function framesOf(context: FileContext, source: ChangeSource): AsyncIterable<CheckedFrame[]> {
  if (source.type === 'segment') return readSegment(context, source.segment)
  const { manifest, path } = source.backup
  const file = manifest.files[0]
  if (!file) throw new KvidxError('backup_corrupt', `${path}: the manifest names no file`)
  return readFrames(readFile(context, path, file, manifest.encryption), 'commits')
}

/** A whole increment ends in the state that its manifest records. */
function checkEnd(backup: Backup, state: DatabaseState, chain: Chain): void {
  const { manifest, position, path } = backup
  const limit = chain.line.limit(position.epoch)
  // an increment that the line leaves before its end is not played to its end
  if (limit === undefined || position.seq > limit || state.position.seq > position.seq) return
  const found = {
    position: formatPosition(state.position),
    count: String(state.count),
    dataBytes: String(state.dataBytes),
    digest: formatDigest(state.digest),
  }
  for (const name of ['position', 'count', 'dataBytes', 'digest'] as const) {
    if (found[name] !== manifest[name])
      throw new KvidxError(
        'backup_corrupt',
        `${path}: its changes end with ${name} ${found[name]}, the manifest says ${manifest[name]}`,
        {
          check: name,
          expected: manifest[name],
          found: found[name],
        },
      )
  }
}

function gap(chain: Chain, first: bigint, last: bigint): KvidxError {
  return new KvidxError(
    'backup_gap',
    `the changes ${first} to ${last} of lineage ${chain.catalog.lineage} are not in the store`,
    {
      first: String(first),
      last: String(last),
      lineage: chain.catalog.lineage,
    },
  )
}
