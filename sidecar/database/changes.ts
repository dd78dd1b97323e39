import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseConfig } from './config.ts'
import type { DatabaseState, EpochRecord } from './database.ts'
import type { Position } from './operation.ts'
import { ancestry, formatPosition, isAncestor } from './position.ts'
import type { Session } from './session.ts'

const CHUNK_BYTES = 1024 * 1024
/** With Normal and Off a follower asks for a sync at most this often. */
const SYNC_INTERVAL = 1000

/** What a follower looks at of the database, from one read of the log to the next. */
interface Followed {
  readonly config: DatabaseConfig
  readonly state: DatabaseState
  readonly epochs: readonly EpochRecord[]
  subscribe(listener: (state: DatabaseState) => void): () => void
}

/**
 * Frames behind `since`, whole ones, only such as survive a power loss. Errors: log_trimmed when the log begins later, conflict when `since`
 * lies on another branch or ahead of the database.
 */
export async function* followChanges(
  database: Followed,
  session: Session,
  since: Position,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  checkStart(database, since)
  let after = since.seq
  let until = await durableSeq(session, database)
  for (;;) {
    if (signal.aborted) throw new KvidxError('cancelled', 'the feed was cancelled')
    const { frames, lastSeq, base } = await session.readers.call('log', {
      afterSeq: after,
      untilSeq: until,
      maxBytes: CHUNK_BYTES,
    })
    if (after < base)
      throw new KvidxError(
        'log_trimmed',
        `changes behind ${formatPosition({ epoch: since.epoch, seq: after })} are no longer in the log, which begins behind seq ${base}`,
        {
          position: formatPosition(database.state.logBase),
        },
      )
    if (frames.length > 0) {
      after = lastSeq
      yield frames
      continue
    }
    if (!follow) return
    await nextCommit(database, after, signal)
    until = await durableSeq(session, database)
  }
}

function checkStart(database: Followed, since: Position): void {
  const { position, logBase } = database.state
  const known = database.epochs.some(record => record.epoch === since.epoch)
  // 0.0 is the beginning of everything
  const beginning = since.epoch === 0n && since.seq === 0n
  if (!beginning && (!known || !isAncestor(database.epochs, since, position)))
    throw new KvidxError(
      'conflict',
      `since=${formatPosition(since)} is not in the history of this database, which stands at ${formatPosition(position)}`,
      {
        position: formatPosition(position),
        epochs: ancestry(database.epochs, position.epoch).map(record => String(record.epoch)),
      },
    )
  if (since.seq < logBase.seq)
    throw new KvidxError(
      'log_trimmed',
      `changes behind ${formatPosition(since)} are no longer in the log, which begins behind ${formatPosition(logBase)}`,
      {
        position: formatPosition(logBase),
      },
    )
}

/** The last seq that is known to be on the disk. */
async function durableSeq(session: Session, database: Followed): Promise<bigint> {
  const { seq } = database.state.position
  if (database.config.tuning.syncMode !== 'Full') await session.writer.call('flush', {})
  return seq
}

function nextCommit(database: Followed, after: bigint, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    let timer: NodeJS.Timeout | undefined
    const done = () => {
      unsubscribe()
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const wait = database.config.tuning.syncMode === 'Full' ? 0 : SYNC_INTERVAL
    const unsubscribe = database.subscribe(state => {
      if (state.position.seq > after) timer ??= setTimeout(done, wait)
    })
    signal.addEventListener('abort', done, { once: true })
    if (signal.aborted || database.state.position.seq > after) done()
  })
}
