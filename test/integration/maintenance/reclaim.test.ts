import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { sidecarHere } from '../../support/sidecar-here.ts'
import { rocksdbIsThere } from '../engine/native.ts'

// LMDB fills its free pages again and never gives them back in place: it refuses, see below
const COMPACTABLE = ['SQLite', ...(rocksdbIsThere ? (['RocksDB'] as const) : [])] as const
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
  const { sidecar, directory } = await sidecarHere({ engine, spec: { changeLog: { maxSize: '1Mi' } } })
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
  return { task, full, size: () => sizeOf(join(directory, 'db')), read: () => fetch(`${data}/v1/records/1`) }
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

  test('LMDB says that it cannot, and stays as it is', async () => {
    const { task, read } = await emptied('LMDB')
    expect((await task('compact')).code).toBe('setting_unsupported')
    expect((await read()).status).toBe(200)
  })
})
