import { parentPort, workerData } from 'node:worker_threads'
import type { EngineReader, EngineShare, EngineSnapshot } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openReader } from '../../../sidecar/engine/open.ts'

/** A reader in a thread of its own, commanded by messages: what the contract suite uses to read beside the writer. */
export type Command =
  | { readonly do: 'get'; readonly key: bigint; readonly meta: string }
  | { readonly do: 'snapshot' }
  | { readonly do: 'keys' }
  | { readonly do: 'release' }
  | { readonly do: 'race'; readonly key: bigint; readonly until: number }
  | { readonly do: 'close' }

const port = parentPort
if (port === null) throw new Error('This is a worker')
const reader = await openReader(workerData as EngineShare)
let snapshot: EngineSnapshot | undefined

function text(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes)
}

function answer(command: Command): unknown {
  switch (command.do) {
    case 'get': {
      const { record, meta } = reader.getWithMeta(command.key, command.meta)
      return { data: text(record?.data), meta: text(meta) }
    }
    case 'snapshot':
      snapshot = reader.snapshot()
      return true
    case 'keys': {
      const keys: bigint[] = []
      snapshot?.scan(EVERY_KEY, false, record => {
        keys.push(record.key)
      })
      return { keys, count: snapshot?.count(EVERY_KEY), meta: text(snapshot?.getMeta('state')) }
    }
    case 'release':
      snapshot?.release()
      snapshot = undefined
      return true
    case 'race':
      return race(reader, command.key, command.until)
    case 'close':
      snapshot?.release()
      reader.close()
      return true
  }
}

/**
 * Reads the key and the metadata `state` until they say `until`; the writer sets both to the same number in one commit.
 * Returns what was wrong: a torn pair, or a number that went back.
 */
function race(from: EngineReader, key: bigint, until: number): { problems: string[]; reads: number } {
  const problems: string[] = []
  let last = -1
  let reads = 0
  const give = Date.now() + 20_000
  while (last < until && problems.length < 5) {
    const { record, meta } = from.getWithMeta(key, 'state')
    reads++
    const data = Number(text(record?.data) ?? -1)
    const state = Number(text(meta) ?? -1)
    if (data !== state) problems.push(`data ${data} with state ${state}`)
    if (state < last) problems.push(`state ${state} after ${last}`)
    last = state
    if (Date.now() > give) problems.push(`still at ${last} after 20 s`)
    if (reads % 16 === 0) {
      const view = from.snapshot()
      try {
        const inside = Number(text(view.get(key)?.data) ?? -1)
        const stated = Number(text(view.getMeta('state')) ?? -1)
        const count = view.count(EVERY_KEY)
        if (inside !== stated) problems.push(`snapshot: data ${inside} with state ${stated}`)
        if (count !== stated + 1 && stated >= 0) problems.push(`snapshot: ${count} records at state ${stated}`)
      } finally {
        view.release()
      }
    }
  }
  return { problems, reads }
}

port.on('message', (command: Command) => {
  try {
    port.postMessage({ ok: answer(command) })
  } catch (thrown) {
    port.postMessage({ error: String(thrown) })
  }
  if (command.do === 'close') port.close()
})
port.postMessage({ ok: 'open' })
