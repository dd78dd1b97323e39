import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ManualClock } from '../../../src/common/clock.ts'
import { KubeClient } from '../../../src/kube/client.ts'
import { Connection } from '../../../src/kube/connection.ts'
import { type Access, type Credentials, KubeConfigCredentials } from '../../../src/kube/credentials.ts'
import { CONFIG_MAPS } from '../../../src/kube/resources.ts'

class Fixture {
  readonly #server: Server
  readonly sockets = new Set<Socket>()
  readonly seen: { url: string; authorization: string | undefined }[] = []
  respond: RequestListener = (_, response) => response.end('{"metadata":{"name":"a"}}')

  constructor() {
    this.#server = createServer((request, response) => {
      this.seen.push({ url: request.url ?? '', authorization: request.headers.authorization })
      this.respond(request, response)
    })
    this.#server.on('connection', socket => this.sockets.add(socket))
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

const REF = { namespace: 'default', name: 'a' }

describe('the connection', () => {
  let directory: string
  let fixture: Fixture
  let server: string

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'kube-connection-'))
    fixture = new Fixture()
    server = await fixture.listen()
  })

  afterEach(async () => {
    await fixture.close()
    await rm(directory, { recursive: true })
  })

  function kubeconfig(user: object, path = ''): string {
    return JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: server + path, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u', namespace: 'shop' } }],
      'current-context': 'x',
    })
  }

  function clientOf(user: object, path = ''): KubeClient {
    const config = new KubeConfig()
    config.loadFromString(kubeconfig(user, path))
    return new KubeClient({ connection: new Connection(new KubeConfigCredentials(config)) })
  }

  /** A plugin that gives another token each time, and says that it is over already. */
  async function plugin(): Promise<{ user: object; runs: () => Promise<number> }> {
    const count = join(directory, 'count')
    const command = join(directory, 'plugin')
    await writeFile(count, '')
    await writeFile(
      command,
      `#!/bin/sh
printf x >> ${count}
printf '{"status":{"token":"token-%s","expirationTimestamp":"2020-01-01T00:00:00Z"}}' "$(wc -c < ${count} | tr -d ' ')"
`,
    )
    await chmod(command, 0o755)
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command }
    return { user: { exec }, runs: async () => (await readFile(count)).length }
  }

  it('asks for credentials again when the server refuses them, once', async () => {
    const { user, runs } = await plugin()
    const api = clientOf(user)
    let refused = 1
    fixture.respond = (_, response) => {
      if (refused-- > 0) response.writeHead(401).end()
      else response.end('{"metadata":{"name":"a"}}')
    }
    await api.get(CONFIG_MAPS, REF)
    expect(fixture.seen.map(one => one.authorization)).toEqual(['Bearer token-1', 'Bearer token-2'])
    refused = 2
    await expect(api.get(CONFIG_MAPS, REF)).rejects.toMatchObject({ status: 401, reason: 'Unauthorized' })
    expect(await runs()).toBe(3)
    await api.close()
  })

  it('asks once for many calls at a time', async () => {
    const { user, runs } = await plugin()
    const api = clientOf(user)
    await Promise.all(Array.from({ length: 20 }, () => api.get(CONFIG_MAPS, REF)))
    expect(await runs()).toBe(1)
    await api.close()
  })

  it('uses the same connections again', async () => {
    const api = clientOf({ token: 't' })
    for (let i = 0; i < 30; i++) await api.get(CONFIG_MAPS, REF)
    // a second one where a call begins before the first is back in the pool
    expect(fixture.sockets.size).toBeLessThanOrEqual(2)
    for (let i = 0; i < 5; i++) await Promise.all(Array.from({ length: 10 }, () => api.get(CONFIG_MAPS, REF)))
    expect(fixture.sockets.size).toBeLessThanOrEqual(20)
    await api.close()
  })

  it('keeps a path before the API, and tells what a proxy says instead of the API server', async () => {
    const api = clientOf({ username: 'me', password: 'secret' }, '/clusters/one/')
    fixture.respond = (_, response) => response.writeHead(502).end('<html>Bad Gateway</html>')
    await expect(api.get(CONFIG_MAPS, REF)).rejects.toMatchObject({
      status: 502,
      message: 'get configmaps default/a: HTTP 502: <html>Bad Gateway</html>',
    })
    expect(fixture.seen).toEqual([
      { url: '/clusters/one/api/v1/namespaces/default/configmaps/a', authorization: `Basic ${btoa('me:secret')}` },
    ])
    await api.close()
  })

  it('says which contexts there are when it does not find one', async () => {
    const path = join(directory, 'config')
    await writeFile(path, kubeconfig({ token: 't' }))
    expect((await Connection.load({ kubeconfig: path })).namespace).toBe('shop')
    await expect(Connection.load({ kubeconfig: path, context: 'y' })).rejects.toThrow(
      /'y' is not in the kubeconfig \(it has: x\)/,
    )
    await expect(Connection.load({ kubeconfig: join(directory, 'nothing') })).rejects.toThrow(/ENOENT/)
  })

  it('keeps its pool when the token changes, and makes a new one when certificates do', async () => {
    const clock = new ManualClock()
    let access: Access = { headers: { Authorization: 'one' }, tls: { ca: Buffer.from('A') } }
    const credentials: Credentials = { server: new URL(server), namespace: 'default', ask: async () => access }
    const connection = new Connection(credentials, clock)
    const first = await connection.route()
    access = { ...access, headers: { Authorization: 'two' } }
    expect(await connection.route()).toBe(first)
    await clock.advance(10_000)
    const second = await connection.route()
    expect(second.headers).toEqual({ Authorization: 'two' })
    expect(second.dispatcher).toBe(first.dispatcher)
    access = { ...access, tls: { ca: Buffer.from('B') } }
    await clock.advance(10_000)
    expect((await connection.route()).dispatcher).not.toBe(first.dispatcher)
    await connection.close()
    await expect(connection.route()).rejects.toThrow('closed')
  })

  it('names the flag, the file and what is allowed when a kubeconfig cannot be read', async () => {
    const absent = join(directory, 'absent')
    const message = `--kubeconfig: '${absent}' cannot be used: ENOENT: no such file or directory, open '${absent}' (allowed: a file that this user may read, in kubectl's format)`
    await expect(Connection.load({ kubeconfig: absent })).rejects.toMatchObject({ code: 'invalid_parameter', message })
    const broken = join(directory, 'broken')
    await writeFile(broken, 'a: [')
    await expect(Connection.load({ kubeconfig: broken })).rejects.toThrow(`--kubeconfig: '${broken}' cannot be used: `)
  })

  it('fails the call, not the process, when credentials cannot be had', async () => {
    const credentials: Credentials = {
      server: new URL(server),
      namespace: 'default',
      ask: () => Promise.reject(new Error('the plugin is not installed')),
    }
    const api = new KubeClient({ connection: new Connection(credentials) })
    await expect(api.get(CONFIG_MAPS, REF, { timeout: 100 })).rejects.toMatchObject({
      status: 0,
      reason: 'Unreachable',
      message: expect.stringContaining('the plugin is not installed'),
    })
    await api.close()
  })
})
