import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupContext } from '../../sidecar/backup/backup.ts'
import { type LineageCatalog, readBackup, readLineage } from '../../sidecar/backup/catalog.ts'
import { resolveChain, type Target } from '../../sidecar/backup/chain.ts'
import { KeyRing, masterKey, NO_KEYS } from '../../sidecar/backup/key-ring.ts'
import type { Home } from '../../sidecar/backup/layout.ts'
import { fill } from '../../sidecar/backup/restore.ts'
import { writeEpochs, writeSegment } from '../../sidecar/backup/segments.ts'
import { DirectoryStore } from '../../sidecar/backup/store/directory.ts'
import { verifyBackup } from '../../sidecar/backup/verify.ts'
import { FrameSplitter, readFrameHeader } from '../../sidecar/database/frame.ts'
import type { EngineKind } from '../../sidecar/engine/engine.ts'
import { openWriter } from '../../sidecar/engine/open.ts'
import { systemClock } from '../../src/common/clock.ts'
import { KvidxError } from '../../src/common/errors.ts'
import { Random, Source } from '../integration/backup/source.ts'

const ENGINE: EngineKind = 'LMDB'
const RANDOM_FLIPS = Number(process.env.KVIDX_FAULT_FLIPS ?? 1000)
const key = masterKey(Buffer.alloc(32, 1))
const NAMES = new Set([
  'backup_corrupt',
  'invalid_manifest',
  'backup_gap',
  'backup_not_found',
  'foreign_lineage',
  'wrong_encryption_key',
  'history_conflict',
])

/** One store with a Full, an increment and two segments, encrypted or not, and what restoring its end must give. */
interface Fixture {
  readonly root: string
  readonly home: Home
  readonly context: BackupContext
  readonly digest: bigint
}

async function makeFixture(source: Source, keys: KeyRing): Promise<Fixture> {
  const random = new Random(7)
  await source.churn(random, 40)
  const full = await source.full('full')
  const base = await readBackup(source.store, source.home, 'Full', full.directory)
  const scratch = source.fresh('scratch')
  mkdirSync(scratch)
  await verifyBackup(source.context, await source.catalog(), base, { recorded: full.recorded, engine: ENGINE, scratch })
  await source.churn(random, 30)
  const increment = await source.incremental(base, 'increment')
  for (let i = 0; i < 2; i++) {
    const from = i === 0 ? increment.recorded.position : lastPosition
    await source.churn(random, 20)
    await shipAll(source, from)
    lastPosition = source.database.state.position
  }
  const root = source.fresh('copy')
  cpSync(join(source.root, 'store'), root, { recursive: true })
  return {
    root,
    home: source.home,
    context: { ...source.context, store: new DirectoryStore(root), keys },
    digest: source.database.state.digest,
  }
}
let lastPosition = { epoch: 0n, seq: 0n }

async function shipAll(source: Source, from: { epoch: bigint; seq: bigint }): Promise<void> {
  const splitter = new FrameSplitter()
  const frames: Buffer[] = []
  for await (const chunk of source.database.changes(from, false, source.signal)) frames.push(...splitter.push(chunk))
  const headers = frames.map(readFrameHeader)
  const range = { epoch: headers[0]!.epoch, first: headers[0]!.firstSeq, last: headers.at(-1)!.lastSeq }
  await writeEpochs(source.context, source.home, range.epoch, source.database.epochs)
  await writeSegment(source.context, source.home, range, frames)
}

type Outcome = { kind: 'named'; code: string; message: string } | { kind: 'same' } | { kind: 'different' }

/** The whole way of a restore. What the catalog reports as damaged counts as named, whatever the restore then does. */
async function attempt(
  fixture: Fixture,
  target: Target = { kind: 'latest' },
  scratch = fixture.root,
): Promise<Outcome> {
  const directory = join(scratch, '..', 'attempt')
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  let catalog: LineageCatalog
  try {
    catalog = await readLineage(fixture.context.store, fixture.home)
    const [damaged] = catalog.damaged
    if (damaged) return { kind: 'named', code: damaged.error.code, message: damaged.error.message }
    const chain = resolveChain(catalog, target)
    const writer = await openWriter({ kind: ENGINE, directory, tuning: { syncMode: 'Off' } })
    try {
      const { reached } = await fill(fixture.context, writer, chain, {})
      return { kind: reached.digest === fixture.digest ? 'same' : 'different' }
    } finally {
      writer.close()
    }
  } catch (thrown) {
    if (!(thrown instanceof KvidxError)) throw thrown
    return { kind: 'named', code: thrown.code, message: thrown.message }
  }
}

function filesOf(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

/** Byte positions that the formats give a meaning: every header, the first and last bytes of every part. */
function structuralPositions(name: string, bytes: Buffer): number[] {
  const positions = new Set<number>()
  const around = (from: number, to: number) => {
    for (let at = Math.max(0, from); at < Math.min(bytes.length, to); at++) positions.add(at)
  }
  if (name.endsWith('.enc')) {
    around(0, 80 + 16)
    around(bytes.length - 17, bytes.length)
  } else if (name.endsWith('.zst')) {
    // frame header, block header, and the checksum at the end
    around(0, 24)
    around(bytes.length - 8, bytes.length)
  } else {
    around(0, 4)
    around(bytes.length - 80, bytes.length)
    // every quote, colon, comma and bracket of the JSON
    for (const [at, byte] of bytes.entries()) if ('{}[]":,'.includes(String.fromCharCode(byte))) positions.add(at)
  }
  return [...positions]
}

describe.each([
  ['encrypted', new KeyRing([key])],
  ['plain', NO_KEYS],
] as const)('a store, %s', (kind, keys) => {
  let source: Source
  let fixture: Fixture
  let files: string[]
  const counts: Record<string, number> = {}
  beforeAll(async () => {
    source = await Source.open(ENGINE, keys)
    fixture = await makeFixture(source, keys)
    files = filesOf(fixture.root)
  })
  afterAll(async () => {
    console.log(`${kind} store, damage by kind of answer: ${JSON.stringify(counts)}`)
    await source.close()
  })

  /** Damages, tries, repairs; and counts. */
  async function damage(
    what: string,
    name: string,
    change: (bytes: Buffer) => Buffer | undefined,
    allowSame = false,
    target?: Target,
  ): Promise<Outcome> {
    const path = join(fixture.root, name)
    const before = readFileSync(path)
    const after = change(Buffer.from(before))
    if (after) writeFileSync(path, after)
    else rmSync(path)
    try {
      const outcome = await attempt(fixture, target)
      const label = outcome.kind === 'named' ? outcome.code : outcome.kind
      counts[`${what}: ${label}`] = (counts[`${what}: ${label}`] ?? 0) + 1
      if (outcome.kind === 'named') {
        expect(NAMES, `${what} of ${name}: ${outcome.message}`).toContain(outcome.code)
        expect(outcome.message.length, what).toBeGreaterThan(20)
      } else expect([what, name, outcome.kind]).toEqual([what, name, allowSame ? 'same' : 'named'])
      return outcome
    } finally {
      writeFileSync(path, before)
    }
  }

  /** A flip in the wrapping of a segment can leave its content as it was: it has no manifest with its SHA-256, only the checksums of its frames. */
  const mayBeHarmless = (name: string) => name.includes('/changes/') && name.endsWith('.zst')
  const flip = (bit: number) => (bytes: Buffer) => {
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    return bytes
  }

  it('is sound as it was made', async () => {
    expect(files.filter(name => !name.startsWith('.kvidx'))).toHaveLength(9)
    expect(await attempt(fixture)).toEqual({ kind: 'same' })
  })

  it('shows a flipped bit at every structural position', async () => {
    const random = new Random(1)
    let tried = 0
    for (const name of files) {
      for (const position of structuralPositions(name, readFileSync(join(fixture.root, name)))) {
        await damage('structural flip', name, flip(position * 8 + random.below(8)), mayBeHarmless(name))
        tried++
      }
    }
    expect(tried).toBeGreaterThan(400)
  }, 300_000)

  it(`shows ${RANDOM_FLIPS} random flipped bits`, async () => {
    const random = new Random(2)
    for (let i = 0; i < RANDOM_FLIPS; i++) {
      const name = files[random.below(files.length)]!
      const bits = readFileSync(join(fixture.root, name)).length * 8
      await damage('random flip', name, flip(random.below(bits)), mayBeHarmless(name))
    }
  }, 300_000)

  it('shows files that are cut off, emptied, followed by something or missing', async () => {
    const random = new Random(3)
    for (const name of files) {
      const { length } = readFileSync(join(fixture.root, name))
      for (const keep of [1, 15, 16, 80, 96, length >> 1, length - 1, random.below(length)])
        if (keep < length) await damage('truncation', name, bytes => bytes.subarray(0, keep))
      await damage('empty file', name, () => Buffer.alloc(0))
      await damage('bytes behind', name, bytes => Buffer.concat([bytes, Buffer.from('x')]))
      // the end of what was shipped is known outside of the store: without the last segment nothing in the store tells of it
      const end: Target = { kind: 'position', position: lastPosition }
      if (!name.endsWith('manifest.json') && !name.endsWith('verification.json') && !name.endsWith('epochs.json'))
        await damage('missing file', name, () => undefined, false, end)
    }
  }, 120_000)

  it('shows files that were swapped for each other', async () => {
    for (const a of files) {
      for (const b of files) {
        if (a >= b) continue
        const [first, second] = [readFileSync(join(fixture.root, a)), readFileSync(join(fixture.root, b))]
        writeFileSync(join(fixture.root, a), second)
        await damage('swapped files', b, () => first)
        writeFileSync(join(fixture.root, a), first)
      }
    }
  }, 120_000)

  it('does without what is missing by design: a backup without a manifest is no backup', async () => {
    const manifest = files.find(name => name.includes('/snapshots/') && name.endsWith('manifest.json'))!
    const outcome = await damage('missing manifest', manifest, () => undefined)
    expect(outcome).toMatchObject({ code: 'backup_not_found' })
  })

  it("shows another database's file under the right name, and a whole foreign backup", async () => {
    const other = await Source.open(ENGINE, keys)
    await other.churn(new Random(9), 40)
    const full = await other.full('full')
    const foreign = join(other.root, 'store', full.path)
    for (const name of readdirSync(foreign)) {
      const mine = files.find(file => file.includes('/snapshots/') && file.endsWith(`/${name}`))!
      await damage('file of another database', mine, () => readFileSync(join(foreign, name)))
    }
    const place = join(
      fixture.root,
      fixture.home.namespace,
      fixture.home.database,
      fixture.home.lineage,
      'snapshots',
      full.directory,
    )
    cpSync(foreign, place, { recursive: true })
    expect(await attempt(fixture)).toMatchObject({ kind: 'named', code: 'foreign_lineage' })
    rmSync(place, { recursive: true })
    await other.close()
  })

  if (kind === 'encrypted')
    it('says which key is needed and which were given', async () => {
      const wrong = masterKey(Buffer.alloc(32, 2))
      const outcome = await attempt({ ...fixture, context: { ...fixture.context, keys: new KeyRing([wrong]) } })
      expect(outcome).toMatchObject({
        code: 'wrong_encryption_key',
        message: expect.stringMatching(`${key.id}.*${wrong.id}`),
      })
      const catalog = await readLineage(fixture.context.store, fixture.home)
      const scratch = source.fresh('scratch')
      mkdirSync(scratch)
      const context = { ...fixture.context, keys: NO_KEYS, clock: systemClock }
      const verifying = verifyBackup(context, catalog, catalog.backups[0]!, {
        recorded: undefined,
        engine: ENGINE,
        scratch,
      })
      // not a finding about the backup: nothing may be written that makes it look damaged
      await expect(verifying).rejects.toMatchObject({ code: 'wrong_encryption_key' })
      expect(await attempt(fixture)).toEqual({ kind: 'same' })
    })

  it('writes what a verification finds, and the backup is no base any more', async () => {
    const name = files.find(file => file.includes('records.kvidx'))!
    const path = join(fixture.root, name)
    const before = readFileSync(path)
    writeFileSync(path, flip(before.length * 4)(Buffer.from(before)))
    const catalog = await readLineage(fixture.context.store, fixture.home)
    const scratch = source.fresh('scratch')
    mkdirSync(scratch)
    const backup = catalog.backups.find(candidate => candidate.kind === 'Full')!
    const result = await verifyBackup(fixture.context, catalog, backup, {
      recorded: undefined,
      engine: ENGINE,
      scratch,
    })
    expect(result).toMatchObject({
      result: 'Failed',
      error: { code: 'backup_corrupt', message: expect.stringContaining('records.kvidx') },
    })
    expect(await attempt(fixture)).toMatchObject({ kind: 'named', code: 'backup_not_found' })
    expect(readdirSync(scratch)).toEqual([])
  })
})
