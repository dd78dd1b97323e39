import { expect } from 'vitest'
import type { DatabaseState } from '../../../sidecar/database/database.ts'
import { totalsOf } from '../../../sidecar/database/record-stream.ts'
import { decodeEpochs, decodeState, META } from '../../../sidecar/database/state.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'

/** What a restored directory holds, by opening it and reading all of it. */
export async function readRestored(engine: EngineKind, directory: string) {
  const writer = await openWriter({ kind: engine, directory, tuning: { syncMode: 'Off' } })
  const reader = await openReader(writer.share)
  try {
    const snapshot = reader.snapshot()
    const walk = totalsOf(snapshot)
    let totals = walk.step()
    while (!totals) totals = walk.step()
    const state = decodeState(snapshot.getMeta(META.state)!)
    const epochs = decodeEpochs(snapshot.getMeta(META.epochs)!)
    snapshot.release()
    return { totals, state, epochs }
  } finally {
    reader.close()
    writer.close()
  }
}

export function expectState(found: Awaited<ReturnType<typeof readRestored>>, wanted: DatabaseState): void {
  const { count, dataBytes, digest, expiring } = wanted
  expect(found.totals).toEqual({ count, dataBytes, digest, expiring })
  expect(found.state).toMatchObject({
    count,
    dataBytes,
    digest,
    expiring,
    position: wanted.position,
    time: wanted.time,
  })
}
