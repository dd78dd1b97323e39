import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { sidecarHere, temporaryDirectory } from '../../support/sidecar-here.ts'

const KVIDX = fileURLToPath(new URL('../../../bin/kvidx', import.meta.url))
const patience = { timeout: 20_000, interval: 100 }

/** `mode path` of what is not 0700 or 0600. */
function wrong(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true }).flatMap(entry => {
    const path = join(entry.parentPath, entry.name)
    const mode = statSync(path).mode & 0o777
    return mode === (entry.isDirectory() ? 0o700 : 0o600) ? [] : [`${mode.toString(8)} ${path}`]
  })
}

describe.each(['SQLite', 'LMDB', 'RocksDB'] as const)('%s', engine => {
  test('what is on the volume is for its own user alone, and is made so at the start', {
    timeout: 60_000,
  }, async () => {
    const root = temporaryDirectory()
    const directory = join(root, 'volume')
    const logFile = join(root, 'log')
    // through a shell, with the mask of a system that lets everybody read
    const args = [
      'sidecar',
      '--engine',
      engine,
      '--name',
      'orders',
      '--data-dir',
      directory,
      '--data-port',
      '0',
      '--ops-port',
      '0',
    ]
    const child = spawn('sh', ['-c', 'umask 022; exec "$0" "$@" 2>"$LOG" >&2', KVIDX, ...args], {
      env: { ...process.env, LOG: logFile },
      stdio: 'ignore',
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
    const url = await vi.waitFor(() => {
      const line =
        readFileSync(logFile, 'utf8')
          .split('\n')
          .find(text => text.includes('"serving"')) ?? ''
      return (JSON.parse(line) as { dataApi: string }).dataApi
    }, patience)
    expect((await fetch(`${url}/v1/records/1`, { method: 'PUT', body: 'x' })).status).toBe(201)
    expect(wrong(directory)).toEqual([])
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(wrong(directory)).toEqual([])

    const old = join(directory, 'quarantine', '20200102T030405Z-restored')
    mkdirSync(old)
    writeFileSync(join(old, 'main.db'), 'old')
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }))
      chmodSync(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o770 : 0o664)
    const { sidecar } = await sidecarHere({ directory, engine })
    await sidecar.serving
    const others = wrong(directory).filter(line => !/\/(main\.rocks\/|.*\.new$)/.test(line))
    expect(others).toEqual([])
    expect(wrong(old)).toEqual([])
  })
})
