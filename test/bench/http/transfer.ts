import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout } from 'node:timers/promises'

/** Importing and exporting many records over HTTP, and what it costs the process that serves them. */

const DATA = 100
/** Bytes of a record in a kvidxkit BINARY file. */
export const RECORD_BYTES = 32 + DATA
const PART = 2000

/** Memory of another process in MiB. `resident` counts the program's own file and maps, `own` only what it allocated. */
export function memoryOf(pid: number): { resident: number; highest: number; own: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const field = (name: string) => Math.round(Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024)
  return { resident: field('VmRSS'), highest: field('VmHWM'), own: field('RssAnon') }
}

/** CPU seconds of a process and its threads. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  const ticks = 100 // USER_HZ
  return (Number(fields[11]) + Number(fields[12])) / ticks
}

/** Resolves when a process has used next to no CPU for a second: RocksDB goes on sorting what was imported for a while. */
export async function atRest(pid: number): Promise<void> {
  for (let used = cpuOf(pid), still = 0; still < 4; ) {
    await setTimeout(250)
    const now = cpuOf(pid)
    still = now - used > 0.02 ? 0 : still + 1
    used = now
  }
}

/** kvidxkit BINARY, made as it is sent. Keys ascend by `step`; the data of all is the same. */
function* generated(count: number, step: number, data: Uint8Array): Generator<Buffer> {
  const size = 32 + data.length
  const header = Buffer.alloc(24)
  Buffer.from('004b564556494458', 'hex').copy(header)
  header.writeUInt32LE(1, 8)
  header.writeBigUInt64LE(BigInt(count), 16)
  yield header
  for (let at = 0; at < count; ) {
    const part = Math.min(PART, count - at)
    const chunk = Buffer.allocUnsafe(part * size)
    for (let i = 0; i < part; i++) {
      const offset = i * size
      chunk.writeBigUInt64LE(BigInt((at + i) * step), offset)
      chunk.writeBigUInt64LE(BigInt(at + i), offset + 8)
      chunk.writeBigUInt64LE(2n, offset + 16)
      chunk.writeBigUInt64LE(BigInt(data.length), offset + 24)
      chunk.set(data, offset + 32)
    }
    at += part
    yield chunk
  }
}

/** Replaces everything by so many records. */
export async function importRecords(
  server: string,
  count: number,
  step = 1,
  data: Uint8Array = Buffer.alloc(DATA, 'x'),
): Promise<void> {
  const sending = request(`${server}/v1/import?format=binary&clear=true`, { method: 'POST' })
  const answer = new Promise<string>((resolve, reject) => {
    sending.once('error', reject)
    sending.once('response', response => {
      let text = ''
      response.on('data', chunk => {
        text += String(chunk)
      })
      response.once('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(text))))
    })
  })
  const gone = answer.catch(() => sending.destroy())
  for (const chunk of generated(count, step, data)) {
    if (sending.destroyed) break
    if (!sending.write(chunk)) await Promise.race([once(sending, 'drain'), gone])
  }
  sending.end()
  await answer
}

/**
 * Bytes of an export. Read as cheaply as this process can, because it shares the cores with the server: HTTP/1.0, whose body ends with the
 * connection, into one buffer. A body that was cut is shorter.
 */
export function exportRecords(server: string): Promise<number> {
  const { hostname, port } = new URL(server)
  return new Promise((resolve, reject) => {
    let head = ''
    let bytes = 0
    const receive = (length: number, buffer: Uint8Array): boolean => {
      if (bytes > 0) bytes += length
      else {
        head += Buffer.from(buffer.subarray(0, length)).toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end >= 0) bytes = head.length - end - 4
      }
      return true
    }
    const socket = connect({
      host: hostname,
      port: Number(port),
      onread: { buffer: Buffer.alloc(256 * 1024), callback: receive },
    })
    socket.once('error', reject)
    socket.once('close', () =>
      head.startsWith('HTTP/1.1 200 ') ? resolve(bytes) : reject(new Error(`the export failed: ${head.slice(0, 500)}`)),
    )
    socket.write(`GET /v1/export?format=binary HTTP/1.0\r\nHost: ${hostname}\r\n\r\n`)
  })
}
