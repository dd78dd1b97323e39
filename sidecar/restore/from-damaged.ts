import { KvidxError } from '../../src/common/errors.ts'
import type { DatabaseState, EpochRecord } from '../database/database.ts'
import { formatDigest } from '../database/digest.ts'
import { mergeEpochs } from '../database/epoch-history.ts'
import { formatPosition } from '../database/position.ts'
import { EMPTY_STATE, encodeEpochs, encodeState, META } from '../database/state.ts'
import type { EngineWriter, StoredRecord } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import type { SalvageReport } from '../format/salvage/report.ts'
import { salvageSqlite } from '../format/salvage.ts'
import { syncTree } from '../volume/sync-tree.ts'
import type { Filled, FillProgress, FillTask } from './fill.ts'

const SLICE = 5000
const SLICE_BYTES = 16 * 1024 * 1024

/**
 * Fills a new database with what can still be read of a damaged SQLite file, in a new epoch. The file is only read. Errors: engine_corrupt when nothing at all
 * came of it, cancelled, no_space.
 * @param stopped asked now and then
 */
export async function fillFromDamaged(
  task: FillTask & { kind: 'salvage' },
  progress: (progress: FillProgress) => void,
  stopped: () => boolean,
): Promise<Filled> {
  const writer = await openWriter({ ...task.engine, tuning: { ...task.engine.tuning, syncMode: 'Off' } })
  let filled: Filled
  try {
    const taken = new Taken(writer)
    const options = {
      progress: () => {
        progress({ stage: 'records', records: taken.count })
        return stopped()
      },
    }
    const report = salvageSqlite(task.file, options, record => taken.take(record))
    taken.store()
    if (report.recovered === 0 && report.expected?.count !== 0n)
      throw new KvidxError('engine_corrupt', `no record of ${task.file} can be read`)
    const state = stateOf(report, taken.expiring, task.continues, BigInt(task.now))
    writer.transact(transaction => {
      transaction.putMeta(META.epochs, encodeEpochs(state.epochs))
      transaction.putMeta(META.state, encodeState(state.after))
    })
    writer.flush()
    writer.checkpoint('truncate')
    filled = {
      reached: formatPosition(state.parent),
      reachedTime: String(state.after.time),
      position: formatPosition(state.after.position),
      count: String(state.after.count),
      dataBytes: String(state.after.dataBytes),
      digest: formatDigest(state.after.digest),
      sources: [task.file],
      complete: report.verdict === 'complete',
      salvage: report,
    }
  } finally {
    writer.close()
  }
  await syncTree(task.engine.directory)
  return filled
}

/** Takes each key once, the first one that comes. */
class Taken {
  readonly #writer: EngineWriter
  #batch: StoredRecord[] = []
  readonly #keys = new Set<bigint>()
  #bytes = 0
  count = 0
  expiring = 0

  constructor(writer: EngineWriter) {
    this.#writer = writer
  }

  take(record: StoredRecord): boolean {
    if (this.#keys.has(record.key) || this.#writer.view.get(record.key)) return false
    // borrowed until this returns
    this.#batch.push({ ...record, data: Buffer.from(record.data) })
    this.#keys.add(record.key)
    this.#bytes += record.data.length
    this.count++
    if (record.expiresAt !== 0n) this.expiring++
    if (this.#batch.length >= SLICE || this.#bytes >= SLICE_BYTES) this.store()
    return true
  }

  store(): void {
    const batch = this.#batch
    this.#writer.transact(transaction => {
      for (const record of batch)
        if (!transaction.insert(record)) throw new KvidxError('internal', `key ${record.key} was taken twice`)
    })
    this.#batch = []
    this.#keys.clear()
    this.#bytes = 0
  }
}

/**
 * The salvaged state begins an epoch and takes a seq of its own: no chain of changes leads to it, and a restore must see that one is missing.
 */
function stateOf(
  report: SalvageReport,
  expiring: number,
  remembered: readonly EpochRecord[],
  now: bigint,
): { parent: DatabaseState['position']; after: DatabaseState; epochs: readonly EpochRecord[] } {
  const before = report.expected ?? EMPTY_STATE
  const known = mergeEpochs(report.epochs ?? [], remembered)
  const newest = known.at(-1) ?? { epoch: 0n, forkSeq: 0n }
  const parent = report.expected?.position ?? { epoch: newest.epoch, seq: newest.forkSeq }
  const epoch = (newest.epoch > parent.epoch ? newest.epoch : parent.epoch) + 1n
  const position = { epoch, seq: parent.seq + 1n }
  const time = before.time > now ? before.time : now
  const record: EpochRecord = {
    epoch,
    ...(parent.epoch > 0n && { parentEpoch: parent.epoch }),
    forkSeq: parent.seq,
    reason: 'salvaged',
    time,
  }
  const after = {
    position,
    time,
    count: BigInt(report.recovered),
    dataBytes: report.recoveredBytes,
    digest: report.digest,
    expiring: BigInt(expiring),
    logBase: position,
    logBytes: 0n,
  }
  return { parent, after, epochs: [...known, record] }
}
