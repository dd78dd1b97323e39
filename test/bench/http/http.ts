// `npm run bench:http`: durable PUT and GET of 100 B over HTTP at 1, 64 and 512 connections, from a process of its own, and export and import,
// on each engine. Server and load generator share the machine's cores; CPU is the server's own.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineKind } from '../../../sidecar/engine/engine.ts'
import { startBuiltSidecar } from './built-sidecar.ts'

const SECONDS = Number(process.env.KVIDX_BENCH_SECONDS ?? 5)
const RECORDS = Number(process.env.KVIDX_BENCH_RECORDS ?? 1_000_000)
const ENGINES = (process.env.KVIDX_BENCH_ENGINES ?? 'SQLite,LMDB,RocksDB').split(',') as EngineKind[]
const LOAD = fileURLToPath(new URL('./load.ts', import.meta.url))
const TICKS = 100 // USER_HZ

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

/** CPU seconds of a process and its threads. */
function cpu(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

function memory(pid: number, field: 'VmRSS' | 'VmHWM'): string {
  const line = new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return `${Math.round(Number(line?.[1] ?? 0) / 1024)} MiB`
}

/** kvidxkit BINARY, made as it is sent. */
async function* generated(count: number): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(24)
  Buffer.from('004b564556494458', 'hex').copy(header)
  header.writeUInt32LE(1, 8)
  header.writeBigUInt64LE(BigInt(count), 16)
  yield header
  for (let at = 0; at < count; ) {
    const part = Math.min(2000, count - at)
    const chunk = Buffer.alloc(part * 132, 'x')
    for (let i = 0; i < part; i++) {
      chunk.writeBigUInt64LE(BigInt(at + i), i * 132)
      chunk.writeBigUInt64LE(1n, i * 132 + 8)
      chunk.writeBigUInt64LE(2n, i * 132 + 16)
      chunk.writeBigUInt64LE(100n, i * 132 + 24)
    }
    at += part
    yield chunk
  }
}

const root = mkdtempSync(join(tmpdir(), 'kvidx-bench-'))
try {
  for (const engine of ENGINES) {
    const sidecar = await startBuiltSidecar(join(root, engine), engine)
    const { pid } = sidecar
    console.log(`\n${engine}: at rest ${memory(pid, 'VmRSS')}`)
    let written = 1
    for (const method of ['PUT', 'GET'])
      for (const connections of [1, 64, 512]) {
        const before = cpu(pid)
        const result = await load(sidecar.data, method, connections, written)
        const used = cpu(pid) - before
        if (method === 'PUT') written = Math.max(written, Math.floor(result.total / 2))
        console.log(
          `  ${method} ${String(connections).padStart(3)} connections  ${Math.round(result.total / result.seconds)
            .toLocaleString('en')
            .padStart(8)}/s  p50 ${result.p50} ms  p99 ${result.p99} ms  ` +
            `server CPU ${((used * 1e6) / Math.max(1, result.total)).toFixed(0)} us each${result.bad > 0 ? `  ${result.bad} FAILED` : ''}`,
        )
      }
    const importing = performance.now()
    const answer = await fetch(`${sidecar.data}/v1/import?format=binary&clear=true`, {
      method: 'POST',
      body: generated(RECORDS) as never,
      duplex: 'half',
    } as RequestInit)
    const text = await answer.text()
    if (!answer.ok) throw new Error(text)
    const imported = (performance.now() - importing) / 1000
    const exporting = performance.now()
    let bytes = 0
    const stream = (await fetch(`${sidecar.data}/v1/export?format=binary`)).body
    if (stream) for await (const chunk of stream) bytes += chunk.length
    const exported = (performance.now() - exporting) / 1000
    console.log(
      `  import of ${RECORDS.toLocaleString('en')} records ${Math.round(RECORDS / imported).toLocaleString('en')}/s, ${(bytes / 1e6 / imported).toFixed(0)} MB/s`,
    )
    console.log(
      `  export ${Math.round(RECORDS / exported).toLocaleString('en')}/s, ${(bytes / 1e6 / exported).toFixed(0)} MB/s; highest RSS ${memory(pid, 'VmHWM')}`,
    )
    await sidecar.stop()
  }
} finally {
  rmSync(root, { recursive: true, force: true })
}
