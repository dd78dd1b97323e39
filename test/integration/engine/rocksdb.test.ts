import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { engineContract } from './contract.ts'
import { describeWithRocksdb } from './native.ts'

describeWithRocksdb('RocksDB', () => {
  engineContract({
    kind: 'RocksDB',
    tuning: { syncMode: 'Full' },
    foreign: { mapSize: 1 << 30, journalMode: 'WAL' },
    compactsInPlace: true,
    damage(directory) {
      // Flips bits inside a data block of the largest table: its checksum must not fit any more.
      const database = join(directory, 'main.rocks')
      const tables = readdirSync(database).filter(name => name.endsWith('.sst'))
      const largest = tables.map(name => join(database, name)).sort((a, b) => statSync(b).size - statSync(a).size)[0]!
      const file = openSync(largest, 'r+')
      writeSync(file, Uint8Array.of(0xff, 0x00, 0xff, 0x00), 0, 4, 5000)
      closeSync(file)
    },
  })
})
