import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import { Maintenance } from '../../../sidecar/maintenance/maintenance.ts'
import { withDefaults } from '../../../src/api/v1alpha1/defaults.ts'
import { sidecarConfig } from '../../../src/api/v1alpha1/sidecar-config.ts'
import { ManualClock, systemClock } from '../../../src/common/clock.ts'
import { createLog } from '../../../src/common/log.ts'

const GOLDEN = 'test/fixtures/kvidxkit/sqlite3'
const HOUR = 3600_000
const silent = createLog({ name: 'test', level: 'Silent' }).logger
const never = new AbortController().signal

function volumeWith(source: string): string {
  const root = mkdtempSync(join(tmpdir(), 'kvidx-adopt-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  mkdirSync(join(root, 'db'), { recursive: true })
  for (const suffix of ['', '-wal'])
    if (existsSync(`${source}${suffix}`)) copyFileSync(`${source}${suffix}`, join(root, 'db', `main.db${suffix}`))
  return root
}

async function adopt(root: string, clock = systemClock) {
  const database = new LocalDatabase(
    databaseConfig({ name: 'orders', engine: 'SQLite', dataDirectory: root }),
    clock,
    silent,
  )
  const report = await database.open(never)
  const spec = withDefaults({ engine: 'SQLite', storage: { size: '1Gi' } } as never)
  const { dynamic } = sidecarConfig({ namespace: 'default', name: 'orders', spec: spec as never })
  const maintenance = new Maintenance(database, { dynamic, onChange: () => () => {} }, clock, silent)
  await maintenance.start(report)
  let open = true
  const close = async () => {
    if (!open) return
    open = false
    await maintenance.stop()
    await database.close()
  }
  onTestFinished(close)
  return { database, report, close }
}

describe('what lies in db/ of a volume without a database, and would not be read, is refused and left as it is:', () => {
  test.each([
    ['SQLite', 'a SQLite file under its own name', ['main.sqlite3']],
    ['SQLite', 'the log under the name of the original', ['main.db', 'main.sqlite3-wal']],
    ['SQLite', 'a log alone', ['main.db-wal']],
    ['SQLite', 'files of LMDB', ['data.mdb']],
    ['LMDB', 'a SQLite file for LMDB', ['main.db']],
  ] as const)('%s, %s', async (engine, _, files) => {
    const root = volumeWith('nothing')
    for (const file of files) writeFileSync(join(root, 'db', file), '')
    const database = new LocalDatabase(
      databaseConfig({ name: 'orders', engine, dataDirectory: root }),
      systemClock,
      silent,
    )
    await expect(database.open(never)).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(`holds ${files.at(-1)}, which ${engine} would not read.*taken over as main.db`),
    })
    expect(readdirSync(join(root, 'db')).sort()).toEqual([...files])
    for (const file of files) rmSync(join(root, 'db', file))
    await database.open(never)
    await database.close()
  })
})

describe('a database of kvidxkit at /data/db/main.db', () => {
  test.each(['clean', 'hot'])(
    '%s copy: everything stays, orphans are dropped, nothing goes within the grace',
    async kind => {
      const root = volumeWith(goldenFile(kind))
      const { database, report, close } = await adopt(root)
      expect(report).toMatchObject({ adoptedData: true, orphanExpiries: 1, foreignWrites: false })
      expect(Number(database.state.count)).toBe(45)
      expect(Number(database.state.expiring)).toBe(6)
      expect((await database.count(EVERY_KEY, never)).count).toBe(44)
      expect(database.get(11n).record).toBeUndefined()
      expect(await database.runTask('expire', {}, never)).toMatchObject({
        removed: 0,
        paused: expect.stringMatching(/adopted/),
      })
      await vi.waitFor(() =>
        expect(database.health.causes.find(cause => cause.reason === 'AdoptedExpiries')?.message).toMatch(
          /^1 expired record/,
        ),
      )
      expect(await database.runTask('check', {}, never)).toMatchObject({ count: '45' })
      await close()

      // a restart is no new adoption, and the grace goes on from the first one
      const again = await adopt(root)
      expect(again.report).toMatchObject({ adoptedData: false, lastEnd: 'clean', orphanExpiries: 0 })
      expect(Number(again.database.state.count)).toBe(45)
      expect(await again.database.runTask('expire', {}, never)).toMatchObject({ removed: 0 })
      await again.close()

      const later = new ManualClock(Date.now() + 25 * HOUR)
      const afterGrace = await adopt(root, later)
      // a day without a commit: the clock has to be confirmed first
      expect(await afterGrace.database.runTask('expire', {}, never)).toMatchObject({
        paused: expect.stringMatching(/clock/),
      })
      expect(await afterGrace.database.runTask('expire', { confirm: 'true' }, never)).toEqual({ removed: 1 })
      expect(Number(afterGrace.database.state.count)).toBe(44)
    },
  )

  test('an expiry of 0 means long ago, as kvidxkit reads it', async () => {
    const root = volumeWith(goldenFile('clean'))
    const file = new Database(join(root, 'db', 'main.db'))
    file.exec('UPDATE _kvidx_ttl SET expires_at = 0 WHERE id = 11')
    file.close()
    const { database } = await adopt(root)
    expect(database.get(11n).record).toBeUndefined()
    expect((await database.count(EVERY_KEY, never)).count).toBe(44)
    expect(Number(database.state.expiring)).toBe(6)
    expect(await database.runTask('check', {}, never)).toMatchObject({ count: '45' })
  })
})

function goldenFile(kind: string): string {
  return join(GOLDEN, kind === 'hot' ? 'hot/golden.sqlite3' : 'golden.sqlite3')
}
