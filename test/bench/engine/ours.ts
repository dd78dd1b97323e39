import { type EngineKind, EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'
import type { LoopMaker } from './workload.ts'

/** The same work through the engine interface: point reads with metadata, scans of a snapshot. */
export function ourLoop(kind: EngineKind): LoopMaker {
  return {
    engine: kind,
    name: 'ours',
    async open(directory) {
      const writer = await openWriter({ kind, directory, tuning: { syncMode: 'Full' } })
      const reader = await openReader(writer.share)
      writer.transact(transaction => transaction.putMeta('state', new Uint8Array(100)))
      return {
        insert(keys, data, batch) {
          for (let start = 0; start < keys.length; start += batch)
            writer.transact(transaction => {
              for (const key of keys.slice(start, start + batch))
                transaction.insert({ key, term: 1n, cmd: 2n, data, expiresAt: 0n })
            })
        },
        get(keys) {
          let bytes = 0
          for (const key of keys) bytes += reader.getWithMeta(key, 'state').record?.data.length ?? 0
          return bytes
        },
        scan() {
          let bytes = 0
          const snapshot = reader.snapshot()
          snapshot.scan(EVERY_KEY, false, record => {
            bytes += record.data.length
          })
          snapshot.release()
          return bytes
        },
        close() {
          reader.close()
          writer.close()
        },
      }
    },
  }
}
