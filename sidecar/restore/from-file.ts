import { createWriteStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Clock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import { openStore } from '../backup/store/settings.ts'
import type { DatabaseState } from '../database/database.ts'
import { digestOfRecord, formatDigest, reduceDigest } from '../database/digest.ts'
import { formatPosition } from '../database/position.ts'
import { encodeEpochs, encodeState, META } from '../database/state.ts'
import type { EngineWriter, StoredRecord } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { fillTuning } from '../engine/settings.ts'
import type { RecordSource } from '../format/source/record-source.ts'
import { openSource } from '../format/source/source.ts'
import { syncTree } from '../volume/sync-tree.ts'
import type { Filled, FillProgress, FillTask } from './fill.ts'

type ImportTask = FillTask & { kind: 'import' }

const KIND = { Binary: 'binary', JSON: 'json', CSV: 'csv', SQLite: 'sqlite' } as const

/** Imports a kvidxkit export or SQLite file into the task's engine. Errors: invalid_body, duplicate_key, too_large, engine and store errors. */
export async function fillFromFile(
  task: ImportTask,
  clock: Clock,
  signal: AbortSignal,
  progress: (progress: FillProgress) => void,
): Promise<Filled> {
  await mkdir(task.engine.directory, { recursive: true, mode: 0o700 })
  await mkdir(task.scratch, { recursive: true, mode: 0o700 })
  const { source, close } = await open(task, clock, signal)
  try {
    const writer = await openWriter({ ...task.engine, tuning: fillTuning(task.engine.kind, task.engine.tuning) })
    const loader = new ImportLoader(writer, task.onDuplicate)
    try {
      for await (const batch of source.batches(signal)) {
        loader.add(batch)
        progress({ stage: 'records', records: loader.count })
      }
      const state = loader.state(BigInt(task.now))
      failpoint('bootstrap.beforeMark')
      writer.transact(transaction => {
        const { position } = state
        transaction.putMeta(
          META.epochs,
          encodeEpochs([{ epoch: 1n, forkSeq: position.seq, reason: 'imported', time: BigInt(task.now) }]),
        )
        transaction.putMeta(META.state, encodeState(state))
      })
      progress({ stage: 'syncing', records: loader.count })
      failpoint('bootstrap.beforeFlush')
      writer.flush()
      writer.checkpoint('truncate')
      const { orphanExpiries } = source.report()
      return {
        reached: formatPosition(state.position),
        reachedTime: String(state.time),
        position: formatPosition(state.position),
        count: String(state.count),
        dataBytes: String(state.dataBytes),
        digest: formatDigest(state.digest),
        sources: ['path' in task.file ? task.file.path : task.file.key],
        complete: true,
        orphanExpiries,
        skipped: loader.skipped,
        replaced: loader.replaced,
      }
    } finally {
      writer.close()
    }
  } finally {
    await close()
    await rm(task.scratch, { recursive: true, force: true })
    failpoint('bootstrap.beforeSync')
    await syncTree(task.engine.directory)
  }
}

async function open(
  task: ImportTask,
  clock: Clock,
  signal: AbortSignal,
): Promise<{ source: RecordSource; close: () => Promise<void> }> {
  const options = { maxDataBytes: task.maxDataBytes, expected: KIND[task.format], scratch: task.scratch }
  if ('path' in task.file) {
    const source = await openSource(task.file.path, options)
    return { source, close: () => source.close() }
  }
  const { store } = await openStore(task.file.store, clock)
  try {
    const { chunks } = await store.get(task.file.key, { signal })
    let from: string | AsyncIterable<Uint8Array> = chunks
    if (task.format === 'SQLite') {
      // SQLite reads pages, not streams
      from = join(task.scratch, basename(task.file.key))
      await pipeline(chunks, createWriteStream(from, { mode: 0o600 }))
    }
    const source = await openSource(from, options)
    return {
      source,
      close: async () => {
        await source.close()
        await store.close()
      },
    }
  } catch (thrown) {
    await store.close()
    throw thrown
  }
}

class ImportLoader {
  count = 0
  skipped = 0
  replaced = 0
  readonly #writer: EngineWriter
  readonly #onDuplicate: ImportTask['onDuplicate']
  #read = 0
  #dataBytes = 0
  #digest = 0n
  #expiring = 0

  constructor(writer: EngineWriter, onDuplicate: ImportTask['onDuplicate']) {
    this.#writer = writer
    this.#onDuplicate = onDuplicate
  }

  add(batch: readonly StoredRecord[]): void {
    this.#writer.transact(transaction => {
      for (const record of batch) {
        const at = this.#read++
        if (!transaction.insert(record)) {
          if (this.#onDuplicate === 'Fail')
            throw new KvidxError('duplicate_key', `record ${at}: key ${record.key} stands twice in the file`, {
              record: at,
              key: String(record.key),
            })
          if (this.#onDuplicate === 'Skip') {
            this.skipped++
            continue
          }
          const found = transaction.get(record.key)
          if (!found) throw new KvidxError('engine_corrupt', `key ${record.key} is neither there nor absent`)
          const old = { ...found, data: Buffer.from(found.data) }
          this.#forget(old)
          this.replaced++
          transaction.replace(old, record)
        }
        this.count++
        this.#dataBytes += record.data.length
        this.#digest += digestOfRecord(record)
        if (record.expiresAt !== 0n) this.#expiring++
      }
    })
    this.#digest = reduceDigest(this.#digest)
  }

  state(time: bigint): DatabaseState {
    const position = { epoch: 1n, seq: 0n }
    return {
      position,
      time,
      count: BigInt(this.count),
      dataBytes: BigInt(this.#dataBytes),
      digest: reduceDigest(this.#digest),
      expiring: BigInt(this.#expiring),
      logBase: position,
      logBytes: 0n,
    }
  }

  #forget(old: StoredRecord): void {
    this.count--
    this.#dataBytes -= old.data.length
    this.#digest -= digestOfRecord(old)
    if (old.expiresAt !== 0n) this.#expiring--
  }
}
