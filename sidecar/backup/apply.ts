import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'
import { replayFrame } from '../database/replay.ts'
import type { EngineWriter } from '../engine/engine.ts'
import type { Backup } from './catalog.ts'
import type { Chain, ChangeSource } from './chain.ts'
import { type CheckedFrame, readFrames, readSegment } from './change-file.ts'
import { type FileContext, readFile } from './stored-file.ts'

/** Frames of one engine transaction. */
const BATCH_BYTES = 8 * 1024 * 1024

/** How the replay ended. */
export interface Applied {
  readonly state: DatabaseState
  /** A commit behind the target was met, so the state is exactly that of the target; false: the files ended before. */
  readonly stopped: boolean
}

/**
 * Replays the changes of a chain on top of its base, up to its target. Every frame is compared with what it says of the state after it. Errors: backup_corrupt,
 * backup_gap naming the missing range, invalid_parameter when the target lies inside a commit.
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
  for (const source of chain.changes) {
    const part = await applySource(context, writer, chain, source, state, onPosition)
    state = part.state
    if (part.stopped) return part
    if (source.type !== 'increment') continue
    checkEnd(source.backup, state, chain)
    onIncrement(source.backup, state)
  }
  const { seq, time } = chain.until
  if (seq !== undefined && state.position.seq !== seq) throw gap(chain, state.position.seq + 1n, seq)
  if (time !== undefined && chain.gap) throw gap(chain, chain.gap.after + 1n, chain.gap.next - 1n)
  return { state, stopped: seq !== undefined || chain.whole === true }
}

async function applySource(
  context: FileContext,
  writer: EngineWriter,
  chain: Chain,
  source: ChangeSource,
  begin: DatabaseState,
  onPosition: (seq: bigint) => void,
): Promise<Applied> {
  let state = begin
  let batch: CheckedFrame[] = []
  let bytes = 0
  const flush = () => {
    if (batch.length === 0) return
    // the state counts only once its transaction is through
    state = writer.transact(transaction =>
      batch.reduce((now, { frame }) => replayFrame(transaction, frame, now), state),
    )
    batch = []
    bytes = 0
    onPosition(state.position.seq)
  }
  for await (const frames of framesOf(context, source)) {
    for (const checked of frames) {
      const verdict = judge(chain, checked, batch.at(-1)?.header.lastSeq ?? state.position.seq)
      if (verdict === 'skip') continue
      if (verdict === 'stop') {
        flush()
        return { state, stopped: true }
      }
      batch.push(checked)
      bytes += checked.frame.length
      if (bytes >= BATCH_BYTES) flush()
    }
  }
  flush()
  return { state, stopped: false }
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
