import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { configuredStore, openStore } from '../../../sidecar/backup/store/settings.ts'
import type { EngineKind, StoredRecord } from '../../../sidecar/engine/engine.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { openReader, openWriter } from '../../../sidecar/engine/open.ts'
import { type BackupJobResult, runBackupJob } from '../../../sidecar/job/backup-job.ts'
import { readConfigFile } from '../../../sidecar/settings.ts'
import type { Answer } from '../../../src/cli/client.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { kvidx } from '../cli/harness.ts'
import { type Call, cutEverySnapshot, cutSnapshots, hookedClient } from './hooked-client.ts'
import { type Running, remove, startRunning } from './running.ts'
import { s3Binary, s3Destination, startS3 } from './s3-server.ts'

const MIB = 1024 * 1024
/** More than the buffers between server and client hold, so that a snapshot is still being read when a test looks. */
const LARGE = 24

const start = (engine: EngineKind, spec: object) => started({ engine, spec })

async function started(given: Parameters<typeof startRunning>[0]): Promise<Running> {
  const running = await startRunning(given)
  onTestFinished(async () => {
    await running.stop()
    remove(running)
  })
  return running
}

/** The job, beside whose calls a test does something. */
async function backup(
  running: Running,
  hooks: Parameters<typeof hookedClient>[1],
  signal: AbortSignal = new AbortController().signal,
): Promise<{ result: BackupJobResult; scratch: string; stages: Set<string> }> {
  const opened = await openStore(configuredStore(readConfigFile(running.configFile).dynamic.backup!), systemClock)
  const scratch = join(running.root, 'scratch')
  mkdirSync(scratch, { recursive: true })
  const stages = new Set<string>()
  try {
    const result = await runBackupJob(
      { ...opened, clock: systemClock, software: 'test', signal },
      await hookedClient(running.url, hooks),
      { name: 'sliced', retry: false, type: 'Full', verify: true, incrementalSchedules: [], scratch },
      stage => stages.add(stage),
    )
    return { result, scratch, stages }
  } finally {
    await opened.store.close()
  }
}

const consumers = (running: Running) => running.sidecar.database.consumers()
const fill = async ({ sidecar }: Running, count: number, bytes: number) => {
  for (let key = 0; key < count; key++)
    await sidecar.database.write({
      operations: [{ op: 'put', key: BigInt(key), term: 0n, cmd: 0n, data: randomBytes(bytes) }],
    })
}
/** Cuts the whole snapshot while it is read. */
const cutWhole = (running: Running) => ({
  answered: async ({ whole }: Call, answer: Answer) => {
    if (whole) cutSnapshots(running.sidecar.database)
    return answer
  },
})

type Content = Map<string, string>
const lineOf = ({ key, term, cmd, expiresAt, data }: StoredRecord): [string, string] => [
  String(key),
  `${term} ${cmd} ${expiresAt} ${data.length} ${createHash('sha1').update(data).digest('hex')}`,
]

/** What was acknowledged, kept outside the database. Each writer has keys of its own: requests of one moment may share a commit, in which nobody sees an order. */
class Ledger {
  readonly #entries: { seq: bigint; apply: (records: Map<bigint, StoredRecord>) => void }[] = []
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  async send(
    method: string,
    path: string,
    apply: (records: Map<bigint, StoredRecord>) => void,
    body?: Uint8Array | string,
    headers: Record<string, string> = {},
  ): Promise<void> {
    const answer = await fetch(this.#url + path, { method, headers, ...(body !== undefined && { body }) })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
    this.#entries.push({ seq: BigInt(answer.headers.get('kvidx-position')!.split('.')[1]!), apply })
  }

  at(seq: bigint): Content {
    const records = new Map<bigint, StoredRecord>()
    const until = this.#entries
      .filter(entry => entry.seq <= seq)
      .sort((a, b) => (a.seq < b.seq ? -1 : a.seq > b.seq ? 1 : 0))
    for (const { apply } of until) apply(records)
    return new Map([...records.values()].sort((a, b) => (a.key < b.key ? -1 : 1)).map(lineOf))
  }

  get newest(): bigint {
    return this.#entries.reduce((most, { seq }) => (seq > most ? seq : most), 0n)
  }

  /** Writes of every kind to the keys from `first` on, one after the other. */
  async write(first: bigint, keys: number, round: number): Promise<void> {
    const below = (limit: number) => Math.floor(Math.random() * limit)
    const key = first + BigInt(below(keys))
    const path = `/v1/records/${key}`
    const data = randomBytes(below(64 * 1024))
    const put = (record: StoredRecord) => (records: Map<bigint, StoredRecord>) => void records.set(record.key, record)
    const plain = { key, term: 0n, cmd: 0n, expiresAt: 0n, data }
    const expiresAt = 4_000_000_000_000n + BigInt(round)
    switch (round % 8) {
      case 0:
        return this.send('PUT', `${path}?term=3&cmd=${round}`, put({ ...plain, term: 3n, cmd: BigInt(round) }), data)
      case 1:
        return this.send('PUT', `${path}?expiresAt=${expiresAt}`, put({ ...plain, expiresAt }), data)
      case 2:
        return this.send(
          'PATCH',
          `${path}?op=append`,
          records => {
            const old = records.get(key) ?? { ...plain, data: Buffer.alloc(0) }
            records.set(key, { ...old, data: Buffer.concat([old.data, data]) })
          },
          data,
        )
      case 3:
        return this.send('DELETE', path, records => void records.delete(key))
      case 4: {
        const end = key + 3n < first + BigInt(keys) ? key + 3n : key
        return this.send('DELETE', `/v1/records?start=${key}&end=${end}`, records => {
          for (let gone = key; gone <= end; gone++) records.delete(gone)
        })
      }
      case 5: {
        // a batch, of which each operation is seen or none
        const other = first + BigInt(below(keys))
        const ops = [
          { op: 'put', key: String(key), text: 'one' },
          { op: 'put', key: String(other), text: 'two', expiresAt: String(expiresAt) },
          { op: 'delete', key: String(key) },
        ]
        const applied = (records: Map<bigint, StoredRecord>) => {
          records.set(other, { ...plain, key: other, data: Buffer.from('two'), expiresAt })
          records.delete(key)
        }
        return this.send('POST', '/v1/batch', applied, JSON.stringify({ ops }), { 'content-type': 'application/json' })
      }
      case 6:
        await this.send('PUT', path, put(plain), data)
        return this.send('PUT', `${path}/expiry?expiresAt=${expiresAt}`, put({ ...plain, expiresAt }))
      default:
        await this.send('PUT', `${path}?expiresAt=${expiresAt}`, put({ ...plain, expiresAt }), data)
        return this.send('DELETE', `${path}/expiry`, put(plain))
    }
  }
}

async function contentOf(engine: EngineKind, directory: string): Promise<Content> {
  const writer = await openWriter({ kind: engine, directory, tuning: { syncMode: 'Off' } })
  const reader = await openReader(writer.share)
  const snapshot = reader.snapshot()
  const found: Content = new Map()
  snapshot.scan(EVERY_KEY, false, record => void found.set(...lineOf(record)))
  snapshot.release()
  reader.close()
  writer.close()
  return found
}

test.each(['SQLite', 'LMDB', 'RocksDB'] as const)(
  '%s: a Full whose snapshot is cut goes on in key slices, and is the database at one position',
  { timeout: 120_000 },
  async engine => {
    const running = await start(engine, { limits: { snapshotGrowth: '1Mi' } })
    const { database } = running.sidecar
    const ledger = new Ledger(running.url)
    const regions = [0n, 1000n, 1n << 63n, EVERY_KEY.end - 95n]
    for (const first of regions)
      for (let key = first; key < first + 96n; key++) {
        const data = randomBytes(64 * 1024)
        const record = { key, term: 0n, cmd: 0n, expiresAt: 0n, data }
        await ledger.send('PUT', `/v1/records/${key}`, records => void records.set(key, record), data)
      }
    for (let key = 500n; key < 516n; key++) {
      const record = { key, term: 1n, cmd: 2n, expiresAt: 0n, data: randomBytes(MIB) }
      await ledger.send('PUT', `/v1/records/${key}?term=1&cmd=2`, records => void records.set(key, record), record.data)
    }
    let writing = true
    const writers = regions.map(async first => {
      for (let round = 0; writing; round++) await ledger.write(first, 96, round)
    })
    // the log of the engine is copied back each time, as far as the snapshot allows
    const checkpoints = (async () => {
      while (writing) {
        await database.runTask('checkpoint', {}, new AbortController().signal)
        await new Promise(resolve => setTimeout(resolve, 300))
      }
    })()
    const pinned: object[] = []
    const { result, scratch, stages } = await backup(running, {
      before: async ({ slice }) => {
        if (slice) pinned.push(await consumers(running))
      },
      answered: async ({ whole }, answer) => {
        // a slow reader: the snapshot is held until the keeper of space has seen enough
        if (whole) await vi.waitFor(() => expect(database.session().readers.held).toEqual([]), { timeout: 30_000 })
        return answer
      },
    }).finally(() => {
      writing = false
    })
    await Promise.all([...writers, checkpoints])

    expect(result.error).toBeUndefined()
    expect(result).toMatchObject({ phase: 'Completed', type: 'Full', verification: 'Verified' })
    expect(result.slices).toBeGreaterThan(16)
    expect(pinned).toHaveLength(result.slices!)
    for (const its of pinned)
      expect(its).toEqual({ 'backup/sliced': expect.objectContaining({ until: expect.any(Number) }) })
    expect(await consumers(running)).toEqual({})
    expect(readdirSync(scratch)).toEqual([])
    // what was stored up to the cut is gone
    const files = readdirSync(running.backups, { recursive: true, withFileTypes: true }).filter(its => its.isFile())
    expect(
      files
        .map(({ name }) => name)
        .filter(name => /^(records|expiries|manifest)|tmp/.test(name))
        .sort(),
    ).toEqual(['expiries.bin.zst', 'manifest.json', 'records.kvidx.zst'])
    expect([...stages]).toEqual(expect.arrayContaining(['reading key slices', 'replaying changes', 'storing']))

    const directory = join(running.root, 'restored')
    const args = ['backup', 'restore', '--store', running.store, '--at', 'sliced', '--data-dir', directory]
    const restored = await kvidx([...args, '--engine', engine, '--output', 'json'])
    expect([restored.code, restored.notes]).toEqual([0, ''])
    const seq = BigInt(result.position!.split('.')[1]!)
    const wanted = ledger.at(seq)
    expect(await contentOf(engine, join(directory, 'db'))).toEqual(wanted)
    expect(result.records).toBe(wanted.size)
    // it is no moment before the writers began, nor after they ended
    expect(seq).toBeLessThan(ledger.newest)
    expect((await running.status()).backup.lastVerified).toMatchObject({ name: 'sliced', slices: result.slices })
  },
)

test.skipIf(!s3Binary)(
  'to an S3 server as well: what was stored up to the cut is not seen there',
  {
    timeout: 60_000,
  },
  async () => {
    const server = await startS3()
    onTestFinished(() => server.stop())
    const root = mkdtempSync(join(tmpdir(), 'kvidx-sliced-s3-'))
    const running = await started({ root, backup: { destination: s3Destination(server, root) } })
    await fill(running, LARGE, MIB)
    const { result } = await backup(running, {
      ...cutWhole(running),
      before: async ({ slice }) => {
        if (slice) await fill(running, 1, MIB)
      },
    })
    expect(result).toMatchObject({ phase: 'Completed', verification: 'Verified', records: LARGE })
    const objects = readdirSync(server.directory, { recursive: true, withFileTypes: true })
    expect(
      objects
        .filter(its => its.isFile() && /sliced/.test(its.parentPath))
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['expiries.bin.zst', 'manifest.json', 'records.kvidx.zst', 'verification.json'])
    const read = async (key: number) =>
      Buffer.from(await (await fetch(`${running.url}/v1/records/${key}`)).arrayBuffer())
    const before = await read(LARGE - 1)
    await running.put(LARGE - 1, 'changed')
    await running.put(LARGE, 'new')
    const restored = await kvidx(['restore', 'sliced', '--server', running.url])
    expect([restored.code, restored.notes]).toEqual([0, ''])
    expect(running.sidecar.database.state.count).toBe(BigInt(LARGE))
    expect((await read(LARGE - 1)).equals(before)).toBe(true)
  },
)

const LITTLE_LOG = { changeLog: { maxSize: '2Mi', idleSize: '1Mi' } }

test('what is written meanwhile may be more than the change log holds, as long as it is replayed as fast', {
  timeout: 60_000,
}, async () => {
  const running = await start('SQLite', LITTLE_LOG)
  await fill(running, LARGE, MIB)
  let written = 0
  const { result } = await backup(running, {
    ...cutWhole(running),
    before: async ({ slice }) => {
      if (!slice) return
      await fill(running, 1, MIB)
      written++
    },
  })
  expect(result).toMatchObject({ phase: 'Completed', verification: 'Verified' })
  expect(written).toBeGreaterThan(20)
})

test('a log that is trimmed before it was replayed ends the backup, with what must be larger', {
  timeout: 60_000,
}, async () => {
  const running = await start('SQLite', LITTLE_LOG)
  await fill(running, LARGE, MIB)
  const { result, scratch } = await backup(running, {
    ...cutWhole(running),
    before: async ({ slice }) => {
      if (slice) await fill(running, 12, MIB)
    },
  })
  expect(result).toMatchObject({ phase: 'Failed', code: 'log_trimmed' })
  expect(result.error).toMatch(/limits\.snapshotGrowth.*changeLog\.maxSize/)
  expect(await consumers(running)).toEqual({})
  expect(readdirSync(scratch)).toEqual([])
})

test('a database of which not even one record can be read ends the backup', { timeout: 60_000 }, async () => {
  const running = await start('SQLite', {})
  await fill(running, LARGE, MIB)
  const asked: number[] = []
  const { result } = await backup(running, {
    ...cutWhole(running),
    before: async ({ slice, query }) => {
      if (!slice) return
      if (asked.push(Number(query.bytes)) === 1) cutEverySnapshot(running.sidecar.database)
    },
  })
  expect(result).toMatchObject({ phase: 'Failed', code: 'snapshot_cut' })
  expect(asked.at(-1)).toBe(1)
  expect(await consumers(running)).toEqual({})
})

test('an epoch that begins meanwhile ends the backup: what comes then is not what was read', async () => {
  const running = await start('SQLite', {})
  await fill(running, LARGE, MIB)
  let slices = 0
  const { result } = await backup(running, {
    ...cutWhole(running),
    before: async ({ slice }) => {
      if (slice && ++slices === 3) await running.sidecar.database.beginEpoch('uncleanEnd')
    },
  })
  expect(result).toMatchObject({ phase: 'Failed', code: 'conflict' })
  expect(result.error).toMatch(/began epoch 2 while a backup of epoch 1/)
})

test('it can be cancelled, and leaves nothing behind', async () => {
  const running = await start('SQLite', {})
  await fill(running, LARGE, MIB)
  const stop = new AbortController()
  const { result, scratch } = await backup(
    running,
    {
      ...cutWhole(running),
      before: async ({ slice }) => {
        if (slice) stop.abort()
      },
    },
    stop.signal,
  )
  expect(result).toMatchObject({ phase: 'Failed', code: 'cancelled' })
  expect(await consumers(running)).toEqual({})
  expect(readdirSync(scratch)).toEqual([])
})

test('what a job that was killed held of the log is let go when its lease ends', { timeout: 30_000 }, async () => {
  const running = await start('SQLite', { changeLog: { maxSize: '30Mi', idleSize: '1Mi' } })
  const { database } = running.sidecar
  const query = 'name=backup%2Fkilled&position=1.0&lease=2s'
  expect((await fetch(`${running.url}/v1/admin/consumers?${query}`, { method: 'PUT' })).status).toBe(204)
  await fill(running, 8, MIB)
  expect(database.state.logBase.seq).toBe(0n)
  expect(Object.keys(await consumers(running))).toEqual(['backup/killed'])
  await vi.waitFor(async () => expect(await consumers(running)).toEqual({}), { timeout: 10_000 })
  await fill(running, 2, MIB)
  expect(database.state.logBase.seq).toBeGreaterThan(0n)
})
