import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { sidecarHere } from '../../support/sidecar-here.ts'
import { startSidecarProcess } from '../../support/sidecar-process.ts'
import { rocksdbIsThere } from '../engine/native.ts'

const COMPACTABLE = ['SQLite', 'LMDB', ...(rocksdbIsThere ? (['RocksDB'] as const) : [])] as const
const RECORDS = 400
const BYTES = 10_000

function sizeOf(directory: string): number {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  return entries
    .filter(entry => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).blocks * 512, 0)
}

/** A database of 4 MB, of which nothing but one record is left. */
async function emptied(engine: 'SQLite' | 'LMDB' | 'RocksDB') {
  const here = await sidecarHere({ engine, spec: { changeLog: { maxSize: '1Mi' } } })
  const { sidecar, directory } = here
  const data = await sidecar.serving
  const ops = (from: number) =>
    Array.from({ length: 100 }, (_, index) =>
      JSON.stringify({
        op: 'put',
        key: String(from + index),
        data: Buffer.alloc(BYTES, from + index).toString('base64'),
      }),
    ).join('\n')
  for (let from = 1; from <= RECORDS; from += 100) {
    const answer = await fetch(`${data}/v1/batch`, {
      method: 'POST',
      body: ops(from),
      headers: { 'content-type': 'application/x-ndjson' },
    })
    expect(answer.status).toBe(200)
  }
  await fetch(`${data}/v1/admin/checkpoint`, { method: 'POST' })
  const full = sizeOf(join(directory, 'db'))
  await fetch(`${data}/v1/records?start=2&end=${RECORDS}`, { method: 'DELETE' })
  const task = async (name: string) => {
    const answer = await fetch(`${data}/v1/admin/${name}`, { method: 'POST' })
    return (await answer.json()) as { freedBytes: number; outcome: string; code?: string }
  }
  return { here, task, full, size: () => sizeOf(join(directory, 'db')), read: () => fetch(`${data}/v1/records/1`) }
}

describe('space that is given back', () => {
  test('by vacuum of SQLite is what it says, and the file is smaller when it has said so', async () => {
    const { task, size, read } = await emptied('SQLite')
    await task('checkpoint')
    const before = size()
    const { outcome, freedBytes } = await task('vacuum')
    expect(outcome).toBe('ok')
    expect(freedBytes).toBeGreaterThan(1_000_000)
    expect(before - size()).toBeGreaterThan(0.9 * freedBytes)
    expect((await read()).status).toBe(200)
    expect((await task('vacuum')).freedBytes).toBe(0)
  })

  test.each(COMPACTABLE)('by compact on %s is never less than nothing', async engine => {
    const { task, full, size, read } = await emptied(engine)
    const { outcome, freedBytes } = await task('compact')
    expect(outcome).toBe('ok')
    expect(freedBytes).toBeGreaterThanOrEqual(0)
    // the change log still has the last of the records; the others are gone from the files
    expect(size()).toBeLessThan(full)
    expect((await read()).status).toBe(200)
  })

  test('LMDB is swapped for a compact copy: same lineage, position and content, reads go on, nothing is left beside', async () => {
    const { task, size, read, here } = await emptied('LMDB')
    const { data } = await here.status()
    const before = size()
    const compacting = task('compact')
    const seen = new Set<number>()
    for (let running = true; running; ) {
      running = await Promise.race([compacting.then(() => false), read().then(({ status }) => !!seen.add(status))])
    }
    expect(await compacting).toMatchObject({ outcome: 'ok' })
    expect((await compacting).freedBytes).toBeGreaterThan(1_000_000)
    expect(before - size()).toBeGreaterThan(1_000_000)
    // 503 only while the files change places
    expect([...seen].filter(status => status !== 503)).toEqual([200])
    const { data: after } = await here.status()
    expect([after.position, after.digest, after.keys]).toEqual([data.position, data.digest, data.keys])
    for (const name of ['quarantine', 'staging']) expect(readdirSync(join(here.directory, name))).toEqual([])
    const put = await fetch(`${await here.sidecar.serving}/v1/records/2`, { method: 'PUT', body: 'x' })
    expect(put.status).toBe(201)
    expect((await task('check')).outcome).toBe('ok')
  })

  test.each([
    ['swap.beforeJournal', 'full'],
    ['swap.afterJournal', 'compact'],
    ['swap.quarantined', 'compact'],
    ['swap.renamed', 'compact'],
  ])('a death at %s leaves the %s files of LMDB, with all records', { timeout: 60_000 }, async (point, left) => {
    const root = mkdtempSync(join(tmpdir(), 'kvidx-compact-'))
    onTestFinished(() => rmSync(root, { recursive: true, force: true }))
    const directory = join(root, 'volume')
    const spec = { changeLog: { maxSize: '1Mi' } }
    const first = await startSidecarProcess(directory, 'LMDB', { spec, env: { KVIDX_FAILPOINTS: `${point}=kill` } })
    for (let key = 1; key <= 40; key++)
      await fetch(`${first.data}/v1/records/${key}`, { method: 'PUT', body: Buffer.alloc(100_000, key) })
    await fetch(`${first.data}/v1/records?start=3&end=40`, { method: 'DELETE' })
    const full = sizeOf(join(directory, 'db'))
    await expect(fetch(`${first.data}/v1/admin/compact`, { method: 'POST' })).rejects.toThrow()
    await first.kill('SIGKILL')
    const again = await startSidecarProcess(directory, 'LMDB', { spec })
    onTestFinished(() => again.kill('SIGKILL'))
    const { count } = (await (await fetch(`${again.data}/v1/count`)).json()) as { count: string }
    expect(count).toBe('2')
    expect((await fetch(`${again.data}/v1/admin/check`, { method: 'POST' })).status).toBe(200)
    expect(full - sizeOf(join(directory, 'db')) > 1_000_000).toBe(left === 'compact')
    await again.kill('SIGTERM')
  })
})
