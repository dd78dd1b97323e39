import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fromSlices } from '../../../sidecar/backup/sliced-source.ts'
import { changesOf, FrameSplitter } from '../../../sidecar/database/frame.ts'
import type { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { Operation } from '../../../sidecar/database/operation.ts'
import { formatPosition } from '../../../sidecar/database/position.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { decodeStream } from '../../../sidecar/format/decode.ts'
import { random } from '../../support/random.ts'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'
import { type Call, cutEverySnapshot, hookedClient } from './hooked-client.ts'

const MIB = 1024 * 1024

type Model = Map<bigint, { data: string; expiresAt: bigint }>

async function contentOf(records: AsyncIterable<Uint8Array>, expiries: AsyncIterable<Uint8Array>): Promise<Model> {
  const found: Model = new Map()
  for await (const batch of decodeStream(records, 'binary', { maxDataBytes: 1000 }))
    for (const { key, data } of batch) found.set(key, { data: Buffer.from(data).toString(), expiresAt: 0n })
  const chunks: Uint8Array[] = []
  for await (const chunk of expiries) chunks.push(chunk)
  for (const frame of new FrameSplitter().push(Buffer.concat(chunks).subarray(16)))
    for (const change of changesOf(frame))
      if (change.kind === 'expiry') found.set(change.key, { ...found.get(change.key)!, expiresAt: change.expiresAt })
  return found
}

/** Writes of every kind to few keys, at the lowest, highest and middle of all; a model has what came of each. */
class Writer {
  readonly states = new Map<string, Model>()
  readonly #model: Model = new Map()
  readonly #database: LocalDatabase
  readonly #next: () => number

  constructor(database: LocalDatabase, seed: number) {
    this.#database = database
    this.#next = random(seed)
  }

  async write(): Promise<void> {
    const operations = Array.from({ length: 1 + this.#below(3) }, () => this.#operation())
    const { position } = await this.#database.write({ operations })
    this.states.set(formatPosition(position), new Map(this.#model))
  }

  #below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }

  #key(): bigint {
    const small = BigInt(this.#below(24))
    return [small, small, EVERY_KEY.end - small, (1n << 63n) + small][this.#below(4)]!
  }

  #operation(): Operation {
    const model = this.#model
    const key = this.#key()
    const text = `${this.#below(1000)}`.repeat(1 + this.#below(8))
    const old = model.get(key)
    const expiresAt = 4_000_000_000_000n + BigInt(this.#below(1000))
    // an expiry needs a record, or the whole request does nothing
    switch (old ? this.#below(9) : 2 + this.#below(7)) {
      case 0:
        model.set(key, { ...old!, expiresAt })
        return { op: 'expiry', key, expiry: { at: expiresAt } }
      case 1:
        model.set(key, { ...old!, expiresAt: 0n })
        return { op: 'expiry', key }
      case 2:
        model.set(key, { data: (old?.data ?? '') + text, expiresAt: old?.expiresAt ?? 0n })
        return { op: 'append', key, term: 0n, cmd: 0n, data: Buffer.from(text) }
      case 3: {
        const end = key + BigInt(this.#below(5))
        const range = { start: key, end: end > EVERY_KEY.end ? EVERY_KEY.end : end }
        for (const known of model.keys()) if (known >= range.start && known <= range.end) model.delete(known)
        return { op: 'removeRange', range }
      }
      case 4:
        model.set(key, { data: text, expiresAt })
        return { op: 'put', key, term: 1n, cmd: 2n, data: Buffer.from(text), expiry: { at: expiresAt } }
      case 5:
      case 6:
        model.delete(key)
        return { op: 'remove', key }
      default:
        model.set(key, { data: text, expiresAt: 0n })
        return { op: 'put', key, term: 1n, cmd: 2n, data: Buffer.from(text) }
    }
  }
}

test.each(['SQLite', 'LMDB', 'RocksDB'] as const)(
  '%s: key slices and the changes beside them make the database at one moment, whatever is written meanwhile',
  { timeout: 120_000 },
  async engine => {
    const { sidecar } = await sidecarHere({
      engine,
      spec: { monitoring: { logLevel: 'Error' } },
    })
    const url = await sidecar.serving
    const { database } = sidecar
    const directory = join(temporaryDirectory(), 'slices')
    let most = 0
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.nat({ max: 60 }),
        fc.nat({ max: 4 }),
        fc.integer({ min: 1, max: 400 }),
        async (seed, first, busy, sliceBytes) => {
          await database.write({ operations: [{ op: 'removeRange', range: EVERY_KEY }] })
          const writer = new Writer(database, seed)
          for (let n = 0; n <= first; n++) await writer.write()
          const before = async ({ path }: Call) => {
            if (path !== '/v1/admin/consumers') for (let n = 0; n < busy; n++) await writer.write()
          }
          const client = await hookedClient(url, { before })
          const slicing = await client.slices('backup/test')
          await fromSlices(slicing, { directory, progress: () => {}, sliceBytes }, async (source, slices) => {
            const wanted = writer.states.get(formatPosition(source.state.position))!
            expect(await contentOf(source.records(), source.expiries())).toEqual(
              new Map([...wanted].sort(([a], [b]) => (a < b ? -1 : 1))),
            )
            expect(source.state).toMatchObject({
              count: BigInt(wanted.size),
              expiring: BigInt([...wanted.values()].filter(its => its.expiresAt > 0n).length),
            })
            most = Math.max(most, slices)
          })
          expect(await database.consumers()).toEqual({})
        },
      ),
      { numRuns: 15 },
    )
    expect(most).toBeGreaterThan(10)
  },
)

test('a slice that is cut is read again in smaller ones', async () => {
  const { sidecar } = await sidecarHere({ spec: { monitoring: { logLevel: 'Error' } } })
  const url = await sidecar.serving
  const { database } = sidecar
  for (let key = 0n; key < 24n; key++)
    await database.write({ operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: randomBytes(64 * 1024) }] })
  const asked: number[] = []
  const client = await hookedClient(url, {
    before: async ({ slice, query }) => {
      if (slice && asked.push(Number(query.bytes)) === 1) cutEverySnapshot(database, 2)
    },
  })
  const options = { directory: join(temporaryDirectory(), 'slices'), progress: () => {} }
  const { digest, slices } = await fromSlices(await client.slices('backup/test'), options, async (source, count) => ({
    digest: source.state.digest,
    slices: count,
  }))
  // of records of 64 KiB and 32 bytes
  expect({ digest, slices, asked }).toEqual({
    digest: database.state.digest,
    slices: 3,
    asked: [MIB, MIB / 2, MIB / 4, MIB / 2, MIB],
  })
})

test('a slice has the first stored records of a range, one at least, at the position that it tells', async () => {
  const { sidecar } = await sidecarHere({ spec: { monitoring: { logLevel: 'Error' } } })
  const url = await sidecar.serving
  const { database } = sidecar
  const put = (key: bigint, data: string) => ({ op: 'put', key, term: 3n, cmd: 4n, data: Buffer.from(data) }) as const
  const expiry = { at: 1000n } as const
  await database.write({
    operations: [put(0n, 'a'), { ...put(7n, 'bc'), expiry }, put(9n, ''), put(EVERY_KEY.end, 'd')],
  })
  const client = await (await hookedClient(url, {})).slices('backup/test')
  const slice = (start: bigint, end: bigint, bytes: number) => client.slice({ start, end }, bytes)
  const keys = async (...args: Parameters<typeof slice>) => (await slice(...args)).records.map(({ key }) => key)
  expect(await slice(1n, 8n, 1)).toEqual({
    position: database.state.position,
    records: [{ key: 7n, term: 3n, cmd: 4n, data: Buffer.from('bc'), expiresAt: 1000n }],
  })
  expect(await keys(0n, EVERY_KEY.end, 33)).toEqual([0n])
  expect(await keys(0n, EVERY_KEY.end, 34)).toEqual([0n, 7n])
  expect(await keys(7n, EVERY_KEY.end, MIB)).toEqual([7n, 9n, EVERY_KEY.end])
  expect(await slice(10n, 20n, MIB)).toEqual({ position: database.state.position, records: [] })
  expect(await keys(2n, 1n, MIB)).toEqual([])
  for (const query of ['', 'bytes=0', 'bytes=x', `bytes=${2 ** 26 + 1}`]) {
    const answer = await fetch(`${url}/v1/admin/slice?${query}`)
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'invalid_parameter', field: 'bytes' }])
  }
})
