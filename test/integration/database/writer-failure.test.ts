import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import pino from 'pino'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { systemClock } from '../../../src/common/clock.ts'
import type { KvidxError } from '../../../src/common/errors.ts'
import { startSidecarProcess } from '../../support/sidecar-process.ts'

const root = mkdtempSync(join(tmpdir(), 'kvidx-writer-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

test('a commit whose outcome nobody can know is answered so, and the database says that it needs a restart', async () => {
  const directory = join(root, 'orders')
  const broken = await startSidecarProcess(directory, 'SQLite', { env: { KVIDX_FAILPOINTS: 'commit.after=3*error' } })
  const put = async (address: string, key: number) =>
    (await fetch(`${address}/v1/records/${key}`, { method: 'PUT', body: 'x' })).status
  expect(await put(broken.data, 1)).toBe(201)
  expect(await put(broken.data, 2)).toBe(201)
  const third = await fetch(`${broken.data}/v1/records/3`, { method: 'PUT', body: 'x' })
  expect(third.status).toBe(503)
  expect(await third.json()).toMatchObject({ code: 'unknown_outcome' })
  await broken.kill('SIGKILL')
  const again = await startSidecarProcess(directory, 'SQLite')
  const count = (await (await fetch(`${again.data}/v1/count`)).json()) as { count: string }
  // the third had reached the disk: acknowledged ones are there, of the other both is allowed
  expect(['2', '3']).toContain(count.count)
  await again.kill('SIGTERM')
})

test('the command answers all that is under way before it ends', async () => {
  const kvidx = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))
  const flags = ['--engine', 'SQLite', '--data-dir', join(root, 'command'), '--data-port', '0', '--ops-port', '0']
  const child = spawn(process.execPath, [kvidx, 'sidecar', ...flags], {
    env: { ...process.env, KVIDX_FAILPOINTS: 'commit.before=sleep(3000);commit.after=1*error' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const exited = once(child, 'exit')
  const address = await new Promise<string>((resolve, reject) => {
    let log = ''
    createInterface({ input: child.stderr }).on('line', line => {
      log += `${line}\n`
      const found = /"dataApi":"([^"]+)"/.exec(line)?.[1]
      if (found) resolve(found)
    })
    void exited.then(() => reject(new Error(`it ended before it served:\n${log}`)))
  })
  const puts = Array.from({ length: 20 }, async (_, key) => {
    const answer = await fetch(`${address}/v1/records/${key}`, { method: 'PUT', body: 'x' })
    return `${answer.status} ${((await answer.json()) as { code: string }).code}`
  })
  const answers = await Promise.all(puts)
  expect(new Set(answers)).toEqual(new Set(['503 unknown_outcome']))
  expect(await exited).toEqual([1, null])
})

test('a range removal in slices that fails midway says how much it had removed', async () => {
  const directory = join(root, 'slices')
  const broken = await startSidecarProcess(directory, 'SQLite', { env: { KVIDX_FAILPOINTS: 'commit.before=4*error' } })
  const lines = (from: number, count: number) =>
    Array.from({ length: count }, (_, key) => `{"op":"put","key":"${from + key}","text":"x"}\n`).join('')
  const filled = await fetch(`${broken.data}/v1/batch`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: lines(0, 25_000),
  })
  expect(filled.status).toBe(200)
  // the third of its slices is the fourth commit
  const cut = await fetch(`${broken.data}/v1/records?all=true&atomic=false`, { method: 'DELETE' })
  expect(cut.status).toBe(503)
  expect(await cut.json()).toMatchObject({
    code: 'unknown_outcome',
    removed: '20000',
    detail: expect.stringContaining('20000 records before were removed'),
  })
  await broken.kill('SIGKILL')
  const again = await startSidecarProcess(directory, 'SQLite')
  expect(((await (await fetch(`${again.data}/v1/count`)).json()) as { count: string }).count).toBe('5000')
  await again.kill('SIGTERM')
})

test('when the engine refuses a whole group, each answer carries the position of its own commit', async () => {
  const directory = join(root, 'group')
  mkdirSync(directory)
  const database = new LocalDatabase(
    databaseConfig({
      name: 'orders',
      engine: 'LMDB',
      dataDirectory: directory,
      tuning: { syncMode: 'Full', mapSize: 1 << 20, mapSizeLimit: 4 << 20 },
    }),
    systemClock,
    pino({ level: 'silent' }),
  )
  onTestFinished(() => database.close())
  await database.open(new AbortController().signal)
  const put = (key: bigint, length: number) =>
    database.write({ operations: [{ op: 'put', key, term: 0n, cmd: 0n, data: new Uint8Array(length) }] })
  // one group: nothing is sent to the writer before this turn ends
  const results = await Promise.allSettled([put(1n, 10), put(2n, 8 << 20), put(3n, 10), put(4n, 10)])
  expect(
    results.map(result =>
      result.status === 'fulfilled' ? result.value.position.seq : (result.reason as KvidxError).code,
    ),
  ).toEqual([1n, 'no_space', 2n, 3n])
})
