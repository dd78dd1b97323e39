import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { fileURLToPath } from 'node:url'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { configPaths, standalonePaths } from '../../../src/standalone/paths.ts'
import { random } from '../../support/random.ts'
import { startBuiltSidecar } from '../http/built-sidecar.ts'
import { importRecords, memoryOf } from '../http/transfer.ts'

const KVIDX = fileURLToPath(new URL('../../../dist/kvidx.js', import.meta.url))
const WRITERS = 8
const VALUE = 1024
const ALONE_MS = 8000

/**
 * What a backup does to those who write meanwhile, as it is in operation: the database in one process, the job in another, durable writes from a third,
 * and continuous backup of the same writes, whose age of the oldest unshipped one (RPO) is read from the status.
 */
export async function foreground(root: string, engine: EngineKind, bytes: number): Promise<void> {
  const paths = standalonePaths(root, 'default', 'bench')
  for (const directory of [paths.data, paths.backups]) mkdirSync(directory, { recursive: true })
  const sidecar = await startBuiltSidecar(paths.data, engine, {
    spec: {
      backup: { destination: { volume: { size: '20Gi' } }, continuous: { enabled: true, interval: '1s' } },
    },
    paths: configPaths(paths),
  })
  try {
    await importRecords(sidecar.data, Math.ceil(bytes / VALUE), 1, mixed())
    const ages: number[] = []
    const watch = setInterval(() => {
      fetch(`${sidecar.operations}/status`)
        .then(answer => answer.json())
        .then(status => ages.push((status as { backup: { continuous: { rpoMs: number } } }).backup.continuous.rpoMs))
        .catch(() => undefined)
    }, 250)
    const alone = await writes(sidecar.data, new Promise(resolve => setTimeout(resolve, ALONE_MS)))
    const began = performance.now()
    const job = backup(sidecar.data, paths.backups)
    const beside = await writes(sidecar.data, job.ended)
    const seconds = (performance.now() - began) / 1000
    clearInterval(watch)
    const ratio = beside.p99 / alone.p99
    console.log(`  writes alone: ${alone.text}`)
    console.log(
      `  writes during a full backup (${seconds.toFixed(1)} s, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s, job's RSS ${job.rss()} MiB [< 256 MiB: ${job.rss() < 256 ? 'met' : 'MISSED'}]): ${beside.text}` +
        `  p99 ${ratio.toFixed(2)} times  [≤ 2: ${ratio <= 2 ? 'met' : 'MISSED'}]`,
    )
    ages.sort((a, b) => a - b)
    console.log(
      `  RPO of continuous backup under these writes: median ${at(ages, 0.5)} ms, highest ${at(ages, 1)} ms (${ages.length} looks); sidecar's highest RSS ${memoryOf(sidecar.pid).highest} MiB`,
    )
  } finally {
    await sidecar.stop()
  }
}

function backup(server: string, store: string): { ended: Promise<void>; rss: () => number } {
  const args = [
    KVIDX,
    'backup',
    'create',
    'foreground',
    '--no-verify',
    '--server',
    server,
    '--store',
    `file://${store}`,
  ]
  const child = spawn(process.execPath, args, {
    env: { ...process.env, NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '2' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  let highest = 0
  const watch = setInterval(() => {
    try {
      highest = Math.max(highest, memoryOf(child.pid ?? 0).highest)
    } catch {
      // it has just ended
    }
  }, 100)
  const ended = new Promise<void>((resolve, reject) =>
    child.once('exit', code => {
      clearInterval(watch)
      if (code === 0) resolve()
      else reject(new Error(`the backup ended with code ${code}`))
    }),
  )
  return { ended, rss: () => highest }
}

/** Durable puts of new keys by WRITERS connections, one after the other on each, until `until`. */
async function writes(server: string, until: Promise<unknown>): Promise<{ p99: number; text: string }> {
  const agent = new Agent({ keepAlive: true, maxSockets: WRITERS })
  const times: number[] = []
  let over = false
  const stop = until.finally(() => {
    over = true
  })
  const data = mixed()
  const writer = async (): Promise<void> => {
    while (!over) {
      const began = performance.now()
      await put(agent, `${server}/v1/records/${nextKey++}`, data)
      times.push(performance.now() - began)
    }
  }
  await Promise.all([stop, ...Array.from({ length: WRITERS }, writer)])
  agent.destroy()
  times.sort((a, b) => a - b)
  const p99 = at(times, 0.99)
  return { p99, text: `${times.length} writes, p50 ${at(times, 0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms` }
}

let nextKey = 1_000_000_000

function put(agent: Agent, url: string, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const sending = request(url, { method: 'PUT', agent }, response => {
      response.resume()
      response.once('end', () =>
        (response.statusCode ?? 500) < 300
          ? resolve()
          : reject(new Error(`a write was answered ${response.statusCode}`)),
      )
    })
    sending.once('error', reject)
    sending.end(data)
  })
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** Half noise, half text: compresses to about a half. */
function mixed(): Buffer {
  const next = random(7)
  return Buffer.from(
    Uint8Array.from({ length: VALUE }, (_, i) => (i % 64 < 32 ? Math.floor(next() * 256) : 97 + (i % 26))),
  )
}
