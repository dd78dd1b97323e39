import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { sidecarHere } from '../../support/sidecar-here.ts'

const MIB = 1024 * 1024

test.each(['SQLite', 'LMDB', 'RocksDB'] as const)(
  '%s: a scan that nobody reads on is cut when what it holds up has grown past the bound',
  {
    timeout: 60_000,
  },
  async engine => {
    const spec = { monitoring: { logLevel: 'Error' }, limits: { snapshotGrowth: '4Mi' } }
    const { sidecar, directory } = await sidecarHere({ spec, engine })
    await sidecar.serving
    const { database } = sidecar
    // the log of the engine is copied back each time, as far as the scan allows
    const write = async (key: number) => {
      await database.write({
        operations: [{ op: 'put', key: BigInt(key), term: 0n, cmd: 0n, data: randomBytes(MIB) }],
      })
      await database.runTask('checkpoint', {}, new AbortController().signal)
    }
    for (let key = 0; key < 12; key++) await write(key)
    const { chunks } = await database.scan(
      { range: EVERY_KEY, descending: false, values: true, format: 'binary', stored: true },
      new AbortController().signal,
    )
    const reader = chunks[Symbol.asyncIterator]()
    expect((await reader.next()).done).toBe(false)
    await vi.waitFor(() => expect(database.session().readers.held[0]?.baseline).toBeDefined(), { timeout: 8000 })
    for (let key = 0; key < 12; key++) await write(key)
    await expect(
      (async () => {
        for (let n = 0; n < 200; n++) {
          await new Promise(resolve => setTimeout(resolve, 200))
          if ((await reader.next()).done) return 'read to its end'
        }
        return 'not cut'
      })(),
    ).rejects.toMatchObject({ code: 'snapshot_cut' })
    expect(database.session().readers.held).toEqual([])
    if (engine !== 'SQLite') return
    await vi.waitFor(() => expect(statSync(join(directory, 'db', 'main.db-wal')).size).toBe(0), { timeout: 12_000 })
  },
)
