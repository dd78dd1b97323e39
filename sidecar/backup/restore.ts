import { mkdir, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import { ancestry } from '../database/position.ts'
import { encodeEpochs, encodeState, META } from '../database/state.ts'
import type { EngineKind, EngineTuning, EngineWriter } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { fillTuning } from '../engine/settings.ts'
import { checkSpace } from '../volume/check-space.ts'
import { syncDirectory } from '../volume/layout.ts'
import { syncTree } from '../volume/sync-tree.ts'
import { applyChanges } from './apply.ts'
import type { Backup } from './catalog.ts'
import type { Chain, ChangeSource } from './chain.ts'
import { loadFull } from './load.ts'
import type { FileContext } from './stored-file.ts'

export interface RestoreOptions {
  readonly engine: EngineKind
  /** Becomes the database's directory; must not exist, or be empty. Its parent exists. */
  readonly directory: string
  /** Settings of the engine; its sync mode is Off while it is filled, and everything is fsynced at the end. */
  readonly tuning?: Omit<EngineTuning, 'syncMode'>
  /** What the restored database says of itself; default: position and ancestry of the target. `inNewEpoch` gives what an in-place restore needs. */
  readonly mark?: (reached: DatabaseState, history: readonly EpochRecord[]) => Mark
  readonly progress?: (progress: RestoreProgress) => void
  /** Called with the state at the end of each whole increment of the chain, after it was compared with its manifest. */
  readonly onIncrement?: (backup: Backup, state: DatabaseState) => void
}

export interface Mark {
  readonly state: DatabaseState
  readonly epochs: readonly EpochRecord[]
}

export interface RestoreProgress {
  readonly stage: 'records' | 'changes' | 'syncing'
  readonly records: number
  readonly seq?: bigint
}

export interface Restored {
  /** The state that was reached, before `mark`. */
  readonly reached: DatabaseState
  readonly epochs: readonly EpochRecord[]
  /** The target was met; false: the store's changes end before the time asked for, so this is the newest state that it has. */
  readonly complete: boolean
  /** Files of changes that were played. */
  readonly sources: readonly ChangeSource[]
  /** Files of changes that proved damaged; others took their place. */
  readonly damaged: readonly KvidxError[]
}

/** Free space that a restore asks for, relative to what it will hold. */
const SPACE_FACTOR = 1.2
/** What engines add to a record of small data: keys, pages, indexes. */
const RECORD_OVERHEAD = 64

/**
 * Builds the chain's target in a new directory: every check, then everything is on the disk. The caller renames or swaps it in; on an error the
 * caller removes the directory. Errors: insufficient_space with the number, volume_not_empty, backup_corrupt, backup_gap, wrong_encryption_key, cancelled.
 */
export async function stageRestore(context: FileContext, chain: Chain, options: RestoreOptions): Promise<Restored> {
  const { directory } = options
  await mkdir(directory, { recursive: true, mode: 0o700 })
  if ((await readdir(directory)).length > 0)
    throw new KvidxError('volume_not_empty', `${directory} is not empty; a restore needs a new directory`, {
      path: directory,
    })
  checkSpace(dirname(directory), Math.ceil(estimateBytes(chain) * SPACE_FACTOR))
  const { engine, tuning } = options
  const writer = await openWriter({ kind: engine, directory, tuning: fillTuning(engine, tuning) })
  let restored: Restored
  try {
    restored = await fill(context, writer, chain, options)
    options.progress?.({ stage: 'syncing', records: Number(restored.reached.count) })
    failpoint('restore.beforeFlush')
    writer.flush()
    writer.checkpoint('truncate')
  } finally {
    writer.close()
  }
  failpoint('restore.beforeSync')
  await syncTree(directory)
  await syncDirectory(join(directory, '..'))
  failpoint('restore.done')
  return restored
}

/** Base, changes, and the database's own metadata, into an empty engine. @param options.readBack the caller compares the digest of what the engine holds */
export async function fill(
  context: FileContext,
  writer: EngineWriter,
  chain: Chain,
  options: Pick<RestoreOptions, 'mark' | 'progress' | 'onIncrement'> & { readonly readBack?: boolean },
): Promise<Restored> {
  const { progress, mark, onIncrement, readBack } = options
  const onRecords = (records: number) => progress?.({ stage: 'records', records })
  const base = await loadFull(context, writer, chain.base, onRecords, readBack)
  const {
    state: reached,
    stopped,
    sources,
    damaged,
  } = await applyChanges(
    context,
    writer,
    chain,
    base.state,
    seq => progress?.({ stage: 'changes', records: Number(base.state.count), seq }),
    onIncrement,
  )
  const history = [...ancestry(chain.catalog.epochs, reached.position.epoch)].reverse()
  const sound: DatabaseState = { ...reached, logBase: reached.position, logBytes: 0n }
  const marked = mark ? mark(sound, chain.catalog.epochs) : { state: sound, epochs: history }
  failpoint('restore.beforeMark')
  writer.transact(transaction => {
    transaction.putMeta(META.epochs, encodeEpochs(marked.epochs))
    transaction.putMeta(META.state, encodeState(marked.state))
  })
  return { reached: sound, epochs: marked.epochs, complete: stopped, sources, damaged }
}

/** The mark of an in-place restore: a new epoch that forks where the restore ended. @param now Unix ms */
export function inNewEpoch(now: number): (reached: DatabaseState, history: readonly EpochRecord[]) => Mark {
  return (reached, history) => {
    const newest = history.reduce((most, record) => (record.epoch > most ? record.epoch : most), 0n)
    const epoch = newest + 1n
    const position = { epoch, seq: reached.position.seq }
    const record: EpochRecord = {
      epoch,
      parentEpoch: reached.position.epoch,
      forkSeq: reached.position.seq,
      reason: 'restored',
      time: BigInt(now),
    }
    return { state: { ...reached, position, logBase: position }, epochs: [...history, record] }
  }
}

/** Bytes that the restored database needs at least, by what the manifests say. */
export function estimateBytes(chain: Chain): number {
  const last = chain.changes.findLast(source => source.type === 'increment')
  const { manifest } = last?.type === 'increment' ? last.backup : chain.base
  const base = chain.base.manifest
  const size = (m: typeof base) => Number(m.dataBytes) + Number(m.count) * RECORD_OVERHEAD
  return Math.max(size(manifest), size(base))
}
