import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { s3Binary, startS3 } from '../integration/backup/s3-server.ts'
import type { RunningS3 } from '../servers/versitygw.ts'

/** For any size: design section 6 and docs/backup.md. */
const CEILING_MIB = 256
/** Many times what is ever held. */
const DATA_MIB = 600

function measure(url: string, directory: string, mode: string, env: Record<string, string> = {}) {
  const script = join(import.meta.dirname, 'backup-memory.ts')
  const args = [script, String(DATA_MIB), url, join(directory, `scratch-${mode}`), mode]
  const { stdout, stderr } = spawnSync(process.execPath, args, { env: { ...process.env, ...env }, maxBuffer: 1 << 20 })
  try {
    return JSON.parse(stdout.toString()) as { backup: number; verify: number; restore: number; result: string }
  } catch {
    throw new Error(stderr.toString() || stdout.toString())
  }
}

describe(`${DATA_MIB} MiB of records`, () => {
  let directory: string
  let server: RunningS3 | undefined
  beforeAll(async () => {
    directory = mkdtempSync(join(process.env.KVIDX_BENCH_DIR ?? tmpdir(), 'kvidx-memory-'))
    if (s3Binary) server = await startS3()
  })
  afterAll(async () => {
    await server?.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  it(`are stored, verified and restored within ${CEILING_MIB} MiB of memory, in a directory and encrypted`, () => {
    const store = join(directory, 'store')
    mkdirSync(store)
    const figures = measure(`file://${store}`, directory, 'encrypted')
    console.log(`RSS in MiB, directory: ${JSON.stringify(figures)}`)
    expect(figures.result).toBe('Verified')
    for (const stage of ['backup', 'verify', 'restore'] as const)
      expect(figures[stage], stage).toBeLessThan(CEILING_MIB)
  }, 300_000)

  it.skipIf(!s3Binary)(
    `are stored, verified and restored within ${CEILING_MIB} MiB of memory, in S3`,
    () => {
      if (!server) return
      mkdirSync(join(server.directory, 'memory'))
      const url = `s3://memory?endpoint=${encodeURIComponent(server.endpoint)}`
      const credentials = { AWS_ACCESS_KEY_ID: server.accessKeyId, AWS_SECRET_ACCESS_KEY: server.secretAccessKey }
      const figures = measure(url, directory, 'plain', credentials)
      console.log(`RSS in MiB, S3: ${JSON.stringify(figures)}`)
      expect(figures.result).toBe('Verified')
      for (const stage of ['backup', 'verify', 'restore'] as const)
        expect(figures[stage], stage).toBeLessThan(CEILING_MIB)
    },
    300_000,
  )
})
