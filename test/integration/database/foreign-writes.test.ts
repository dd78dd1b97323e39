import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test, vi } from 'vitest'
import { sidecarHere } from '../../support/sidecar-here.ts'
import { startSidecarProcess } from '../../support/sidecar-process.ts'

/** Somebody else writes to the files of a SQLite database, as kvidxkit does: only to `log`. */
const quiet = { monitoring: { logLevel: 'Error' } }
const patience = { timeout: 20_000, interval: 100 }
const main = (directory: string) => join(directory, 'db', 'main.db')

const reasons = (status: { health: { causes: { reason: string }[] } }) =>
  status.health.causes.map(cause => cause.reason)

async function put(url: string, key: number, body: string, query = ''): Promise<void> {
  expect((await fetch(`${url}/v1/records/${key}${query}`, { method: 'PUT', body })).status).toBeLessThan(300)
}

const check = async (url: string, query = '') => {
  const answer = await fetch(`${url}/v1/admin/check${query}`, { method: 'POST' })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

function foreignWriter(directory: string, ...statements: string[]): void {
  const connection = new Database(main(directory))
  for (const statement of statements) connection.exec(statement)
  connection.close()
}

async function filled(): Promise<{ directory: string; digest: string }> {
  const { sidecar, directory, status } = await sidecarHere({ spec: quiet })
  const url = await sidecar.serving
  for (let key = 1; key <= 20; key++) await put(url, key, `ours ${key}`, key === 5 ? '?ttl=1h' : '')
  const { digest } = (await status()).data
  await sidecar.stop()
  return { directory, digest }
}

const KVIDXKIT_INSERT = "INSERT INTO log (id, created, term, cmd, data) VALUES (100, 1, 7, 8, 'theirs')"

describe('writes by another program while the database was stopped', () => {
  test('are kept and counted, in a new epoch that no chain of changes leads to, and are told', {
    timeout: 60_000,
  }, async () => {
    const { directory, digest } = await filled()
    foreignWriter(
      directory,
      KVIDXKIT_INSERT,
      "UPDATE log SET data = 'changed' WHERE id = 3",
      'DELETE FROM log WHERE id = 5',
    )
    const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
    const url = await sidecar.serving
    const { start, data, epochs, health } = await status()
    expect(start).toMatchObject({ lastEnd: 'changed', foreignWrites: true, orphanExpiries: 1 })
    expect(data).toMatchObject({ position: '2.21', count: '20', expiring: '0' })
    expect(data.digest).not.toBe(digest)
    expect(data.log.base).toBe('2.21')
    expect(epochs.at(-1)).toMatchObject({ epoch: '2', parentEpoch: '1', forkSeq: '20', reason: 'foreignWrites' })
    expect(health.causes.map((cause: { reason: string }) => cause.reason)).toContain('ForeignWrites')
    const theirs = await fetch(`${url}/v1/records/100`)
    expect([theirs.headers.get('kvidx-term'), await theirs.text()]).toEqual(['7', 'theirs'])
    expect(await (await fetch(`${url}/v1/records/3`)).text()).toBe('changed')
    expect((await check(url)).status).toBe(200)
    expect((await fetch(`${url}/v1/changes?since=1.20`)).status).toBe(410)
    await put(url, 200, 'it goes on')
    expect((await status()).data.position).toBe('2.22')
    await sidecar.stop()
    // told once, not at each start
    const again = await sidecarHere({ directory, spec: quiet })
    await again.sidecar.serving
    expect((await again.status()).start).toMatchObject({ lastEnd: 'clean', foreignWrites: false })
    await again.sidecar.stop()
  })

  test('that leave everything as it was begin no epoch', { timeout: 60_000 }, async () => {
    const { directory, digest } = await filled()
    foreignWriter(directory, KVIDXKIT_INSERT, 'DELETE FROM log WHERE id = 100')
    const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
    await sidecar.serving
    const { start, data } = await status()
    expect(start).toMatchObject({ lastEnd: 'changed', foreignWrites: false })
    expect(data).toMatchObject({ position: '1.20', digest })
    await sidecar.stop()
  })
})

test('after an unclean end they are found beside the work: no write is lost or miscounted meanwhile', {
  timeout: 60_000,
}, async () => {
  const { directory } = await filled()
  const killed = await startSidecarProcess(directory, 'SQLite')
  await put(killed.data, 21, 'ours 21')
  await killed.kill('SIGKILL')
  foreignWriter(directory, KVIDXKIT_INSERT, 'DELETE FROM log WHERE id = 7')
  const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
  const url = await sidecar.serving
  await Promise.all(Array.from({ length: 50 }, (_, i) => put(url, 300 + i, `meanwhile ${i}`)))
  await vi.waitFor(async () => expect((await status()).epochs.at(-1).reason).toBe('foreignWrites'), patience)
  expect((await status()).data.count).toBe('71')
  await vi.waitFor(async () => expect(reasons(await status())).toEqual(['ForeignWrites']), patience)
  expect(await check(url)).toMatchObject({ status: 200, body: { count: '71' } })
  await sidecar.stop()
})

test('content that changed under an open database is not taken over until a person says so', {
  timeout: 60_000,
}, async () => {
  const { directory } = await filled()
  const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
  const url = await sidecar.serving
  expect((await check(url)).status).toBe(200)
  const before = (await status()).data.digest
  foreignWriter(directory, "UPDATE log SET data = 'rotten' WHERE id = 3")
  const found = await check(url)
  expect(found).toMatchObject({ status: 500, body: { code: 'engine_corrupt' } })
  const { data, health, epochs } = await status()
  expect([data.digest, epochs.length]).toEqual([before, 1])
  expect(health.causes).toContainEqual(
    expect.objectContaining({ reason: 'ContentDiffers', message: expect.stringContaining('kvidx check --accept') }),
  )
  expect(await check(url, '?accept=true')).toMatchObject({ status: 200, body: { foreignWrites: true } })
  await vi.waitFor(async () => expect(reasons(await status())).toEqual(['ForeignWrites']), patience)
  expect((await check(url)).status).toBe(200)
  await sidecar.stop()
})

test('a volume that was put back to an earlier state by its files alone is found', { timeout: 60_000 }, async () => {
  const { directory } = await filled()
  const old = readFileSync(main(directory))
  const between = await sidecarHere({ directory, spec: quiet })
  await put(await between.sidecar.serving, 50, 'later')
  await between.sidecar.stop()
  writeFileSync(main(directory), old)
  const { sidecar, status } = await sidecarHere({ directory, spec: quiet })
  await sidecar.serving
  // the old file is sound in itself; only the marker knows that it is not the one that was left
  const { start, data, epochs } = await status()
  expect(start.lastEnd).toBe('changed')
  expect(data.count).toBe('20')
  // or the position of what came later would be given out a second time
  expect([data.position, epochs.at(-1).reason]).toEqual(['2.21', 'foreignWrites'])
  await sidecar.stop()
})
