import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from 'vitest'
import { engineContract } from './contract.ts'

describe('SQLite', () => {
  engineContract({
    kind: 'SQLite',
    tuning: { syncMode: 'Full' },
    foreign: { mapSize: 1 << 30, compression: 'Zstd' },
    compactsInPlace: true,
    damage(directory) {
      // Flips bits of the cell pointer array of a page in the middle: the B-tree itself, not a value.
      const file = openSync(join(directory, 'main.db'), 'r+')
      writeSync(file, Uint8Array.of(0xff, 0xff, 0xff, 0xff), 0, 4, 20 * 8192 + 8)
      closeSync(file)
    },
  })
})
