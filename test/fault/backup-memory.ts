/**
 * A process of its own whose memory is measured: stores a Full of synthetic records, verifies it, restores it. Arguments: MiB of data, store URL, scratch
 * directory, encrypted or plain. Prints one JSON line: the largest RSS of each stage in MiB.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { backupFull } from '../../sidecar/backup/backup.ts'
import { readLineage } from '../../sidecar/backup/catalog.ts'
import { resolveChain } from '../../sidecar/backup/chain.ts'
import { KeyRing, masterKey, NO_KEYS } from '../../sidecar/backup/key-ring.ts'
import { stageRestore } from '../../sidecar/backup/restore.ts'
import type { SnapshotSource } from '../../sidecar/backup/snapshot-source.ts'
import { openStoreUrl } from '../../sidecar/backup/store/open.ts'
import { verifyBackup } from '../../sidecar/backup/verify.ts'
import { digestOfRecord, reduceDigest } from '../../sidecar/database/digest.ts'
import { changeFileHeader } from '../../sidecar/database/frame.ts'
import { EMPTY_STATE } from '../../sidecar/database/state.ts'
import { systemClock } from '../../src/common/clock.ts'
import { random } from '../support/random.ts'

const [mib = '64', url = '', scratch = '', mode = 'plain'] = process.argv.slice(2)
const VALUE = 4096
const count = (Number(mib) * 1024 * 1024) / VALUE
const pool = Buffer.alloc(1 << 20)
const next = random(1)
// half noise, half zeros: it compresses to about a half
for (let i = 0; i < pool.length; i++) pool[i] = i % 128 < 64 ? Math.floor(next() * 256) : 0

function* records(): Generator<{ header: Buffer; data: Buffer; key: bigint }> {
  for (let i = 0; i < count; i++) {
    const header = Buffer.alloc(32)
    header.writeBigUInt64LE(BigInt(i), 0)
    header.writeBigUInt64LE(BigInt(VALUE), 24)
    const at = (i * 977) % (pool.length - VALUE)
    yield { header, data: pool.subarray(at, at + VALUE), key: BigInt(i) }
  }
}

async function* binary(): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(24)
  Buffer.from('004b564556494458', 'hex').copy(header)
  header.writeUInt32LE(1, 8)
  header.writeBigUInt64LE(BigInt(count), 16)
  let pieces: Uint8Array[] = [header]
  for (const record of records()) {
    pieces.push(record.header, record.data)
    if (pieces.length < 256) continue
    yield Buffer.concat(pieces)
    pieces = []
  }
  yield Buffer.concat(pieces)
}

let digest = 0n
for (const { key, data } of records())
  digest = reduceDigest(digest + digestOfRecord({ key, term: 0n, cmd: 0n, data, expiresAt: 0n }))
const source: SnapshotSource = {
  lineage: 'memory',
  epochs: [{ epoch: 1n, forkSeq: 0n, reason: 'created', time: 0n }],
  engine: 'SQLite',
  engineVersion: 'SQLite',
  state: {
    ...EMPTY_STATE,
    position: { epoch: 1n, seq: 9n },
    time: 9n,
    count: BigInt(count),
    dataBytes: BigInt(count * VALUE),
    digest,
  },
  minKey: 0n,
  maxKey: BigInt(count - 1),
  records: binary,
  async *expiries() {
    yield changeFileHeader('expiries')
  },
  release() {},
}
const home = { namespace: 'default', database: 'memory', lineage: 'memory' }
const credentials = () => ({
  accessKeyId: process.env.AWS_ACCESS_KEY_ID ?? '',
  secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY ?? '',
})
const context = {
  store: await openStoreUrl(url, { clock: systemClock, credentials }),
  keys: mode === 'encrypted' ? new KeyRing([masterKey(Buffer.alloc(32, 1))]) : NO_KEYS,
  clock: systemClock,
  software: 'test',
}
let peak = 0
const watch = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss())
}, 5)
const figures: Record<string, number> = { begin: Math.round(process.memoryUsage.rss() / (1 << 20)) }
async function stage<T>(name: string, work: () => Promise<T>): Promise<T> {
  peak = 0
  const result = await work()
  figures[name] = Math.round(peak / (1 << 20))
  return result
}

const full = await stage('backup', () => backupFull(context, { home, name: 'full', verify: true }, source))
const catalog = await readLineage(context.store, home)
mkdirSync(scratch)
const verification = await stage('verify', () =>
  verifyBackup(context, catalog, catalog.backups[0]!, { recorded: full.recorded, engine: 'SQLite', scratch }),
)
await stage('restore', () =>
  stageRestore(context, resolveChain(catalog, { kind: 'latest' }), {
    engine: 'SQLite',
    directory: `${scratch}/restored`,
  }),
)
clearInterval(watch)
rmSync(scratch, { recursive: true })
await context.store.close()
console.log(JSON.stringify({ ...figures, result: verification.result }))
