import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openRocksWriter } from '../../../sidecar/engine/rocksdb/writer.ts'
import { noise, record } from './records.ts'

/** Commits batch after batch until it is killed, and says each key range once its commit was acknowledged. */
const [directory = '', syncMode = 'Full'] = process.argv.slice(2)
const writer = openRocksWriter({
  kind: 'RocksDB',
  directory,
  tuning: { syncMode: syncMode === 'Normal' ? 'Normal' : syncMode === 'Off' ? 'Off' : 'Full' },
})
let next = 0n
writer.view.scan(EVERY_KEY, true, ({ key }) => {
  next = key + 1n
  return false
})
for (;;) {
  const first = next
  writer.transact(transaction => {
    for (let index = 0; index < 50; index++, next++)
      transaction.insert(record(next, noise(200, Number(next)), next + 1n))
    transaction.putMeta('count', new TextEncoder().encode(String(next)))
    transaction.appendLog({ firstSeq: first + 1n, lastSeq: next, frame: noise(500) })
  })
  if (next % 5000n === 0n) writer.checkpoint('passive')
  process.stdout.write(`${next}\n`)
}
