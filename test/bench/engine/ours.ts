import { pino } from 'pino'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { giveBack } from '../../../sidecar/database/packed-stream.ts'
import { META } from '../../../sidecar/database/state.ts'
import { type EngineKind, EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { BINARY_MAGIC } from '../../../sidecar/format/binary-writer.ts'
import { systemClock } from '../../../src/common/clock.ts'
import type { Loop, LoopMaker } from './workload.ts'

/** Batches on their way to the writer's thread: one is packed while another is committed. */
const AHEAD = 2

/**
 * The same work through the database: writes with their frame in the change log, counters and content digest, through the writer's thread; point
 * reads with the position of the same moment, and scans of a snapshot, in this thread; exports and imports as the data API makes them, without HTTP.
 */
export function ourLoop(kind: EngineKind): LoopMaker {
  return {
    engine: kind,
    name: 'ours',
    async open(directory) {
      const database = new LocalDatabase(
        databaseConfig({ name: 'bench', engine: kind, dataDirectory: directory, tuning: { syncMode: 'Full' } }),
        systemClock,
        pino({ level: 'silent' }),
      )
      const { signal } = new AbortController()
      await database.open(signal)
      // the readers' threads start when they are needed, which is not what is measured
      ;(await database.snapshot(signal)).release()
      return loopOf(database, signal)
    },
  }
}

function loopOf(database: LocalDatabase, signal: AbortSignal): Loop {
  const put = async (keys: readonly bigint[], data: Uint8Array, batch: number): Promise<void> => {
    const { position } = database.state
    const running: Promise<unknown>[] = []
    for (let start = 0; start < keys.length; start += batch) {
      const part = keys.slice(start, start + batch)
      running.push(database.write({ operations: part.map(key => ({ op: 'put', key, term: 1n, cmd: 2n, data })) }))
      if (running.length >= AHEAD) await running.shift()
      // the group goes out with the turn: the next batch shall be a commit of its own
      await new Promise(resolve => setImmediate(resolve))
    }
    await Promise.all(running)
    const logged = database.state.position.seq - position.seq
    if (logged !== BigInt(keys.length)) throw new Error(`${logged} changes were logged, ${keys.length} made`)
  }
  return {
    async insert(keys, data, batch) {
      const before = database.state
      await put(keys, data, batch)
      const { count, digest, logBytes } = database.state
      if (count - before.count !== BigInt(keys.length) || digest === before.digest || logBytes <= before.logBytes)
        throw new Error('counters, digest or change log did not move')
    },
    overwrite: put,
    get(keys) {
      let bytes = 0
      const { points } = database.session()
      for (const key of keys) bytes += points.getWithMeta(key, META.state).record?.data.length ?? 0
      return bytes
    },
    scan() {
      let bytes = 0
      const snapshot = database.session().points.snapshot()
      snapshot.scan(EVERY_KEY, false, record => {
        bytes += record.data.length
      })
      snapshot.release()
      return bytes
    },
    async exported() {
      let bytes = -24
      const options = { range: EVERY_KEY, descending: false, values: true, format: 'binary', stored: false } as const
      const { chunks } = await database.scan(options, signal)
      for await (const chunk of chunks) {
        bytes += chunk.length
        giveBack(chunk)
      }
      return bytes
    },
    async imported(records, count) {
      const header = Buffer.alloc(24)
      header.set(BINARY_MAGIC)
      header.writeUInt32LE(1, 8)
      header.writeBigUInt64LE(BigInt(count), 16)
      async function* body(): AsyncGenerator<Uint8Array> {
        yield header
        yield* records
      }
      const options = { format: 'binary', onDuplicate: 'fail', clear: true, atomic: true } as const
      const result = await database.import(body(), options, signal)
      if (Number(result.imported) !== count) throw new Error(`${result.imported} of ${count} records were imported`)
    },
    close: () => database.close(),
  }
}
