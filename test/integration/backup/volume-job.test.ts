import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, describe, expect, test } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { formatDigest } from '../../../sidecar/database/digest.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { runVolumeJob } from '../../../sidecar/job/volume-job.ts'
import { systemClock } from '../../../src/common/clock.ts'

const ENGINES: readonly EngineKind[] = ['SQLite', 'LMDB', 'RocksDB']
const root = mkdtempSync(join(tmpdir(), 'kvidx-volume-job-'))
const log = pino({ level: 'silent' })
const { signal } = new AbortController()
afterAll(() => rmSync(root, { recursive: true }))

let volumes = 0
/** A volume with 200 records, closed or as a power loss leaves it. */
async function volume(engine: EngineKind, crash: boolean) {
  const directory = join(root, `${volumes++}`)
  mkdirSync(directory, { recursive: true })
  const database = new LocalDatabase(
    databaseConfig({ name: 'orders', engine, dataDirectory: directory }),
    systemClock,
    log,
  )
  await database.open(signal)
  for (let key = 1n; key <= 200n; key++)
    await database.write({
      operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: Buffer.from(`value ${key}`.repeat(20)) }],
    })
  const { position, count, digest } = database.state
  const copy = `${directory}-copy`
  if (crash) cpSync(directory, copy, { recursive: true })
  await database.close()
  if (!crash) cpSync(directory, copy, { recursive: true })
  return { copy, position, count, digest, lineage: database.lineage }
}

describe.each(ENGINES)('a copy of a volume of %s', engine => {
  test.each([true, false])('is opened and counted, taken while it was open: %s', async crash => {
    const { copy, position, count, digest, lineage } = await volume(engine, crash)
    expect(await runVolumeJob(copy, systemClock, log, signal)).toMatchObject({
      phase: 'Completed',
      lineage,
      engine,
      position: `${position.epoch}.${position.seq}`,
      records: Number(count),
      digest: formatDigest(digest),
      verifiedAt: expect.any(String),
    })
  })

  test('is not called sound when its files are damaged', async () => {
    const { copy } = await volume(engine, false)
    const files = readdirSync(join(copy, 'db'), { recursive: true, withFileTypes: true }).filter(file => file.isFile())
    for (const file of files) {
      const path = join(file.parentPath, file.name)
      const content = readFileSync(path)
      for (let at = content.length >> 2; at < content.length; at += 97) content[at] = (content[at] ?? 0) ^ 0xff
      writeFileSync(path, content)
    }
    expect(await runVolumeJob(copy, systemClock, log, signal)).toMatchObject({
      phase: 'Failed',
      code: expect.any(String),
      error: expect.any(String),
    })
  })
})

test('what is no volume of a database is said to be none', async () => {
  const directory = join(root, 'empty')
  mkdirSync(directory)
  expect(await runVolumeJob(directory, systemClock, log, signal)).toMatchObject({
    phase: 'Failed',
    code: 'backup_corrupt',
    error: expect.stringContaining('no identity.json'),
  })
})
