import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, describe, expect, it } from 'vitest'
import { backupFull } from '../../../sidecar/backup/backup.ts'
import { NO_KEYS } from '../../../sidecar/backup/key-ring.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { DirectoryStore } from '../../../sidecar/backup/store/directory.ts'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { systemClock } from '../../../src/common/clock.ts'

const GOLDEN = join(import.meta.dirname, '../../fixtures/kvidxkit')
const zstd = spawnSync('zstd', ['--version']).status === 0
if (!zstd) console.warn('\n*** there is no zstd program here: that others can read our backups is NOT tested ***\n')

describe('a backup of a database that kvidxkit wrote', () => {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-golden-'))
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  it.skipIf(!zstd)("is, unpacked by the zstd program, byte for byte the library's own BINARY export", async () => {
    for (const name of ['data/db', 'store']) mkdirSync(join(root, name), { recursive: true })
    copyFileSync(join(GOLDEN, 'sqlite3/golden.sqlite3'), join(root, 'data/db/main.db'))
    const config = databaseConfig({ name: 'golden', engine: 'SQLite', dataDirectory: join(root, 'data') })
    const database = new LocalDatabase(config, systemClock, pino({ level: 'silent' }))
    const { signal } = new AbortController()
    await database.open(signal)
    const snapshot = await snapshotOf(database, signal)
    const context = {
      store: new DirectoryStore(join(root, 'store')),
      keys: NO_KEYS,
      clock: systemClock,
      software: 'test',
    }
    const home = { namespace: 'default', database: 'golden', lineage: database.lineage }
    const { path } = await backupFull(context, { home, name: 'golden', verify: false }, snapshot)
    snapshot.release()
    await database.close()
    const { stdout } = spawnSync('zstd', ['-dc', join(root, 'store', path, 'records.kvidx.zst')], {
      maxBuffer: 1 << 26,
    })
    // the LMDB backend's export: the SQLite backend's is in signed order and leaves the keys from 2^63 on out
    expect(stdout.equals(readFileSync(join(GOLDEN, 'lmdb/export.bin')))).toBe(true)
  })
})
