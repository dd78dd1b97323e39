import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { StagedDatabase } from '../../../sidecar/database/staged.ts'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

/** Records whose sender goes away while the last of them are being stored. */
async function* broken(): AsyncGenerator<Uint8Array> {
  const line = (key: number) => `{"key":"${key}","term":"0","cmd":"0","data":"eHh4"}\n`
  for (let key = 0; key < 10_000; key += 1000)
    yield Buffer.from(Array.from({ length: 1000 }, (_, index) => line(key + index)).join(''))
  throw new Error('gone')
}

const ENGINES = ['SQLite', 'LMDB', 'RocksDB'] as const

test.each(ENGINES)(
  '%s: an import that breaks off in a transaction ends its thread',
  { timeout: 30_000 },
  async kind => {
    vi.stubEnv('KVIDX_FAILPOINTS', 'staged.within=sleep(200)')
    onTestFinished(() => void vi.unstubAllEnvs())
    const directory = join(temporaryDirectory(), 'staged')
    mkdirSync(directory)
    const options = { kind, directory, tuning: { syncMode: 'Full' } } as const
    const staged = await StagedDatabase.open({ options, format: 'ndjson', onDuplicate: 'fail', maxDataBytes: 1 << 20 })
    await expect(staged.load(broken(), new AbortController().signal)).rejects.toThrow('gone')
    // nobody has waited for the answer to its last block
    await new Promise(resolve => setTimeout(resolve, 50))
    await staged.abandon()
    await staged.abandon()
  },
)
