import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from 'vitest'
import { engineContract } from './contract.ts'

const PAGE = 4096

describe('LMDB', () => {
  engineContract({
    kind: 'LMDB',
    tuning: { syncMode: 'Full' },
    foreign: { cacheSize: 1 << 26, compression: 'Zstd', journalMode: 'WAL' },
    compactsInPlace: false,
    damage(directory) {
      // The fullest leaf that the last transaction wrote is in use: flips the offset of its first node.
      const file = join(directory, 'main.lmdb', 'data.mdb')
      const bytes = readFileSync(file)
      let best = { page: 0, transaction: 0n, nodes: 0 }
      for (let page = 2; (page + 1) * PAGE <= bytes.length; page++) {
        const at = page * PAGE
        if (bytes.readUInt16LE(at + 18) !== 2 || Number(bytes.readBigUInt64LE(at)) !== page) continue
        const transaction = bytes.readBigUInt64LE(at + 8)
        const nodes = bytes.readUInt16LE(at + 20)
        if (transaction > best.transaction || (transaction === best.transaction && nodes > best.nodes))
          best = { page, transaction, nodes }
      }
      bytes.writeUInt16LE(bytes.readUInt16LE(best.page * PAGE + 24) ^ 0x4000, best.page * PAGE + 24)
      writeFileSync(file, bytes)
    },
  })
})
