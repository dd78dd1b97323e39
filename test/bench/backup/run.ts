/**
 * Throughput and memory of backup, verification and restore: `node test/bench/backup/run.ts [MiB] [engine] [store URL]`.
 * Prints record data per second (MB = 10^6 bytes of the BINARY export) and the largest RSS.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { backupFull } from '../../../sidecar/backup/backup.ts'
import { readBackup, readLineage } from '../../../sidecar/backup/catalog.ts'
import { resolveChain } from '../../../sidecar/backup/chain.ts'
import { KeyRing, masterKey, NO_KEYS } from '../../../sidecar/backup/key-ring.ts'
import { stageRestore } from '../../../sidecar/backup/restore.ts'
import { snapshotOf } from '../../../sidecar/backup/snapshot-source.ts'
import { openStoreUrl } from '../../../sidecar/backup/store/open.ts'
import { verifyBackup } from '../../../sidecar/backup/verify.ts'
import { compress } from '../../../sidecar/backup/zstd.ts'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { random } from '../../support/random.ts'

const MIB = 1024 * 1024
const VALUE = 1024
const size = Number(process.argv[2] ?? 256) * MIB
const engine = (process.argv[3] ?? 'SQLite') as EngineKind
const root = mkdtempSync(join(process.env.KVIDX_BENCH_DIR ?? tmpdir(), 'kvidx-bench-backup-'))
for (const name of ['data', 'store', 'scratch']) mkdirSync(join(root, name))
const { signal } = new AbortController()

let peak = 0
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss())
}, 20)

/** JSON-like text: what compresses about as well as real records do. */
function* values(): Generator<Buffer> {
  const next = random(1)
  const words = Array.from({ length: 2000 }, () => Math.floor(next() * 2 ** 40).toString(36))
  for (;;) {
    let text = ''
    while (text.length < VALUE) text += `"${words[Math.floor(next() * words.length)]}":${Math.floor(next() * 1e6)},`
    yield Buffer.from(text.slice(0, VALUE))
  }
}

async function main(): Promise<void> {
  const config = databaseConfig({
    name: 'bench',
    engine,
    dataDirectory: join(root, 'data'),
    tuning: { syncMode: 'Off' },
  })
  const database = new LocalDatabase(config, systemClock, pino({ level: 'silent' }))
  await database.open(signal)
  const source = values()
  for (let key = 0n; database.state.dataBytes < BigInt(size); ) {
    const operations = Array.from({ length: 5000 }, () => ({
      op: 'put' as const,
      key: key++,
      term: 1n,
      cmd: 2n,
      data: source.next().value as Buffer,
      ...(key % 10n === 0n && { expiry: { at: 4_000_000_000_000n } }),
    }))
    await database.write({ operations })
  }
  const store = await openStoreUrl(process.argv[4] ?? `file://${join(root, 'store')}`, {
    clock: systemClock,
    credentials: () => ({
      accessKeyId: process.env.AWS_ACCESS_KEY_ID ?? '',
      secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY ?? '',
    }),
  })
  const home = { namespace: 'bench', database: 'bench', lineage: database.lineage }
  console.log(`${engine}, ${size / MIB} MiB of data, records of ${VALUE} B, store ${store.location}`)
  for (const [label, keys] of [
    ['plain', NO_KEYS],
    ['encrypted', new KeyRing([masterKey(Buffer.alloc(32, 1))])],
  ] as const) {
    const context = { store, keys, clock: systemClock, software: 'bench' }
    const snapshot = await snapshotOf(database, signal)
    await measure('snapshot stream alone', async () => {
      for await (const _ of snapshot.records());
    })
    await measure('  and zstd', async () => {
      for await (const _ of compress(snapshot.records()));
    })
    const full = await measure(`backup, ${label}`, () =>
      backupFull(context, { home, name: label, verify: true }, snapshot),
    )
    snapshot.release()
    const stored = full.manifest.files.reduce((sum, file) => sum + file.size, 0)
    console.log(`    stored ${(stored / 1e6).toFixed(0)} MB`)
    const catalog = await readLineage(store, home)
    const backup = await readBackup(store, home, 'Full', full.directory)
    const { result } = await measure(`verify, ${label}`, () =>
      verifyBackup(context, catalog, backup, { recorded: full.recorded, engine, scratch: join(root, 'scratch') }),
    )
    if (result !== 'Verified') throw new Error(`the backup is ${result}`)
  }
  const context = { store, keys: NO_KEYS, clock: systemClock, software: 'bench' }
  const chain = resolveChain(await readLineage(store, home), { kind: 'backup', name: 'plain' })
  for (const into of ['SQLite', 'LMDB', 'RocksDB'] as const)
    await measure(`restore into ${into}`, () =>
      stageRestore(context, chain, { engine: into, directory: join(root, `restored-${into}`) }),
    )
  await database.close()
  await store.close()
}

async function measure<T>(what: string, work: () => Promise<T>): Promise<T> {
  global.gc?.()
  peak = 0
  const before = process.memoryUsage.rss()
  const began = performance.now()
  const cpu = process.cpuUsage()
  const result = await work()
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const busy = (user + system) / 1e6
  const figures = `${seconds.toFixed(1)} s, CPU ${busy.toFixed(1)} s, RSS ${(before / MIB).toFixed(0)} to ${(peak / MIB).toFixed(0)} MiB`
  console.log(`  ${what}: ${(size / 1e6 / seconds).toFixed(0)} MB/s (${figures})`)
  return result
}

try {
  await main()
} finally {
  clearInterval(watch)
  rmSync(root, { recursive: true, force: true })
}
