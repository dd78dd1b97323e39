/**
 * A real S3 server for tests: versitygw over a directory. `node test/servers/versitygw.ts build` builds it once into the user's cache
 * (minutes; needs Go); tests start it from there.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

const VERSION = 'v1.8.0'
const PACKAGE = 'github.com/versity/versitygw/cmd/versitygw'

function cacheDirectory(): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
  return join(cache, 'kvidx-test-servers', `versitygw-${VERSION.slice(1)}`)
}

/** Path of the built server, or undefined when `build` has not run on this machine. */
export function findVersitygw(): string | undefined {
  const path = join(cacheDirectory(), 'versitygw')
  return existsSync(path) ? path : undefined
}

/** Builds the server unless it is there. Returns its path. */
export function buildVersitygw(): string {
  const found = findVersitygw()
  if (found) return found
  const directory = cacheDirectory()
  const partial = join(directory, '.partial')
  mkdirSync(partial, { recursive: true })
  const built = spawnSync('go', ['install', '-trimpath', '-ldflags=-s -w', `${PACKAGE}@${VERSION}`], {
    stdio: 'inherit',
    env: { ...process.env, GOTOOLCHAIN: 'local', CGO_ENABLED: '0', GOBIN: partial },
  })
  if (built.status !== 0) throw new Error(`go install ${PACKAGE}@${VERSION} ended with ${built.status}`)
  renameSync(join(partial, 'versitygw'), join(directory, 'versitygw'))
  rmSync(partial, { recursive: true })
  return join(directory, 'versitygw')
}

export interface RunningS3 {
  /** http://127.0.0.1:port or https://… */
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** The server's directory: each directory in it is a bucket. */
  readonly directory: string
  readonly pid: number
  stop(): Promise<void>
}

export interface StartOptions {
  /** PEM files: serve TLS. */
  readonly cert?: string
  readonly key?: string
  /** Answer `bucket.<this>` too. */
  readonly virtualDomain?: string
  /** Where it listens. Default: the loopback. */
  readonly host?: string
  /** Default: a free one. */
  readonly port?: number
  /** Default: a new one, removed by `stop`. */
  readonly directory?: string
}

/** Starts the server on a free port of the loopback and waits until it answers. */
export async function startVersitygw(binary: string, options: StartOptions = {}): Promise<RunningS3> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'kvidx-s3-'))
  const host = options.host ?? '127.0.0.1'
  const port = options.port ?? (await freePort(host))
  const accessKeyId = 'kvidxtest'
  const secretAccessKey = 'kvidxtestsecret'
  const tls =
    options.cert !== undefined && options.key !== undefined ? ['--cert', options.cert, '--key', options.key] : []
  const domain = options.virtualDomain ? ['--virtual-domain', options.virtualDomain] : []
  const server = spawn(
    binary,
    [
      '--port',
      `${host}:${port}`,
      '--keep-alive',
      '--access',
      accessKeyId,
      '--secret',
      secretAccessKey,
      '--quiet',
    ].concat(tls, domain, ['posix', directory]),
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let complaint = ''
  server.stderr?.on('data', (data: Buffer) => {
    complaint = (complaint + data.toString()).slice(-2000)
  })
  const endpoint = `${tls.length ? 'https' : 'http'}://${host}:${port}`
  try {
    await waitUntilListening(host, port, server)
  } catch (thrown) {
    server.kill('SIGKILL')
    throw new Error(`versitygw does not start: ${complaint}`, { cause: thrown })
  }
  return {
    endpoint,
    accessKeyId,
    secretAccessKey,
    directory,
    pid: server.pid ?? 0,
    stop: async () => {
      await stop(server)
      if (options.directory === undefined) rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function stop(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const ended = new Promise(resolve => server.once('exit', resolve))
  server.kill('SIGKILL')
  await ended
}

async function waitUntilListening(host: string, port: number, server: ChildProcess): Promise<void> {
  const { connect } = await import('node:net')
  for (let turn = 0; turn < 200; turn++) {
    if (server.exitCode !== null) throw new Error(`it ended with ${server.exitCode}`)
    const open = await new Promise<boolean>(resolve => {
      const socket = connect(port, host)
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('close', () => resolve(false)).once('connect', () => socket.destroy())
    })
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`nothing listens on port ${port} after 10 s`)
}

export function freePort(host = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, host, () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}

if (process.argv[1]?.endsWith('versitygw.ts') && process.argv[2] === 'build') console.log(buildVersitygw())
