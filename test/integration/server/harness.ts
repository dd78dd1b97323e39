import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, onTestFinished } from 'vitest'
import { databaseConfig } from '../../../sidecar/database/config.ts'
import type { Database } from '../../../sidecar/database/database.ts'
import { LocalDatabase } from '../../../sidecar/database/local-database.ts'
import { EVERY_KEY } from '../../../sidecar/engine/engine.ts'
import type { ServersConfig } from '../../../sidecar/server/config.ts'
import type { Log } from '../../../sidecar/server/log.ts'
import type { LogPolicy } from '../../../sidecar/server/log-policy.ts'
import { type RunningServers, startServers } from '../../../sidecar/server/servers.ts'
import { systemClock } from '../../../src/common/clock.ts'
import { createLog } from '../../../src/common/log.ts'
import { undocumented } from './conformance.ts'

export const silent = createLog({ name: 'test', level: 'Silent' }).logger

export interface Running {
  readonly database: LocalDatabase
  readonly servers: RunningServers
  readonly directory: string
  readonly url: string
  close(): Promise<void>
}

export interface Given extends Partial<ServersConfig> {
  /** What the servers see in the place of the database's own members. */
  readonly instead?: (database: LocalDatabase) => Partial<Database>
  readonly log?: Log
  readonly policy?: LogPolicy
}

let shared: { database: LocalDatabase; directory: string } | undefined

/** One real database on SQLite for all tests of a file: opening one takes longer than most tests. */
async function sharedDatabase(): Promise<{ database: LocalDatabase; directory: string }> {
  if (shared) return shared
  const directory = await mkdtemp(join(tmpdir(), 'server-'))
  const database = new LocalDatabase(
    databaseConfig({
      name: 'orders',
      engine: 'SQLite',
      dataDirectory: directory,
      limits: { maxDataBytes: 4 * 1024 * 1024, atomicBytes: 4 * 1024 * 1024, atomicRecords: 1000 },
    }),
    systemClock,
    silent,
  )
  await database.open(new AbortController().signal)
  shared = { database, directory }
  return shared
}

afterAll(async () => {
  if (!shared) return
  await shared.database.close()
  await rm(shared.directory, { recursive: true, force: true })
  shared = undefined
})

/** The database, emptied, behind real servers. */
export async function startAll(given: Given = {}): Promise<Running> {
  const { instead, log = silent, policy, ...config } = given
  const { database, directory } = await sharedDatabase()
  await database.removeRangeSliced(EVERY_KEY)
  const servers = await startServers(
    instead ? overlay(database, instead(database)) : database,
    { data: { host: '127.0.0.1', port: 0 }, operations: { host: '127.0.0.1', port: 0 }, ...config },
    log,
    policy && { policy },
  )
  return { database, servers, directory, url: servers.dataAddress, close: () => servers.close() }
}

/** As startAll, ended with the test. */
export async function startForTest(given: Given = {}): Promise<Running> {
  const running = await startAll(given)
  onTestFinished(() => running.close())
  return running
}

function overlay(database: LocalDatabase, changes: Partial<Database>): Database {
  return new Proxy(database, {
    get(target, name) {
      if (Object.hasOwn(changes, name)) return Reflect.get(changes, name)
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into documents of many shapes
  readonly json: any
}

/** Every answer that a test gets this way is held against the OpenAPI document. */
export async function call(url: string, method = 'GET', init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(url, { method, ...init })
  const surprise = undocumented(method, url, response.status, response.headers)
  if (surprise !== undefined) throw new Error(`not in /v1/openapi.json: ${surprise}`)
  const text = await response.text()
  const type = response.headers.get('content-type') ?? ''
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: /json/.test(type) && !/ndjson/.test(type) && text !== '' ? JSON.parse(text) : undefined,
  }
}

export const lines = (text: string): Array<Record<string, unknown>> =>
  text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line))

/** A connection on which a test can say anything. */
export class RawConnection {
  readonly socket: Socket
  received = ''
  closed = false
  #wake: () => void = () => {}

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', chunk => {
      this.received += chunk.toString('latin1')
      this.#wake()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.closed = true
      this.#wake()
    })
  }

  static async open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    const connection = new RawConnection(socket)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    onTestFinished(() => void socket.destroy())
    return connection
  }

  send(text: string | Buffer): this {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
    return this
  }

  /** Waits until what came in matches; fails when the connection ends before. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.received)) {
      if (this.closed) throw new Error(`the connection ended after: ${this.received.slice(-500)}`)
      await this.#next()
    }
    return this.received
  }

  async untilClosed(): Promise<string> {
    while (!this.closed) await this.#next()
    return this.received
  }

  #next(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }
}
