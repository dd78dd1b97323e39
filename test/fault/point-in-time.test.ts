import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { readCatalog, readLineage } from '../../sidecar/backup/catalog.ts'
import { compactSegments, planCompaction } from '../../sidecar/backup/compaction.ts'
import { openStore } from '../../sidecar/backup/store/settings.ts'
import type { EngineKind, StoredRecord } from '../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../sidecar/engine/open.ts'
import { systemClock } from '../../src/common/clock.ts'
import { standalonePaths } from '../../src/standalone/paths.ts'
import { SCHEDULES, writeConfig } from '../integration/backup/running.ts'
import { s3Binary, s3Destination, startS3 } from '../integration/backup/s3-server.ts'
import { kvidx } from '../integration/cli/harness.ts'
import type { RunningS3 } from '../servers/versitygw.ts'
import { random } from '../support/random.ts'
import { runSidecar, type SidecarProcess } from '../support/sidecar-process.ts'
import { Ledger, Load } from './point-in-time-load.ts'

/**
 * A database under write load ships to a store; then it is killed and its volume is lost. Random moments are restored from the store alone, and what comes
 * back is compared, record by record, with what was acknowledged to the writers. What they know of it is kept outside of the database.
 */
const MOMENTS = Number(process.env.KVIDX_FAULT_MOMENTS ?? 20)
const LOAD_MS = Number(process.env.KVIDX_FAULT_LOAD_MS ?? 12_000)
const SEED = Number(process.env.KVIDX_FAULT_SEED ?? Date.now() % 1_000_000)
const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']

vi.setConfig({ testTimeout: 600_000, hookTimeout: 120_000 })

interface Place {
  readonly backup: object
  /** For `--store`. */
  readonly url: string
}

let root: string
let process_: SidecarProcess | undefined
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kvidx-point-in-time-'))
})
afterEach(async () => {
  await process_?.kill('SIGKILL')
  rmSync(root, { recursive: true, force: true })
})

describe.each<EngineKind>(['SQLite', 'RocksDB'])('a directory store, %s', engine => {
  test(`gives back ${MOMENTS} random moments (seed ${SEED})`, async () => {
    const { backups } = standalonePaths(root, 'default', 'orders')
    await loseAndRestore(engine, {
      backup: { destination: { volume: { size: '1Gi' } } },
      url: `file://${backups}`,
    })
  })
})

describe.skipIf(!s3Binary)('an S3 server, LMDB', () => {
  let server: RunningS3
  beforeEach(async () => {
    server = await startS3()
    process.env.AWS_ACCESS_KEY_ID = server.accessKeyId
    process.env.AWS_SECRET_ACCESS_KEY = server.secretAccessKey
  })
  afterEach(() => server.stop())
  afterAll(() => {
    delete process.env.AWS_ACCESS_KEY_ID
    delete process.env.AWS_SECRET_ACCESS_KEY
  })

  test(`gives back ${MOMENTS} random moments (seed ${SEED})`, async () => {
    const destination = s3Destination(server, root)
    const { bucket, prefix, endpoint, region } = destination.s3
    await loseAndRestore('LMDB', {
      backup: { destination },
      url: `s3://${bucket}/${prefix}?endpoint=${endpoint}&region=${region}`,
    })
  })
})

async function loseAndRestore(engine: EngineKind, place: Place): Promise<void> {
  const ledger = new Ledger()
  const window = await runUnderLoad(engine, place, ledger)
  const next = random(SEED + engine.length)
  const told = { records: 0, expiredAndGone: 0, sources: 0, commits: ledger.length }
  for (let i = 0; i < MOMENTS; i++) {
    // the second half reads segments that were merged
    if (i === MOMENTS >> 1) await compact(place.url)
    const moment = Math.floor(window.from + next() * (window.to - window.from))
    const into = ENGINES[i % ENGINES.length] as EngineKind
    const found = await restoreAt(moment, into, place.url)
    const { gone } = ledger.compare(found, moment, `moment ${i} of seed ${SEED}, ${new Date(moment).toISOString()}`)
    told.records += found.records.size
    told.expiredAndGone += gone
    told.sources += found.sources
  }
  expect(told.records).toBeGreaterThan(MOMENTS * 20)
  expect(told.expiredAndGone).toBeGreaterThan(0)
  console.log(
    `${engine}, ${place.url.slice(0, 5)}: ${MOMENTS} moments of ${told.commits} acknowledged calls (${ledger.summary}) restored into ${ENGINES.join(', ')}: ${told.records} records equal, ${told.expiredAndGone} expired and removed, ${told.sources} files read; seed ${SEED}`,
  )
}

/** Ends with a process that was killed, a volume that is empty and everything acknowledged in the store. */
async function runUnderLoad(engine: EngineKind, place: Place, ledger: Ledger): Promise<{ from: number; to: number }> {
  const { data } = standalonePaths(root, 'default', 'orders')
  const configFile = writeConfig(root, 'orders', engine, {
    backup: { ...place.backup, schedules: SCHEDULES, continuous: { enabled: true, interval: '100ms' } },
    maintenance: { expiry: { interval: '1s' } },
  })
  process_ = await runSidecar(configFile, data)
  const { data: url, operations } = process_
  const load = new Load(url, ledger, random(SEED))
  load.start()
  await pause(LOAD_MS / 6)
  await create(url, 'Full')
  const from = Date.now()
  await pause(LOAD_MS / 3)
  await create(url, 'Incremental')
  await pause(LOAD_MS / 6)
  await create(url, 'Full')
  await pause(LOAD_MS / 3)
  await load.stop()
  const to = Date.now()
  await expect
    .poll(async () => ((await (await fetch(`${operations}/status`)).json()) as Status).backup.continuous, {
      timeout: 60_000,
    })
    .toMatchObject({ state: 'Shipping', backlogChanges: 0 })
  await process_.kill('SIGKILL')
  process_ = undefined
  rmSync(data, { recursive: true })
  mkdirSync(data)
  return { from, to }
}

interface Status {
  readonly backup: { readonly continuous: object }
}

async function create(url: string, type: string): Promise<void> {
  const ran = await kvidx(['backup', 'create', '--type', type, '--server', url, '--output', 'json'])
  expect([ran.code, ran.notes]).toEqual([0, ''])
  expect(JSON.parse(ran.out)).toMatchObject({ phase: 'Completed', type, verification: 'Verified' })
}

/** As a busy hour would do it, now. */
async function compact(url: string): Promise<void> {
  const context = await openStore({ url }, systemClock)
  try {
    const [before] = await readCatalog(context.store, { namespace: 'default', database: 'orders' })
    if (!before) throw new Error('the store is empty')
    const policy = { levels: [64 * 1024, 16 * 1024 * 1024], minFiles: 3, graceMs: 0 }
    const merged = await compactSegments(context, before.home, planCompaction(before.segments, policy, Date.now()))
    const between = await readLineage(context.store, before.home)
    await compactSegments(context, before.home, {
      ...planCompaction(between.segments, policy, Date.now() + 1),
      merges: [],
    })
    expect(merged.merged).toBeGreaterThan(0)
    expect((await readLineage(context.store, before.home)).segments.length).toBeLessThan(before.segments.length)
  } finally {
    await context.store.close()
  }
}

/** `kvidx backup restore`, offline, and everything that the engine then holds. */
async function restoreAt(moment: number, engine: EngineKind, url: string) {
  const directory = join(root, 'restored')
  rmSync(directory, { recursive: true, force: true })
  const at = new Date(moment).toISOString()
  const args = ['--store', url, '--at', at, '--data-dir', directory, '--engine', engine, '--output', 'json']
  const ran = await kvidx(['backup', 'restore', ...args])
  expect([ran.code, ran.notes]).toEqual([0, ''])
  const told = JSON.parse(ran.out) as { reached: string; reachedTime: string; count: string; sources: number }
  const records = new Map<bigint, StoredRecord>()
  const writer = await openWriter({ kind: engine, directory: join(directory, 'db'), tuning: { syncMode: 'Off' } })
  const reader = await openReader(writer.share)
  const snapshot = reader.snapshot()
  snapshot.scan(EVERY_KEY, false, record => {
    // the engine may use its memory again
    records.set(record.key, { ...record, data: Buffer.from(record.data) })
    return true
  })
  snapshot.release()
  reader.close()
  writer.close()
  expect(records.size).toBe(Number(told.count))
  const [epoch, seq] = told.reached.split('.').map(BigInt) as [bigint, bigint]
  expect(epoch).toBe(1n)
  return { records, seq, time: Number(told.reachedTime), sources: told.sources }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
