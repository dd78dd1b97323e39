import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { formatDigest } from '../../../sidecar/database/digest.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { readConfigFile } from '../../../sidecar/settings.ts'
import type { SidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { standalonePaths } from '../../../src/standalone/paths.ts'
import { type SidecarHere, sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'
import { canMount, smallVolume } from '../../support/small-volume.ts'
import { type Running, remove, startRunning } from '../backup/running.ts'
import { s3Binary, s3Destination, startS3 } from '../backup/s3-server.ts'
import { kvidx } from '../cli/harness.ts'

/** Files of real databases, really damaged, and what a start makes of them. */
const patience = { timeout: 30_000, interval: 100 }
const quiet = { monitoring: { logLevel: 'Error' } }
const policy = (onCorruption: string) => ({ ...quiet, recovery: { onCorruption } })
const RECORDS = 2000
const dataOf = (key: number) => createHash('sha512').update(`value ${key}`).digest('hex').repeat(3)

async function fill(url: string): Promise<void> {
  const ops = Array.from({ length: RECORDS }, (_, key) => ({
    op: 'put',
    key: String(key),
    data: Buffer.from(dataOf(key)).toString('base64'),
  }))
  const answer = await fetch(`${url}/v1/batch`, { method: 'POST', body: JSON.stringify({ ops }), headers: JSON_TYPE })
  expect(answer.status, await answer.text()).toBe(200)
}

const JSON_TYPE = { 'content-type': 'application/json' }

async function recordsOf(url: string): Promise<Map<number, string>> {
  const lines = (await (await fetch(`${url}/v1/records`)).text()).trim().split('\n').slice(0, -1)
  return new Map(
    lines.map(line => {
      const { key, data } = JSON.parse(line) as { key: string; data: string }
      return [Number(key), Buffer.from(data, 'base64').toString()]
    }),
  )
}

/** A filled volume whose database was closed in order. */
async function stoppedDatabase(engine: EngineKind): Promise<string> {
  const { sidecar, directory } = await sidecarHere({ engine, spec: quiet })
  await fill(await sidecar.serving)
  await sidecar.stop()
  return directory
}

function damage(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path)
  change(bytes)
  writeFileSync(path, bytes)
}

const mainDb = (directory: string) => join(directory, 'db', 'main.db')

/** Overwrites the headers of whole pages in the middle of the file. */
function breakPages(path: string, from: number, pages: number): void {
  damage(path, bytes => {
    for (let page = from; page < from + pages; page++) bytes.fill(0xa5, page * 8192, page * 8192 + 64)
  })
}

describe('a damaged SQLite file', () => {
  test('with Stop: not ready, the damage and the ways out are named, nothing is touched', {
    timeout: 60_000,
  }, async () => {
    const directory = await stoppedDatabase('SQLite')
    breakPages(mainDb(directory), 20, 3)
    const before = readFileSync(mainDb(directory))
    const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
    await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
    const { failure } = await status()
    expect(failure.code).toBe('engine_corrupt')
    expect(failure.message).toMatch(/damaged: .*malformed.*Nothing was changed.*RestoreLatest.*Salvage/s)
    expect((await fetch(`${sidecar.opsAddress}/ready`)).status).toBe(503)
    // no restart helps
    expect((await fetch(`${sidecar.opsAddress}/health`)).status).toBe(200)
    await sidecar.stop()
    expect(readFileSync(mainDb(directory)).equals(before)).toBe(true)
    expect(readdirSync(join(directory, 'quarantine'))).toEqual([])
  })

  test('with Salvage, set while it stands: what reads is kept, what is lost is told exactly', {
    timeout: 60_000,
  }, async () => {
    const directory = await stoppedDatabase('SQLite')
    breakPages(mainDb(directory), 20, 3)
    const broken = readFileSync(mainDb(directory))
    const { sidecar, status, configure } = await sidecarHere({ directory, spec: quiet })
    await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
    configure({ spec: policy('Salvage') })
    const url = await sidecar.serving
    const kept = await recordsOf(url)
    for (const [key, value] of kept) expect(value, `key ${key}`).toBe(dataOf(key))
    expect(kept.size).toBeGreaterThan(RECORDS * 0.5)
    expect(kept.size).toBeLessThan(RECORDS)
    const { recovery, data, epochs, health } = await status()
    expect(recovery).toMatchObject({
      action: 'Salvaged',
      records: String(kept.size),
      lost: String(RECORDS - kept.size),
      complete: false,
      reached: `1.${RECORDS}`,
    })
    // every key that is gone lies in a range that is named
    const ranges = recovery.salvage.lostRanges.first as { start: string; end: string }[]
    for (let key = 0; key < RECORDS; key++)
      if (!kept.has(key))
        expect(ranges.some(range => key >= Number(range.start) && key <= Number(range.end))).toBe(true)
    expect(epochs.at(-1)).toMatchObject({ epoch: '2', parentEpoch: '1', forkSeq: String(RECORDS), reason: 'salvaged' })
    // a seq of its own: no chain of changes may lead over the loss
    expect(data.position).toBe(`2.${RECORDS + 1}`)
    expect(health.causes.map((cause: { reason: string }) => cause.reason)).toContain('Salvaged')
    const check = await fetch(`${url}/v1/admin/check`, { method: 'POST' })
    expect(check.status, await check.text()).toBe(200)
    const quarantined = join(directory, 'quarantine', recovery.quarantine)
    expect(readFileSync(join(quarantined, 'db', 'main.db')).equals(broken)).toBe(true)

    // it is told as long as the damaged files are there, also after a restart
    await sidecar.stop()
    const again = await sidecarHere({ directory, spec: quiet })
    const data2 = await again.sidecar.serving
    expect((await again.status()).recovery).toEqual(recovery)
    expect(
      (await fetch(`${data2}/v1/admin/quarantine?name=${recovery.quarantine}`, { method: 'DELETE' })).status,
    ).toBeLessThan(300)
    expect((await again.status()).recovery).toBeUndefined()
    await vi.waitFor(async () => expect((await again.status()).health.state).toBe('OK'), patience)
    await again.sidecar.stop()
  })

  test.each([
    ['cut in half', (path: string) => truncateSync(path, Math.floor(statSync(path).size / 2))],
    ['without its first page', (path: string) => damage(path, bytes => bytes.fill(0, 0, 8192))],
    [
      'of random bits flipped',
      (path: string) =>
        damage(path, bytes => {
          for (let at = 8192; at < bytes.length; at += 4001) bytes[at] = (bytes[at] as number) ^ (1 << (at % 8))
        }),
    ],
  ] as const)('%s is salvaged at the start when the manifest says so', { timeout: 60_000 }, async (_, breakIt) => {
    const directory = await stoppedDatabase('SQLite')
    breakIt(mainDb(directory))
    const { sidecar, status } = await sidecarHere({ directory, spec: policy('Salvage') })
    const url = await sidecar.serving
    const { recovery, data } = await status()
    if (recovery) {
      expect(recovery.action).toBe('Salvaged')
      expect(Number(recovery.records)).toBeGreaterThan(0)
      expect(recovery.records).toBe(data.count)
      expect(existsSync(join(directory, 'quarantine', recovery.quarantine, 'db', 'main.db'))).toBe(true)
    } else {
      // SQLite's own check has nothing against bits that changed inside of values: the digest has
      expect((await status()).start.foreignWrites).toBe(true)
    }
    expect((await fetch(`${url}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
    await sidecar.stop()
  })

  test('of which nothing can be read is left as it is', { timeout: 60_000 }, async () => {
    const directory = await stoppedDatabase('SQLite')
    damage(mainDb(directory), bytes => bytes.fill(0x5a))
    const { sidecar, status } = await sidecarHere({ directory, spec: policy('Salvage') })
    await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
    expect((await status()).failure.message).toMatch(
      /Salvage did not work: no record .* can be read.*; set spec.recovery.onCorruption: RestoreLatest .*, or restore from another store/,
    )
    expect(readdirSync(join(directory, 'quarantine'))).toEqual([])
    await sidecar.stop()
  })

  test('is salvaged by hand while its process stands, which then needs a restart', { timeout: 60_000 }, async () => {
    const directory = await stoppedDatabase('SQLite')
    breakPages(mainDb(directory), 20, 3)
    const first = await sidecarHere({ directory, spec: quiet })
    await vi.waitFor(async () => expect((await first.status()).lifecycle).toBe('failed'), patience)
    const ran = await kvidx(['salvage', '--data-dir', directory, '--output', 'json'])
    expect([ran.code, ran.notes]).toEqual([0, ''])
    const note = JSON.parse(ran.out)
    expect(Number(note.records) + Number(note.lost)).toBe(RECORDS)
    await first.sidecar.stop()
    const again = await sidecarHere({ directory, spec: quiet })
    const url = await again.sidecar.serving
    expect((await again.status()).data).toMatchObject({
      count: note.records,
      digest: note.digest,
      position: note.position,
    })
    expect((await again.status()).recovery.quarantine).toBe(note.quarantine)
    const busy = await kvidx(['salvage', '--data-dir', directory])
    expect([busy.code === 0, busy.notes]).toEqual([false, expect.stringContaining('is held by')])
    expect((await recordsOf(url)).size).toBe(Number(note.records))
    await again.sidecar.stop()
  })

  test('that shows only while it serves: the check ends the service, and the policy is carried out', {
    timeout: 60_000,
  }, async () => {
    const directory = await stoppedDatabase('SQLite')
    const { sidecar, status, configure } = await sidecarHere({ directory, spec: quiet })
    const url = await sidecar.serving
    breakPages(mainDb(directory), 20, 3)
    // reads that stumble over the page ask for the check
    for (let key = 0; key < RECORDS; key++) await (await fetch(`${url}/v1/records/${key}`)).arrayBuffer()
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('engine_corrupt'), patience)
    expect((await fetch(`${url}/v1/records/1`)).status).toBe(503)
    configure({ spec: policy('Salvage') })
    await vi.waitFor(async () => expect((await status()).ready).toBe(true), patience)
    expect((await status()).recovery.action).toBe('Salvaged')
    const kept = await recordsOf(url)
    expect(kept.size).toBeGreaterThan(RECORDS * 0.5)
    expect((await fetch(`${url}/v1/records/9000`, { method: 'PUT', body: 'x' })).status).toBe(201)
    await sidecar.stop()
  })
})

/** Flips bits all over the data of the largest file below. */
function flipBits(directory: string, every: number): void {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && !/^(LOCK|LOG|lock\.mdb|OPTIONS|IDENTITY)/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name))
    .sort((a, b) => statSync(b).size - statSync(a).size)
  damage(files[0] as string, bytes => {
    for (let at = 8192; at < bytes.length; at += every) bytes[at] = (bytes[at] as number) ^ 0xff
  })
}

describe.each<EngineKind>(['LMDB', 'RocksDB', 'SQLite'])('damaged files, %s, with backups', engine => {
  const spec = { recovery: { onCorruption: 'RestoreLatest' } }
  const backup = { continuous: { enabled: true, interval: '100ms' } }

  async function backedUp() {
    const running = await startRunning({ engine, backup })
    onTestFinished(async () => {
      await running.stop()
      remove(running)
    })
    await fill(running.url)
    const made = await kvidx(['backup', 'create', 'base', '--server', running.url, '--output', 'json'])
    expect([made.code, made.notes]).toEqual([0, ''])
    for (let key = 0; key < 30; key++) await running.put(key, `later ${key}`)
    const { digest, count, position } = running.sidecar.database.state
    await running.stop()
    return { running, digest: formatDigest(digest), count, position: `${position.epoch}.${position.seq}` }
  }

  test('RestoreLatest brings the newest state back, changes behind the backup too, in a new epoch', {
    timeout: 120_000,
  }, async () => {
    const { running, digest, count, position } = await backedUp()
    flipBits(join(running.data, 'db'), 500)
    const again = await startRunning({ engine, backup, spec, root: running.root })
    onTestFinished(() => again.stop())
    const { recovery, data, epochs, lineage } = await again.status()
    expect(recovery).toMatchObject({ action: 'Restored', reached: position, complete: true })
    expect([data.digest, data.count]).toEqual([digest, String(count)])
    expect(epochs.at(-1)).toMatchObject({ reason: 'restored' })
    expect(BigInt(epochs.at(-1).epoch)).toBeGreaterThan(BigInt(position.split('.')[0] as string))
    expect(lineage).toBe(running.sidecar.database.lineage)
    expect(readdirSync(join(again.data, 'quarantine', recovery.quarantine, 'db')).length).toBeGreaterThan(0)
    expect(await (await fetch(`${again.url}/v1/records/7`)).text()).toBe('later 7')
    await again.put(9000, 'it goes on')
    await vi.waitFor(async () => {
      const { continuous } = (await again.status()).backup
      expect([continuous.state, continuous.backlogChanges]).toEqual(['Shipping', 0])
    }, patience)
    await again.stop()
  })

  test('with a store that has nothing good it stays as it is, and says why', { timeout: 120_000 }, async () => {
    const { running } = await backedUp()
    flipBits(join(running.data, 'db'), 500)
    rmSync(join(running.backups, 'default'), { recursive: true })
    const { sidecar, status } = await sidecarHere({
      engine,
      directory: running.data,
      spec: {
        ...quiet,
        ...spec,
        backup: { destination: { volume: { size: '1Gi' } } },
      },
      edit: config =>
        ({
          ...config,
          dynamic: {
            ...config.dynamic,
            backup: { ...config.dynamic.backup, destination: { volume: { directory: running.backups } } },
          },
        }) as SidecarConfig,
    })
    await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
    const { failure } = await status()
    expect(failure.code).toBe('engine_corrupt')
    expect(failure.message).toMatch(/damaged: .*RestoreLatest did not work: .*no backup.*Nothing was changed/s)
    // what is left to do, and not what was done
    expect(failure.message).not.toContain('set spec.recovery.onCorruption: RestoreLatest')
    expect(failure.message.includes('set spec.recovery.onCorruption: Salvage')).toBe(engine === 'SQLite')
    expect(failure.message).toContain('restore from another store or lineage (docs/backup.md, Corrupted database)')
    expect(readdirSync(join(running.data, 'quarantine'))).toEqual([])
    await sidecar.stop()
  })
})

/** RestoreLatest on the volume of a sidecar that was stopped, with its backup store. */
function repairing(running: Running): Promise<SidecarHere> {
  return sidecarHere({
    directory: running.data,
    spec: policy('RestoreLatest'),
    edit: config => {
      const { backup } = readConfigFile(running.configFile).dynamic
      return { ...config, dynamic: { ...config.dynamic, backup } } as SidecarConfig
    },
  })
}

test('RestoreLatest takes an older backup for a damaged one, and says that this is not all', {
  timeout: 60_000,
}, async () => {
  const running = await startRunning()
  onTestFinished(() => remove(running))
  const backUp = async (name: string) => {
    const made = await kvidx(['backup', 'create', name, '--server', running.url, '--output', 'json'])
    expect([made.code, made.notes]).toEqual([0, ''])
  }
  await fill(running.url)
  await backUp('older')
  const { digest } = running.sidecar.database.state
  await running.put(7, 'only in the newer')
  await backUp('newer')
  await running.stop()
  flipBits(join(running.data, 'db'), 500)
  const files = readdirSync(running.backups, { recursive: true, encoding: 'utf8' })
  const records = files.find(path => path.endsWith('-newer/records.kvidx.zst')) as string
  damage(join(running.backups, records), bytes => bytes.fill(0, bytes.length / 2))
  const { sidecar, status } = await repairing(running)
  await sidecar.serving
  expect((await status()).recovery).toMatchObject({ action: 'Restored', reached: `1.${RECORDS}`, complete: false })
  expect(sidecar.database.state.digest).toBe(digest)
  await sidecar.stop()
})

describe('RestoreLatest waits', () => {
  test('for encryption keys that come later, and takes no older state meanwhile', { timeout: 120_000 }, async () => {
    const root = temporaryDirectory()
    const keys = join(standalonePaths(root, 'default', 'orders').directory, 'encryption')
    mkdirSync(keys, { recursive: true })
    writeFileSync(join(keys, 'old'), Buffer.alloc(32, 1))
    writeFileSync(join(keys, 'new'), Buffer.alloc(32, 2))
    const start = async (keyId: string) => {
      const spec = { security: { encryption: { secretRef: { name: 'keys' }, keyId } } }
      const running = await startRunning({ root, spec, backup: { continuous: { enabled: true, interval: '100ms' } } })
      onTestFinished(() => running.stop())
      return running
    }
    const first = await start('old')
    await fill(first.url)
    const made = await kvidx(['backup', 'create', 'base', '--server', first.url, '--output', 'json'])
    expect([made.code, made.notes]).toEqual([0, ''])
    await first.stop()
    const second = await start('new')
    await second.put(7, 'behind the backup')
    const { digest } = second.sidecar.database.state
    await second.stop()
    flipBits(join(second.data, 'db'), 500)

    const taken = readFileSync(join(keys, 'new'))
    rmSync(join(keys, 'new'))
    const { sidecar, status } = await repairing(second)
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('invalid_parameter'), patience)
    expect((await status()).failure).toMatchObject({
      message: expect.stringMatching(/is damaged .*and waits for its backups: .*'new' is not in/s),
      retryAt: expect.stringMatching(/^20/),
    })
    // some key is there, but not the one of the changes
    writeFileSync(join(keys, 'new'), Buffer.alloc(32, 3))
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('wrong_encryption_key'), patience)
    expect((await status()).failure.message).toMatch(/waits for its backups: .*changes\/.*is encrypted with key/s)
    writeFileSync(join(keys, 'other'), taken)
    await sidecar.serving
    expect((await status()).recovery).toMatchObject({ action: 'Restored', complete: true })
    expect(sidecar.database.state.digest).toBe(digest)
    await sidecar.stop()
  })

  const LARGE = 100_000
  test.skipIf(!canMount).each([
    ['the backup itself', 'insufficient_space', 0, 100],
    ['what came behind the backup', 'no_space', 100, 0],
  ] as const)('for space: %s does not fit', { timeout: 120_000 }, async (_, code, later, before) => {
    const root = temporaryDirectory()
    const { data } = standalonePaths(root, 'default', 'orders')
    mkdirSync(dirname(data), { recursive: true })
    symlinkSync(smallVolume(64), data)
    const running = await startRunning({ root, backup: { continuous: { enabled: true, interval: '100ms' } } })
    onTestFinished(() => running.stop())
    for (let key = 0; key < before; key++) await running.put(key, 'x'.repeat(LARGE))
    const made = await kvidx(['backup', 'create', 'base', '--server', running.url, '--output', 'json'])
    expect([made.code, made.notes]).toEqual([0, ''])
    for (let key = 0; key < later; key++) await running.put(key, 'y'.repeat(LARGE))
    const { digest } = running.sidecar.database.state
    await running.stop()
    flipBits(join(data, 'db'), 500)
    const { bavail, bsize } = statfsSync(data)
    const filler = join(realpathSync(data), '..', 'filler')
    writeFileSync(filler, Buffer.alloc(bavail * bsize - 5 * 1024 * 1024))
    const { sidecar, status } = await repairing(running)
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe(code), patience)
    expect((await status()).failure.message).toMatch(/is damaged .*and waits for space: /s)
    expect(readdirSync(join(data, 'quarantine'))).toEqual([])
    rmSync(filler)
    await sidecar.serving
    expect((await status()).recovery).toMatchObject({ action: 'Restored', complete: true })
    expect(sidecar.database.state.digest).toBe(digest)
    await sidecar.stop()
  })
})

describe.skipIf(!s3Binary)('damaged files, with backups on an S3 server', () => {
  test('RestoreLatest waits for credentials that are mended from outside', { timeout: 120_000 }, async () => {
    const server = await startS3()
    const root = temporaryDirectory()
    onTestFinished(() => server.stop())
    const backup = { destination: s3Destination(server, root) }
    const running = await startRunning({ root, backup })
    await fill(running.url)
    const job = ['job', 'backup', '--schedule', 'daily', '--config', running.configFile, '--server', running.url]
    const made = await kvidx(job)
    expect([made.code, made.notes]).toEqual([0, ''])
    const { digest } = running.sidecar.database.state
    await running.stop()
    flipBits(join(running.data, 'db'), 500)
    const credentials = join(standalonePaths(root, 'default', 'orders').directory, 's3-credentials', 'secretAccessKey')
    writeFileSync(credentials, 'wrong')
    const { sidecar, status } = await repairing(running)
    await vi.waitFor(async () => expect((await status()).failure?.code).toBe('store_denied'), patience)
    expect((await status()).failure.message).toMatch(/is damaged .*and waits for its backups: /s)
    writeFileSync(credentials, server.secretAccessKey)
    await sidecar.serving
    expect((await status()).recovery).toMatchObject({ action: 'Restored', complete: true })
    expect(sidecar.database.state.digest).toBe(digest)
    await sidecar.stop()
  })
})

test('an LMDB file that was cut is noticed before LMDB maps it', { timeout: 60_000 }, async () => {
  const directory = await stoppedDatabase('LMDB')
  const file = join(directory, 'db', 'main.lmdb', 'data.mdb')
  truncateSync(file, 64 * 1024)
  // as after a power loss: no marker says that the file is not as it was left
  rmSync(join(directory, 'clean-exit.json'))
  const { sidecar, status } = await sidecarHere({ engine: 'LMDB', directory, spec: policy('Salvage') })
  await vi.waitFor(async () => expect((await status()).lifecycle).toBe('failed'), patience)
  expect((await status()).failure.message).toMatch(/damaged: the pages of .*only SQLite files can be salvaged/s)
  await sidecar.stop()
})
