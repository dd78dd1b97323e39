import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { KvidxError } from '../../src/common/errors.ts'
import { failpoint } from '../../src/common/failpoint.ts'
import type { StoredRecord, WriteTransaction } from '../engine/engine.ts'
import { openWriter } from '../engine/open.ts'
import { createDecoder } from '../format/decode.ts'
import { digestOfRecord, reduceDigest } from './digest.ts'
import { toPlain } from './plain-error.ts'
import type { FromStaged, StagedData, ToStaged } from './staged.ts'
import { encodeEpochs, encodeState, META } from './state.ts'

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
/** That of the present block. */
let transaction: WriteTransaction | undefined
// each record goes in as it is read: gathered before, their objects would outlive the young generation and fill the old one
const decoder = createDecoder(data.format, { maxDataBytes: data.maxDataBytes, openEnd: true }, record => {
  insert(transaction as WriteTransaction, record)
})

port.on('message', (message: ToStaged) => {
  try {
    switch (message.type) {
      case 'abandon':
        // first: whatever becomes of the engine, the thread ends
        port.close()
        return engine.close()
      case 'chunk':
        store(() => decoder.push(message.chunk))
        return post({ type: 'taken', buffer: message.chunk.buffer }, [message.chunk.buffer])
      case 'end':
        store(() => decoder.end())
        return post({ type: 'ended', read: decoder.records, imported: count + replaced, skipped, replaced })
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

/** One transaction. @param read has the decoder hand out what it finds */
function store(read: () => void): void {
  engine.transact(given => {
    failpoint('staged.within')
    transaction = given
    read()
  })
  digest = reduceDigest(digest)
}

function insert(into: WriteTransaction, record: StoredRecord): void {
  if (!into.insert(record)) {
    if (data.onDuplicate === 'skip') {
      skipped++
      return
    }
    if (data.onDuplicate === 'fail') {
      const index = decoder.records - 1
      throw new KvidxError('duplicate_key', `record ${index}: key ${record.key} stands twice in the file`, {
        record: index,
        key: String(record.key),
      })
    }
    const old = into.get(record.key)
    if (!old) throw new KvidxError('engine_corrupt', `key ${record.key} is neither there nor absent`)
    digest -= digestOfRecord(old)
    dataBytes -= old.data.length
    if (old.expiresAt !== 0n) expiring--
    count--
    replaced++
    into.replace({ ...old, data: Buffer.from(old.data) }, record)
  }
  count++
  dataBytes += record.data.length
  if (record.expiresAt !== 0n) expiring++
  digest += digestOfRecord(record)
}

function post(message: FromStaged, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}
