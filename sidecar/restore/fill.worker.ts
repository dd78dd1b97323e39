import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { systemClock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { formatDigest } from '../database/digest.ts'
import { toPlain } from '../database/plain-error.ts'
import { readTotals } from '../database/record-stream.ts'
import type { EngineOptions } from '../engine/engine.ts'
import { openReader, openWriter } from '../engine/open.ts'
import { syncTree } from '../volume/sync-tree.ts'
import { Comparison } from './compare.ts'
import type { Filled, FillProgress, FillTask, FromFill, ToFill } from './fill.ts'
import { fillFromDamaged } from './from-damaged.ts'
import { fillFromFile } from './from-file.ts'
import { fillFromStore } from './from-store.ts'

const port = parentPort as MessagePort
const { task, compare } = workerData as { task: FillTask; compare: boolean }
const controller = new AbortController()
/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL = 200
let reported = 0

port.on('message', (message: ToFill) => {
  if (message.type === 'cancel') controller.abort()
  else
    comparing = comparing
      .then(async comparison => {
        if (message.type === 'live') {
          await comparison?.push(message.chunk)
          post({ type: 'taken' })
        } else if (comparison) post({ type: 'compared', difference: await comparison.end() })
        return comparison
      })
      .catch((error: unknown) => {
        post({ type: 'failed', error: toPlain(error) })
        return undefined
      })
})

let comparing: Promise<Comparison | undefined> = Promise.resolve(undefined)

try {
  const filled = await fill()
  await readBack(task.engine, filled)
  if (compare) comparing = Promise.resolve(await Comparison.open(task.engine))
  post({ type: 'filled', filled })
  if (!compare) port.close()
} catch (error) {
  post({
    type: 'failed',
    error: toPlain(
      controller.signal.aborted ? new KvidxError('cancelled', 'the restore was cancelled', {}, error) : error,
    ),
  })
  port.close()
}

function fill(): Promise<Filled> {
  switch (task.kind) {
    case 'restore':
      return fillFromStore(task, systemClock, controller.signal, progress)
    case 'import':
      return fillFromFile(task, systemClock, controller.signal, progress)
    case 'salvage':
      // one long synchronous walk: it looks for its cancellation itself
      return fillFromDamaged(task, progress, () => {
        if ((receiveMessageOnPort(port) as { message: ToFill } | undefined)?.message.type === 'cancel')
          controller.abort()
        return controller.signal.aborted
      })
  }
}

function progress(now: FillProgress): void {
  const time = performance.now()
  if (time - reported < PROGRESS_INTERVAL && now.stage !== 'syncing') return
  reported = time
  post({ type: 'progress', progress: now })
}

/** Reads what was filled from end to end; only what comes out of the engine counts. Errors: engine_corrupt. */
async function readBack(options: EngineOptions, filled: Filled): Promise<void> {
  const writer = await openWriter({ ...options, tuning: { ...options.tuning, syncMode: 'Off' } })
  try {
    const reader = await openReader(writer.share)
    const snapshot = reader.snapshot()
    try {
      // the port's messages, a cancellation among them, come only between turns
      const totals = await readTotals(snapshot, records => {
        progress({ stage: 'verifying', records })
        if (controller.signal.aborted) throw new KvidxError('cancelled', 'the restore was cancelled')
      })
      if (String(totals.count) !== filled.count || formatDigest(totals.digest) !== filled.digest)
        throw new KvidxError(
          'engine_corrupt',
          `the restored database holds ${totals.count} records with digest ${formatDigest(totals.digest)}; ${filled.count} with ${filled.digest} were written`,
        )
    } finally {
      snapshot.release()
      reader.close()
    }
  } finally {
    writer.close()
  }
  // opening and closing may have written again
  await syncTree(options.directory)
}

function post(message: FromFill): void {
  port.postMessage(message)
}
