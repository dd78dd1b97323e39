import { createHash, randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { type SidecarHere, sidecarHere } from '../support/sidecar-here.ts'
import { startSidecarProcess } from '../support/sidecar-process.ts'
import { canMount, smallVolume } from '../support/small-volume.ts'

/** Full disks, on real file systems of 64 MiB. */
const MIB = 1024 * 1024
const VOLUME = 64
const RECORD = 100_000
const ROUNDS = Number(process.env.KVIDX_FAULT_ROUNDS ?? 4)
const patience = { timeout: 40_000, interval: 200 }
const spec = {
  monitoring: { logLevel: 'Error' },
  limits: { reserve: '6Mi' },
  // expired records go for want of space, or not at all
  maintenance: { vacuum: { interval: '1s' }, expiry: { interval: '1h' } },
}

afterAll(() => {
  if (!canMount) console.warn('SKIPPED: tests of full disks mount a file system, which only root can do')
})

test('full disks are tested where CI says so', () => {
  expect(canMount || process.env.CI !== 'true', 'with CI=true these tests need root, to mount').toBe(true)
})

class Client {
  readonly acknowledged = new Map<number, string>()
  readonly #url: string

  constructor(url: string) {
    this.#url = url
  }

  async put(key: number): Promise<number> {
    const body = randomBytes(RECORD)
    const { status } = await fetch(`${this.#url}/v1/records/${key}`, { method: 'PUT', body })
    if (status < 300) this.acknowledged.set(key, hash(body))
    return status
  }

  async remove(key: number): Promise<number> {
    const { status } = await fetch(`${this.#url}/v1/records/${key}`, { method: 'DELETE' })
    if (status < 300) this.acknowledged.delete(key)
    return status
  }

  #next = 1

  /** Eight at a time until one is refused. */
  async fill(): Promise<number> {
    let refused = 0
    const writer = async () => {
      while (refused === 0 && this.#next < 4000) {
        const status = await this.put(this.#next++)
        if (status >= 300) refused = status
      }
    }
    await Promise.all(Array.from({ length: 8 }, writer))
    return refused
  }

  async verify(url = this.#url): Promise<void> {
    for (const [key, digest] of this.acknowledged) {
      const answer = await fetch(`${url}/v1/records/${key}`)
      expect(answer.status, `key ${key}`).toBe(200)
      expect(hash(Buffer.from(await answer.arrayBuffer())), `key ${key}`).toBe(digest)
    }
    const { count } = (await (await fetch(`${url}/v1/count`)).json()) as { count: string }
    expect(Number(count)).toBe(this.acknowledged.size)
  }
}

const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function begin(engine: EngineKind): Promise<{ here: SidecarHere; client: Client; directory: string }> {
  const directory = smallVolume(VOLUME)
  const here = await sidecarHere({ engine, directory, spec })
  const client = new Client(await here.sidecar.serving)
  await vi.waitFor(() => expect(existsSync(join(directory, 'ballast'))).toBe(true), patience)
  return { here, client, directory }
}

const noSpace = async (here: SidecarHere) =>
  (await here.status()).health.causes.some((cause: { reason: string }) => cause.reason === 'NoSpace')

describe.skipIf(!canMount).each<EngineKind>(['SQLite', 'LMDB', 'RocksDB'])('a full volume, %s', engine => {
  test('refuses puts, takes removes, loses nothing and recovers by itself', { timeout: 300_000 }, async () => {
    const { here, client, directory } = await begin(engine)
    // the change log gives way first, and may make room again: full is what stays full
    for (let stays = false; !stays; ) {
      expect(await client.fill()).toBe(507)
      await new Promise(resolve => setTimeout(resolve, 5000))
      stays = await noSpace(here)
    }
    expect(client.acknowledged.size).toBeGreaterThan(50)
    const { health, ready } = await here.status()
    expect([health.state, ready]).toEqual(['DEGRADED', true])
    expect(existsSync(join(directory, 'ballast'))).toBe(false)
    expect((await fetch(`${here.sidecar.opsAddress}/health`)).status).toBe(200)
    await client.verify()

    const keys = [...client.acknowledged.keys()]
    for (const key of keys.slice(0, Math.floor(keys.length * 0.6))) expect(await client.remove(key)).toBeLessThan(300)
    await vi.waitFor(async () => expect(await noSpace(here)).toBe(false), patience)
    expect(await client.put(9000)).toBe(201)
    await client.verify()
    await vi.waitFor(() => expect(existsSync(join(directory, 'ballast'))).toBe(true), patience)

    await here.sidecar.stop()
    const again = await sidecarHere({ engine, directory, spec })
    const url = await again.sidecar.serving
    await client.verify(url)
    expect((await fetch(`${url}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
    await again.sidecar.stop()
  })

  test('that somebody else filled to the last byte still takes removes', { timeout: 120_000 }, async () => {
    const { here, client, directory } = await begin(engine)
    for (let key = 1; key <= 50; key++) expect(await client.put(key)).toBe(201)
    // what is in the log alone would need its room a second time
    await here.sidecar.database.runTask('checkpoint', {}, new AbortController().signal)
    const foreign = join(directory, '..', 'foreign')
    expect(eatEverything(foreign)).toBeGreaterThan(MIB)
    await vi.waitFor(async () => expect(await client.put(1000)).toBe(507), patience)
    await vi.waitFor(async () => expect(await noSpace(here)).toBe(true), patience)
    for (let key = 1; key <= 10; key++) expect(await client.remove(key), `remove ${key}`).toBeLessThan(300)
    await client.verify()
    rmSync(foreign)
    await vi.waitFor(async () => expect(await client.put(1001)).toBe(201), patience)
    expect(await noSpace(here)).toBe(false)
    await client.verify()
    await here.sidecar.stop()
  })

  test('loses its expired records and its change log first', { timeout: 120_000 }, async () => {
    const { here, client } = await begin(engine)
    const url = await here.sidecar.serving
    for (let key = 5000; key < 5100; key++)
      await fetch(`${url}/v1/records/${key}?ttl=1500ms`, { method: 'PUT', body: randomBytes(RECORD) })
    // dropping the change log may end the state within milliseconds, and what has not expired by then stays for the next time
    await vi.waitFor(async () => expect((await fetch(`${url}/v1/records/5099`)).status).toBe(404), patience)
    expect((await here.status()).data.expiring).toBe('100')
    expect(await client.fill()).toBe(507)
    await vi.waitFor(async () => {
      const { data } = await here.status()
      expect(data.expiring).toBe('0')
      expect(Number(data.log.bytes)).toBeLessThan(2 * MIB)
    }, patience)
    await client.verify()
    await here.sidecar.stop()
  })
})

// in a process of its own: what the library does at worst must not be the end of the test
describe.skipIf(!canMount).each<EngineKind>(['SQLite', 'LMDB', 'RocksDB'])('a volume that others fill, %s', engine => {
  test('again and again under load: nothing acknowledged is lost, reads go on, writes come back', {
    timeout: 180_000,
  }, async () => {
    const directory = smallVolume(VOLUME)
    let process = await startSidecarProcess(directory, engine, { spec })
    onTestFinished(() => process.kill('SIGKILL'))
    const foreign = join(directory, '..', 'foreign')
    const values = new Map<number, string>()
    let refused = 0
    for (let round = 0; round < ROUNDS; round++) {
      let running = true
      const writer = async (index: number) => {
        for (let n = 0; running; n++) {
          const key = index * 10 + (n % 8)
          const body = randomBytes(20_000)
          const status = await fetch(`${process.data}/v1/records/${key}`, { method: 'PUT', body }).then(
            answer => answer.status,
            () => 0,
          )
          if (status > 0 && status < 300) values.set(key, hash(body))
          else {
            refused++
            // unknown after a cut connection: either value may be there
            if (status !== 507) values.delete(key)
            await new Promise(resolve => setTimeout(resolve, 20))
          }
        }
      }
      const writers = Array.from({ length: 6 }, (_, index) => writer(index))
      await new Promise(resolve => setTimeout(resolve, 500 + round * 137))
      eatEverything(foreign)
      await new Promise(resolve => setTimeout(resolve, 8000))
      running = false
      await Promise.all(writers)
      rmSync(foreign)
      if (process.child.exitCode !== null || process.child.signalCode !== null) {
        console.log(`${engine}: the process ended (${process.child.signalCode}): ${process.log().slice(-300)}`)
        process = await startSidecarProcess(directory, engine, { spec })
      }
      const key = 10_000 + round
      await vi.waitFor(
        async () =>
          expect((await fetch(`${process.data}/v1/records/${key}`, { method: 'PUT', body: 'x' })).status).toBe(201),
        patience,
      )
      for (const [key, digest] of values) {
        const answer = await fetch(`${process.data}/v1/records/${key}`)
        expect(hash(Buffer.from(await answer.arrayBuffer())), `round ${round}, key ${key}: ${answer.status}`).toBe(
          digest,
        )
      }
    }
    expect(refused).toBeGreaterThan(0)
    expect((await fetch(`${process.data}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
    await process.kill('SIGTERM')
  })
})

/** Writes until not a byte more fits. */
function eatEverything(path: string): number {
  const file = openSync(path, 'w')
  let block = randomBytes(MIB)
  while (block.length > 0) {
    try {
      const written = writeSync(file, block)
      if (written < block.length) block = block.subarray(0, Math.floor(block.length / 2))
    } catch {
      block = block.subarray(0, Math.floor(block.length / 2))
    }
  }
  closeSync(file)
  return statSync(path).size
}
