import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, onTestFinished, test } from 'vitest'
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
