import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeSnapshot, type SnapshotHead, SnapshotReader } from '../../../sidecar/backup/snapshot-stream.ts'
import { KvidxError } from '../../../src/common/errors.ts'

const HEAD: SnapshotHead = {
  namespace: 'default',
  database: 'orders',
  lineage: 'l',
  engine: 'SQLite',
  engineVersion: 'SQLite 3',
  epochs: [{ epoch: '1', forkSeq: '0', reason: 'created', time: '0' }],
  position: '1.7',
  time: '5',
  count: '3',
  dataBytes: '9',
  digest: '0'.repeat(32),
  expiring: '0',
  logBase: '1.0',
}

async function* each(chunks: readonly Uint8Array[]) {
  yield* chunks
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function read(bytes: Buffer, step: number) {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; at += step) pieces.push(bytes.subarray(at, at + step))
  const reader = new SnapshotReader(each(pieces))
  const head = await reader.open()
  return { head, records: await collect(reader.records), expiries: await collect(reader.expiries) }
}

const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 8 })

test('what is written comes back, however the stream is cut into pieces', async () => {
  await fc.assert(
    fc.asyncProperty(chunks, chunks, fc.integer({ min: 1, max: 300 }), async (records, expiries, step) => {
      const bytes = await collect(encodeSnapshot(HEAD, { records: each(records), expiries: each(expiries) }))
      const found = await read(bytes, step)
      expect(found.head).toEqual(HEAD)
      expect(found.records).toEqual(Buffer.concat(records))
      expect(found.expiries).toEqual(Buffer.concat(expiries))
    }),
    { numRuns: 50 },
  )
})

test('a stream that is cut anywhere is refused', async () => {
  const source = { records: each([Buffer.from('abc'), Buffer.from('de')]), expiries: each([Buffer.from('xyz')]) }
  const bytes = await collect(encodeSnapshot(HEAD, source))
  for (let length = 0; length < bytes.length; length++)
    await expect(read(bytes.subarray(0, length), 64)).rejects.toMatchObject({ code: 'invalid_body' })
})

describe('a snapshot that the database lets go of', () => {
  const why = 'the database grew by 5 bytes'
  async function* cutAfter(chunks: readonly Uint8Array[], error: Error = new KvidxError('snapshot_cut', why)) {
    yield* chunks
    throw error
  }
  const [one, two] = [Buffer.from('abc'), Buffer.from('de')]

  test('says so in its last part, in the records and in the expiries', async () => {
    for (const step of [1, 7, 1000]) {
      const early = encodeSnapshot(HEAD, { records: cutAfter([one, two]), expiries: each([]) })
      await expect(read(await collect(early), step)).rejects.toMatchObject({ code: 'snapshot_cut', message: why })
      const late = encodeSnapshot(HEAD, { records: each([one]), expiries: cutAfter([two]) })
      await expect(read(await collect(late), step)).rejects.toMatchObject({ code: 'snapshot_cut', message: why })
    }
  })

  test('gives what came before', async () => {
    const reader = new SnapshotReader(encodeSnapshot(HEAD, { records: cutAfter([one, two]), expiries: each([]) }))
    expect(await reader.open()).toEqual(HEAD)
    const found: Uint8Array[] = []
    const reading = (async () => {
      for await (const chunk of reader.records) found.push(chunk)
    })()
    await expect(reading).rejects.toMatchObject({ code: 'snapshot_cut' })
    expect(Buffer.concat(found).toString()).toBe('abcde')
  })

  test('is broken off when that part is not whole, or no document', async () => {
    const bytes = await collect(encodeSnapshot(HEAD, { records: cutAfter([one]), expiries: each([]) }))
    for (let length = 0; length < bytes.length; length++)
      await expect(read(bytes.subarray(0, length), 64)).rejects.toMatchObject({ code: 'invalid_body' })
    const part = bytes.indexOf('{"message"')
    for (const change of [
      (copy: Buffer) => copy.fill('#', part),
      (copy: Buffer) => copy.writeUInt32LE(0x7fff_ffff, part - 4),
      (copy: Buffer) => copy.writeUInt32LE(20 * 1024 * 1024, part - 4),
      (copy: Buffer) => copy.writeUInt32LE(6, part - 8),
    ]) {
      const copy = Buffer.from(bytes)
      change(copy)
      await expect(read(copy, 64)).rejects.toMatchObject({ code: 'invalid_body' })
    }
  })

  test('is not what another failure makes of it', async () => {
    const parts = { records: cutAfter([one], new KvidxError('engine_io', 'the disk is gone')), expiries: each([]) }
    await expect(collect(encodeSnapshot(HEAD, parts))).rejects.toMatchObject({ code: 'engine_io' })
  })
})
