// `npm run quickstart`: the main job on real input, shown step by step. Ends by itself; what it made is removed at the end.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = new URL('..', import.meta.url).pathname
const directory = mkdtempSync(join(tmpdir(), 'kvidx-quickstart-'))
const began = performance.now()
const GENERATED = 100_000
/** Sizes of files are up to 5 s old, which looks wrong so soon after an import. */
const SHOWN = ['kvidx_keys', 'kvidx_data_bytes', 'kvidx_position_seq', 'kvidx_volume_free_bytes', 'kvidx_health_state']

const bold = process.stdout.isTTY === true && !process.env.NO_COLOR

function say(text: string): void {
  console.log(bold ? `\n\x1b[1m${text}\x1b[0m` : `\n${text}`)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

const dataPort = await freePort()
const opsPort = await freePort()
const data = `http://127.0.0.1:${dataPort}`
const operations = `http://127.0.0.1:${opsPort}`

async function start(): Promise<ChildProcess> {
  const args = [
    'run',
    '-f',
    join(root, 'examples/quickstart.yaml'),
    '--data-dir',
    directory,
    '--data-port',
    String(dataPort),
    '--ops-port',
    String(opsPort),
  ]
  console.log(`$ kvidx ${args.join(' ')}`)
  const child = spawn(process.execPath, [join(root, 'bin/kvidx'), ...args], { stdio: ['ignore', 'inherit', 'inherit'] })
  const ended = new Promise<never>((_, reject) =>
    child.once('exit', code => reject(new Error(`kvidx run ended with code ${code}`))),
  )
  ended.catch(() => {})
  const ready = async () => {
    for (;;) {
      const answer = await fetch(`${operations}/ready`).catch(() => undefined)
      if (answer?.ok) return
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
  await Promise.race([ready(), ended])
  return child
}

async function stop(child: ChildProcess): Promise<void> {
  const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
  child.kill('SIGINT')
  const code = await ended
  if (code !== 0) throw new Error(`kvidx run ended with code ${code}`)
}

async function call(method: string, path: string, init: RequestInit = {}): Promise<Response> {
  const answer = await fetch(`${data}${path}`, { method, ...init })
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  return answer
}

interface Stats {
  readonly count: string
  readonly digest: string
  readonly position: string
  readonly minKey: string
  readonly maxKey: string
}

async function stats(): Promise<Stats> {
  const found = (await (await call('GET', '/v1/stats')).json()) as Stats
  console.log(
    `  records ${found.count}   keys ${found.minKey} to ${found.maxKey}   position ${found.position}\n  content digest ${found.digest}`,
  )
  return found
}

/** BINARY export of kvidxkit: docs/formats.md, section 5. */
function generated(count: number): Buffer {
  const file = Buffer.alloc(24 + count * (32 + 100))
  Buffer.from('004b564556494458', 'hex').copy(file)
  file.writeUInt32LE(1, 8)
  file.writeBigUInt64LE(BigInt(count), 16)
  for (let i = 0; i < count; i++) {
    const at = 24 + i * 132
    file.writeBigUInt64LE(10_000_000_000n + BigInt(i), at)
    file.writeBigUInt64LE(1n, at + 8)
    file.writeBigUInt64LE(BigInt(i % 5), at + 16)
    file.writeBigUInt64LE(100n, at + 24)
    file.write(`record ${i} `.padEnd(100, '.'), at + 32)
  }
  return file
}

let child: ChildProcess | undefined
try {
  say('1. A manifest becomes a running database (the same file goes to `kubectl apply`)')
  child = await start()

  say('2. Records that the real kvidxkit exported are imported: 45, with keys from 0 to 2^64-1')
  const golden = readFileSync(join(root, 'test/fixtures/kvidxkit/lmdb/export.bin'))
  console.log(`  ${await (await call('POST', '/v1/import?format=binary', { body: golden })).text()}`)

  say(`3. ${GENERATED.toLocaleString('en')} generated records are imported beside them`)
  const before = performance.now()
  console.log(
    `  ${await (await call('POST', '/v1/import?format=binary&onDuplicate=fail&atomic=true', { body: generated(GENERATED) })).text()}`,
  )
  console.log(`  in ${((performance.now() - before) / 1000).toFixed(2)} s, in one commit`)

  say('4. One record is written and read over HTTP')
  const put = await call('PUT', '/v1/records/42?term=7&ttl=1h', { body: 'hello' })
  console.log(
    `  PUT /v1/records/42?term=7&ttl=1h -> ${put.status}, position ${put.headers.get('kvidx-position')}, etag ${put.headers.get('etag')}`,
  )
  const get = await call('GET', '/v1/records/42')
  console.log(
    `  GET /v1/records/42 -> '${await get.text()}', term ${get.headers.get('kvidx-term')}, expires ${new Date(Number(get.headers.get('kvidx-expires-at'))).toISOString()}`,
  )

  say('5. What it holds: count, and a digest that any copy can be compared with')
  const first = await stats()

  say('6. Metrics for Prometheus')
  const metrics = (await (await fetch(`${operations}/metrics`)).text()).split('\n')
  for (const name of SHOWN)
    console.log(
      metrics
        .filter(line => line.startsWith(name))
        .map(line => `  ${line}`)
        .join('\n'),
    )

  say('7. A checkpoint, a full check (every record is read and compared with the counters), and a clean stop')
  console.log(`  ${await (await call('POST', '/v1/admin/checkpoint')).text()}`)
  console.log(`  ${await (await call('POST', '/v1/admin/check')).text()}`)
  await stop(child)

  say('8. Started again: the same digest')
  child = await start()
  const second = await stats()
  if (second.digest !== first.digest || second.count !== first.count) throw new Error('the database is not what it was')
  console.log('  equal')
  await stop(child)
  child = undefined

  say(`Done in ${((performance.now() - began) / 1000).toFixed(0)} s. What happened: a database was declared in examples/quickstart.yaml, run, filled, measured,
checked, stopped and started again without losing a bit. How to go on:`)
  console.log(`  bin/kvidx run -f examples/quickstart.yaml      keep it running (data in ./.kvidx)
  curl -X PUT --data-binary hello localhost:7400/v1/records/42 ; curl localhost:7400/v1/records/42
  bin/kvidx --help                               everything else; README.md: the data API, Kubernetes, backups`)
} finally {
  child?.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
}
