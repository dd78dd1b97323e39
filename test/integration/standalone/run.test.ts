import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { temporaryDirectory } from '../../support/sidecar-here.ts'

const KVIDX = new URL('../../../bin/kvidx', import.meta.url).pathname

/** For processes to start, each of them with an engine; nothing here is about how quick that is. Milliseconds. */
const PATIENCE = 40_000

const database = (name: string, spec = '') => `apiVersion: kvidx.io/v1alpha1
kind: KvidxDatabase
metadata: { name: ${name} }
spec:
  engine: SQLite
  storage: { size: 1Gi }
${spec}`

interface Run {
  readonly child: ChildProcess
  readonly directory: string
  readonly ended: Promise<number | null>
  out(): string
  /** Waits for a line that has this, and gives it. */
  line(pattern: RegExp): Promise<string>
}

/** `kvidx run` of a manifest, in a terminal of its own when it is to be interrupted from one. */
function run(manifest: string, given: { args?: string[]; directory?: string; terminal?: true } = {}): Run {
  const directory = given.directory ?? temporaryDirectory()
  const file = join(directory, 'manifest.yaml')
  writeFileSync(file, manifest)
  const ports = given.args?.includes('--data-port') ? [] : ['--data-port', '0', '--ops-port', '0']
  const words = [process.execPath, KVIDX, 'run', '-f', file, '--data-dir', join(directory, 'kvidx'), ...ports]
  const all = [...words, ...(given.args ?? [])]
  const child = given.terminal
    ? spawn('script', ['-qefc', all.map(word => `'${word}'`).join(' '), '/dev/null'], { stdio: 'pipe' })
    : spawn(all[0] as string, all.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', chunk => (out += String(chunk)))
  const ended = new Promise<number | null>(resolve => child.once('exit', resolve))
  onTestFinished(async () => {
    child.kill('SIGTERM')
    await ended
  })
  const line = async (pattern: RegExp) => {
    await expect.poll(() => out, { timeout: PATIENCE }).toMatch(pattern)
    return out.split(/\r?\n/).find(text => pattern.test(text)) as string
  }
  return { child, directory, ended, out: () => out, line }
}

const addressIn = (line: string, what: 'data' | 'operations') =>
  new RegExp(`${what} (http://[\\d.]+:\\d+)`).exec(line)?.[1]

describe('kvidx run', { timeout: 3 * PATIENCE }, () => {
  test('Ctrl-C in a terminal is a clean end, and the next run goes on in the same epoch', async () => {
    const manifest = database('orders', '  tuning: { syncMode: Normal }')
    const first = run(manifest, { terminal: true })
    const data = addressIn(await first.line(/operations/), 'data')
    await first.line(/orders: ready, SQLite/)
    await fetch(`${data}/v1/records/7`, { method: 'PUT', body: 'seven' })
    first.child.stdin?.write('\x03')
    await first.ended
    expect(first.out()).toMatch(/stopping\s+stopped/)
    const log = readFileSync(join(first.directory, 'kvidx/default/orders/sidecar.log'), 'utf8')
    expect(JSON.parse(log.trimEnd().split('\n').at(-1) as string)).toMatchObject({ msg: 'stopped' })

    const second = run(manifest, { directory: first.directory })
    const operations = addressIn(await second.line(/operations/), 'operations')
    await second.line(/orders: ready, SQLite/)
    const status = (await (await fetch(`${operations}/status`)).json()) as object
    // without a clean end a new epoch would begin: syncMode Normal may have lost commits
    expect(status).toMatchObject({ start: { lastEnd: 'clean' }, data: { position: '1.1', count: '1' } })
  })

  test('a port that another program has is refused before anything starts, with what to do', async () => {
    const other = createTcpServer()
    await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void other.close())
    const { port } = other.address() as { port: number }
    const { ended, out } = run(database('orders'), { args: ['--data-port', String(port), '--ops-port', '0'] })
    expect(await ended).toBe(2)
    expect(out()).toContain(
      `--data-port: orders would listen on port ${port} of 127.0.0.1: another program listens there`,
    )
  })

  test('what a second database would need beyond the last port, or of the first one, is refused', async () => {
    const two = `${database('one')}---\n${database('two')}`
    const beyond = run(two, { args: ['--data-port', '65535', '--ops-port', '0'] })
    expect(await beyond.ended).toBe(2)
    expect(beyond.out()).toContain('two would listen on port 65536, which does not exist')
    const overlap = run(two, { args: ['--data-port', '41017', '--ops-port', '41018'] })
    expect(await overlap.ended).toBe(2)
    expect(overlap.out()).toContain('two would listen on port 41018, which another database of this manifest has')
  })

  test('an address that others reach needs tokens', async () => {
    const { ended, out } = run(database('orders'), { args: ['--host', '0.0.0.0'] })
    expect(await ended).toBe(2)
    expect(out()).toContain('--host: others reach 0.0.0.0, so it needs tokens: --token-dir')
  })

  test('TLS, which it does not speak, is refused where others would reach it in the clear', async () => {
    const manifest = database('orders', '  security: { tls: { secretRef: { name: orders-tls } } }')
    const reached = run(manifest, { args: ['--host', '0.0.0.0', '--token-dir', temporaryDirectory()] })
    expect(await reached.ended).toBe(2)
    expect(reached.out()).toContain('orders: spec.security.tls: kvidx run speaks plain HTTP, also to 0.0.0.0')
    await run(manifest).line(/^orders: spec.security.tls is left out here/m)
  })

  test('an edit of the manifest while it runs is told to need a new start', async () => {
    const { directory, line } = run(database('orders'))
    await line(/orders: ready/)
    writeFileSync(join(directory, 'manifest.yaml'), database('orders', '  recovery: { onCorruption: RestoreLatest }'))
    await line(/manifest.yaml was changed; it is read at the start: stop with Ctrl-C and start again/)
  })

  test('two databases run side by side; one whose tokens cannot be used says why and is not ready', async () => {
    const directory = temporaryDirectory()
    const tokens = join(directory, 'tokens')
    mkdirSync(tokens)
    const running = run(`${database('one')}---\n${database('two')}`, { directory, args: ['--token-dir', tokens] })
    await running.line(/^one: not ready: /m)
    await running.line(/^two: not ready: /m)
    const operations = addressIn(await running.line(/default\/two: .*operations/), 'operations')
    const ready = await fetch(`${operations}/ready`)
    expect(ready.status).toBe(503)
    expect(await ready.text()).toMatch(/^NOT READY\n.*token/)
    expect(await (await fetch(`${operations}/metrics`)).text()).toMatch(/^kvidx_ready 0$/m)
    expect(((await (await fetch(`${operations}/status`)).json()) as { failure?: object }).failure).toBeDefined()
  })

  test('a database that died tells why, is started again, and never takes over the lineage of a stranger', async () => {
    const directory = temporaryDirectory()
    const running = run(database('orders'), { directory })
    const operations = addressIn(await running.line(/operations/), 'operations') as string
    await running.line(/orders: ready, SQLite/)
    const memory = join(directory, 'kvidx/default/orders/run.json')
    const before = readFileSync(memory, 'utf8')
    const { pid } = (await (await fetch(`${operations}/status`)).json()) as { pid: number }
    // somebody else takes the port in the moment that it is free
    const stranger = createServer((_, response) =>
      response.end(JSON.stringify({ state: 'OK', ready: true, pid: 1, lineage: 'not-ours' })),
    )
    process.kill(pid, 'SIGKILL')
    await expect
      .poll(
        () =>
          new Promise<boolean>(resolve => {
            stranger.once('error', () => resolve(false))
            stranger.listen(Number(new URL(operations).port), '127.0.0.1', () => resolve(true))
          }),
        { interval: 5 },
      )
      .toBe(true)
    onTestFinished(() => void stranger.close())
    await running.line(/orders: the process was ended by SIGKILL/)
    expect(await running.line(/ended with code 1: /)).toContain('EADDRINUSE')
    expect(readFileSync(memory, 'utf8')).toBe(before)
    stranger.closeAllConnections()
    await new Promise(resolve => stranger.close(resolve))
    await expect
      .poll(
        () =>
          fetch(`${operations}/ready`).then(
            answer => answer.status,
            () => 0,
          ),
        { timeout: PATIENCE },
      )
      .toBe(200)
  })

  test('a data directory that another process has is waited for, and its holder named', async () => {
    const first = run(database('orders'))
    await first.line(/orders: ready/)
    const config = join(first.directory, 'kvidx/default/orders/config.json')
    const configured = readFileSync(config, 'utf8')
    const second = run(database('orders', '  monitoring: { logLevel: Debug }'), { directory: first.directory })
    expect(await second.line(/orders: not ready: /)).toMatch(
      /lock is held by \S+ \(process \d+, since .*\); waiting for it/,
    )
    // the first one's process takes up what is written there
    expect(readFileSync(config, 'utf8')).toBe(configured)
    first.child.kill('SIGTERM')
    await second.line(/orders: ready/)
    const log = () => readFileSync(join(first.directory, 'kvidx/default/orders/sidecar.log'), 'utf8')
    await expect.poll(log).toMatch(/"level":"debug"/)
    second.child.kill('SIGTERM')
    await second.ended
    expect(readdirSync(join(config, '..')).filter(file => file.startsWith('config'))).toEqual(['config.json'])
  })

  test('a database that cannot even be prepared, logged or remembered is no reason for the others not to run', async () => {
    const directory = temporaryDirectory()
    const place = (path: string) => join(directory, 'kvidx/default', path)
    // each stands where a file or directory of that database belongs
    for (const path of ['unlogged/sidecar.log', 'unremembered/run.json']) mkdirSync(place(path), { recursive: true })
    mkdirSync(place('unprepared'))
    writeFileSync(place('unprepared/data'), '')
    const names = ['unprepared', 'unlogged', 'unremembered', 'sound']
    const running = run(names.map(name => database(name)).join('---\n'), { directory })
    expect(await running.line(/^unprepared: the process could not be started: /m)).toMatch(
      /unprepared\/data is a file \(allowed: a directory\)/,
    )
    expect(await running.line(/^unlogged: the process could not be started: /m)).toMatch(/EISDIR.*sidecar\.log/)
    expect(await running.line(/^unremembered: its lineage cannot be remembered: /m)).toMatch(/run\.json/)
    await running.line(/^unremembered: ready/m)
    await running.line(/^sound: ready/m)
    rmSync(place('unprepared/data'))
    rmSync(place('unlogged/sidecar.log'), { recursive: true })
    await running.line(/^unprepared: ready/m)
    await running.line(/^unlogged: ready/m)
    running.child.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    expect(running.out()).toMatch(/stopping\s+stopped/)
  })

  test('a wrong manifest names file, line, field and what is allowed, in the order of the file', async () => {
    const { ended, out, directory } = run(
      database('orders', '  tuning:\n    cacheSize: 12 bananas\n    syncmode: Full\n'),
    )
    expect(await ended).toBe(2)
    const file = join(directory, 'manifest.yaml')
    expect(out().split('\n').slice(0, 2)).toEqual([
      expect.stringContaining(
        `${file}, line 8: spec.tuning.cacheSize: '12 bananas' is not allowed; it must be 'auto' or a quantity`,
      ),
      expect.stringContaining(
        `${file}, line 9: spec.tuning.syncmode: there is no such field; did you mean 'syncMode'?`,
      ),
    ])
    expect(out()).not.toContain('nothing was changed')
  })
})
