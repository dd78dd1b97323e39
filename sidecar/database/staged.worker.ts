import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { StoredRecord } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { createDecoder } from '../format/decode.ts'
import { digestOfRecord, reduceDigest } from './digest.ts'
import type { FromStaged, StagedData, ToStaged } from './staged.ts'
import { encodeEpochs, encodeState, META } from './state.ts'
import { toPlain } from './writer-protocol.ts'

/** Builds a whole database beside the running one, from a stream of records. */

const port = parentPort as MessagePort
const data = workerData as StagedData
// durable only at the end: a crash before throws the whole staging away
const engine = await openWriter({ ...data.options, tuning: { ...data.options.tuning, syncMode: 'Off' } })

let count = 0
let dataBytes = 0
let digest = 0n
let expiring = 0
let skipped = 0
let replaced = 0
/** Records of the present block; their data lies in it. */
let batch: StoredRecord[] = []
const decoder = createDecoder(data.format, { maxDataBytes: data.maxDataBytes, openEnd: true }, record => {
  batch.push(record)
})

port.on('message', (message: ToStaged) => {
  try {
    switch (message.type) {
      case 'abandon':
        // first: whatever becomes of the engine, the thread ends
        port.close()
        return engine.close()
      case 'chunk':
        decoder.push(message.chunk)
        store()
        return post({ type: 'taken', buffer: message.chunk.buffer }, [message.chunk.buffer])
      case 'end':
        decoder.end()
        store()
        return post({ type: 'ended', read: decoder.records, imported: count, skipped, replaced })
      case 'finish':
        engine.transact(transaction => {
          transaction.putMeta(META.epochs, encodeEpochs(message.epochs))
          transaction.putMeta(
            META.state,
            encodeState({
              position: message.position,
              time: message.time,
              count: BigInt(count),
              dataBytes: BigInt(dataBytes),
              digest: reduceDigest(digest),
              expiring: BigInt(expiring),
              logBase: message.position,
              logBytes: 0n,
            }),
          )
        })
        engine.flush()
        engine.checkpoint('truncate')
        engine.close()
        post({ type: 'finished' })
        return port.close()
    }
  } catch (error) {
    post({ type: 'failed', error: toPlain(error) })
  }
})

post({ type: 'taken' })

function store(): void {
  if (batch.length === 0) return
  engine.transact(transaction => {
    failpoint('staged.within')
    batch.forEach((record, index) => {
      if (!transaction.insert(record)) {
        if (data.onDuplicate === 'skip') {
          skipped++
          return
        }
        if (data.onDuplicate === 'fail')
          throw new KvidxError(
            'duplicate_key',
            `record ${decoder.records - batch.length + index}: key ${record.key} stands twice in the file`,
            {
              record: decoder.records - batch.length + index,
              key: String(record.key),
            },
          )
        const old = transaction.get(record.key)
        if (!old) throw new KvidxError('engine_corrupt', `key ${record.key} is neither there nor absent`)
        digest -= digestOfRecord(old)
        dataBytes -= old.data.length
        if (old.expiresAt !== 0n) expiring--
        count--
        replaced++
        transaction.replace({ ...old, data: Buffer.from(old.data) }, record)
      }
      count++
      dataBytes += record.data.length
      if (record.expiresAt !== 0n) expiring++
      digest += digestOfRecord(record)
    })
  })
  digest = reduceDigest(digest)
  batch = []
}

function post(message: FromStaged, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}
