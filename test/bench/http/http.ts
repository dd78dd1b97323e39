// `npm run bench:http`: durable PUT and GET of 100 B over HTTP at 1, 64 and 512 connections, from a process of its own, and import and export of
// 10 million records, on each engine. Server and load generator share the machine's cores; CPU and memory are the server's own.
import { spawn } from 'node:child_process'
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { startBuiltSidecar } from './built-sidecar.ts'
import { atRest, cpuOf, exportRecords, importRecords, memoryOf, RECORD_BYTES } from './transfer.ts'

const SECONDS = Number(process.env.KVIDX_BENCH_SECONDS ?? 3)
const RECORDS = Number(process.env.KVIDX_BENCH_RECORDS ?? 10_000_000)
const ENGINES = (process.env.KVIDX_BENCH_ENGINES ?? 'SQLite,LMDB,RocksDB').split(',') as EngineKind[]
const LOAD = fileURLToPath(new URL('./load.ts', import.meta.url))

/** For 100 B on two cores and a disk with about 5,000 fdatasync/s. */
const TARGET = { PUT: 12_000, GET: 25_000, connections: 64, export: 300, resident: 300 } as const

interface Load {
  readonly total: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
  readonly bad: number
}

function load(url: string, method: string, connections: number, keys: number): Promise<Load> {
  const child = spawn(process.execPath, [LOAD, url, method, String(connections), String(SECONDS), String(keys)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.on('data', chunk => {
    out += String(chunk)
  })
  return new Promise((resolve, reject) =>
    child.once('exit', code =>
      code === 0 ? resolve(JSON.parse(out) as Load) : reject(new Error(`load ended with ${code}`)),
    ),
  )
}

/** Appends of 4 KiB that are durable, a second: what the disk allows one writer without a group. */
function syncsPerSecond(directory: string): number {
  const file = openSync(join(directory, 'syncs'), 'w')
  const page = Buffer.alloc(4096)
  const end = performance.now() + 1000
  let count = 0
  for (; performance.now() < end; count++) {
    writeSync(file, page)
    fdatasyncSync(file)
  }
  closeSync(file)
  return count
}

const number = (value: number): string => Math.round(value).toLocaleString('en')
const judged = (met: boolean, target: string): string => `  [${target}: ${met ? 'met' : 'MISSED'}]`

/** One transfer of all records, with its cost. */
async function transfer(
  pid: number,
  what: string,
  work: () => Promise<unknown>,
): Promise<{ line: string; rate: number }> {
  const before = cpuOf(pid)
  const began = performance.now()
  await work()
  const seconds = (performance.now() - began) / 1000
  const megabytes = (RECORDS * RECORD_BYTES) / 1e6 / seconds
  const each = ((cpuOf(pid) - before) * 1e6) / RECORDS
  const { resident, own, highest } = memoryOf(pid)
  return {
    rate: megabytes,
    line:
      `  ${what} of ${number(RECORDS)} records  ${number(RECORDS / seconds)}/s, ${number(megabytes)} MB/s  server CPU ${each.toFixed(2)} us each` +
      `  RSS ${resident} MiB (own ${own}), highest so far ${highest}`,
  }
}

const root = mkdtempSync(join(process.env.KVIDX_BENCH_DIR ?? tmpdir(), 'kvidx-bench-'))
try {
  console.log(`\nOver HTTP, ${SECONDS} s a row; the disk does ${number(syncsPerSecond(root))} fdatasync/s`)
  for (const engine of ENGINES) {
    const sidecar = await startBuiltSidecar(join(root, engine), engine)
    const { pid } = sidecar
    const rest = memoryOf(pid)
    console.log(`\n${engine}: at rest ${rest.resident} MiB (own ${rest.own})`)
    let written = 1
    for (const method of ['PUT', 'GET'] as const)
      for (const connections of [1, 64, 512]) {
        const before = cpuOf(pid)
        const result = await load(sidecar.data, method, connections, written)
        const used = cpuOf(pid) - before
        const rate = result.total / result.seconds
        if (method === 'PUT') written = Math.max(written, Math.floor(result.total / 2))
        console.log(
          `  ${method} ${String(connections).padStart(3)} connections  ${number(rate).padStart(8)}/s  p50 ${result.p50} ms  p99 ${result.p99} ms  ` +
            `server CPU ${((used * 1e6) / Math.max(1, result.total)).toFixed(0)} us each  RSS ${memoryOf(pid).resident} MiB` +
            (result.bad > 0 ? `  ${result.bad} FAILED` : '') +
            (connections === TARGET.connections ? judged(rate >= TARGET[method], `≥ ${number(TARGET[method])}/s`) : ''),
        )
      }
    // a fresh process: the highest RSS shall be that of the transfer
    await sidecar.stop()
    const fresh = await startBuiltSidecar(join(root, engine), engine)
    const imported = await transfer(fresh.pid, 'import', () => importRecords(fresh.data, RECORDS))
    console.log(imported.line)
    const stored = performance.now()
    await atRest(fresh.pid)
    console.log(`  at rest after ${((performance.now() - stored) / 1000).toFixed(0)} s`)
    const exported = await transfer(fresh.pid, 'export', async () => {
      const bytes = await exportRecords(fresh.data)
      if (bytes !== 24 + RECORDS * RECORD_BYTES) throw new Error(`${bytes} bytes were exported`)
    })
    console.log(exported.line + judged(exported.rate >= TARGET.export, `≥ ${TARGET.export} MB/s`))
    const { highest } = memoryOf(fresh.pid)
    console.log(
      `  highest RSS of import and export  ${highest} MiB${judged(highest < TARGET.resident, `< ${TARGET.resident} MiB`)}`,
    )
    await fresh.stop()
    rmSync(join(root, engine), { recursive: true, force: true })
  }
} finally {
  rmSync(root, { recursive: true, force: true })
}
