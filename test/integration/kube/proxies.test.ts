import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, inject, it } from 'vitest'
import { parse } from 'yaml'
import { accessBy } from './access.ts'

const { kubeconfig, missing } = inject('controlPlane')

const opened: { server: Server; sockets: Set<Socket> }[] = []

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>()
  server.on('connection', socket => sockets.add(socket))
  opened.push({ server, sockets })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function join(client: Socket, host: string, port: number, ready: (upstream: Socket) => void): void {
  const upstream = connect(port, host, () => ready(upstream))
  client.pipe(upstream).pipe(client)
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    one.on('error', () => other.destroy())
    one.on('close', () => other.destroy())
  }
}

/** RFC 9110, CONNECT. */
function httpProxy(targets: string[]): Server {
  return createHttpServer().on('connect', (request, client: Socket) => {
    targets.push(request.url ?? '')
    const [host = '', port = ''] = (request.url ?? '').split(':')
    join(client, host, Number(port), () => client.write('HTTP/1.1 200 Connection established\r\n\r\n'))
  })
}

/** RFC 1928 without authentication, addresses of four bytes or names. */
function socksProxy(targets: string[]): Server {
  return createServer(client => {
    client.once('data', () => {
      client.write(Buffer.from([5, 0]))
      client.once('data', (request: Buffer) => {
        const isName = request[3] === 3
        const length = isName ? (request[4] ?? 0) : 4
        const start = isName ? 5 : 4
        const address = request.subarray(start, start + length)
        const host = isName ? address.toString() : [...address].join('.')
        const port = request.readUInt16BE(start + length)
        targets.push(`${host}:${port}`)
        join(client, host, port, () => client.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])))
      })
    })
  })
}

describe.skipIf(missing)('a kubeconfig with a proxy', () => {
  afterEach(async () => {
    for (const { server, sockets } of opened.splice(0)) {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    }
  })

  it.each([
    ['http', httpProxy],
    ['socks5', socksProxy],
  ] as const)('is followed: %s', async (scheme, make) => {
    const targets: string[] = []
    const port = await listen(make(targets))
    const config = parse(await readFile(kubeconfig ?? '', 'utf8'))
    const cluster = config.clusters[0].cluster
    const { api } = accessBy(
      JSON.stringify({
        ...config,
        clusters: [{ ...config.clusters[0], cluster: { ...cluster, 'proxy-url': `${scheme}://127.0.0.1:${port}` } }],
      }),
    )
    expect(await api.raw('/readyz')).toBe('ok')
    expect(await api.raw('/livez')).toBe('ok')
    expect(new Set(targets)).toEqual(new Set([new URL(cluster.server).host]))
    await api.close()
  })
})
