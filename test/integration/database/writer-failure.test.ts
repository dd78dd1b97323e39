import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
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
