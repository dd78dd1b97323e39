import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { parse } from 'yaml'

/** One request, as the proxy sees it. */
export interface ProxiedRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly isWatch: boolean
  readonly isList: boolean
}

export type ProxyFault =
  /** The connection is closed without an answer, and the server never hears of the request. */
  | { readonly kind: 'refuse' }
  /** The server carries the request out, but its answer is lost. */
  | { readonly kind: 'loseAnswer' }
  /** An answer that the server did not give. */
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter?: number; readonly reason?: string }
  /** A watch that is answered with 200 and then an ERROR event of status 410. */
  | { readonly kind: 'expire' }
  /** Nothing is ever answered. */
  | { readonly kind: 'blackHole' }
  /** After so many bytes of the body nothing more arrives, and the connection stays open. */
  | { readonly kind: 'freeze'; readonly afterBytes: number }
  /** After so many bytes of the body the connection is destroyed. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** After so many bytes of the body the answer ends properly: half a line, but good HTTP. */
  | { readonly kind: 'end'; readonly afterBytes: number }
  /** A line that is not JSON after so many bytes. */
  | { readonly kind: 'garbage'; readonly afterBytes: number }
  /** The body arrives in pieces of so many bytes, ms apart. */
  | { readonly kind: 'slow'; readonly bytes: number; readonly ms: number }

interface Upstream {
  readonly server: URL
  readonly agent: Agent
}

/** An HTTP proxy in front of a real API server that does to requests what networks and overloaded servers do. */
export class FaultProxy {
  readonly #server: Server
  readonly #upstream: Upstream
  readonly #sockets = new Set<Socket>()
  /** Asked for every request; undefined lets it pass. */
  fault: (request: ProxiedRequest) => ProxyFault | undefined = () => undefined
  /** Requests that came, faults included. */
  readonly requests: ProxiedRequest[] = []

  private constructor(upstream: Upstream) {
    this.#upstream = upstream
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch(() => response.destroy())
    })
    this.#server.on('connection', socket => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** @param kubeconfig path, with a client certificate */
  static async start(kubeconfig: string): Promise<FaultProxy> {
    const config = parse(readFileSync(kubeconfig, 'utf8'))
    const cluster = config.clusters[0].cluster
    const user = config.users[0].user
    const read = (data?: string, file?: string): Buffer | undefined =>
      data !== undefined ? Buffer.from(data, 'base64') : file !== undefined ? readFileSync(file) : undefined
    const agent = new Agent({
      keepAlive: true,
      ca: read(cluster['certificate-authority-data'], cluster['certificate-authority']),
      cert: read(user['client-certificate-data'], user['client-certificate']),
      key: read(user['client-key-data'], user['client-key']),
    })
    const proxy = new FaultProxy({ server: new URL(cluster.server), agent })
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  /** A kubeconfig that leads through the proxy, as YAML. */
  get kubeconfig(): string {
    const { port } = this.#server.address() as AddressInfo
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'proxy', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'nobody', user: {} }],
      contexts: [{ name: 'proxy', context: { cluster: 'proxy', user: 'nobody' } }],
      'current-context': 'proxy',
    })
  }

  /** Cuts every connection that is open. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.#server.close()
    this.cutAll()
    this.#upstream.agent.destroy()
    if (this.#server.listening) await once(this.#server, 'close')
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://proxy')
    const isWatch = url.searchParams.get('watch') === 'true'
    const isList = !isWatch && request.method === 'GET' && url.searchParams.has('limit')
    const seen = { method: request.method ?? 'GET', path: url.pathname, query: url.searchParams, isWatch, isList }
    this.requests.push(seen)
    const fault = this.fault(seen)
    switch (fault?.kind) {
      case 'refuse':
        request.socket.destroy()
        return
      case 'blackHole':
        return
      case 'status':
        answer(response, fault.status, fault.reason, fault.retryAfter)
        return
      case 'expire':
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end(`${JSON.stringify({ type: 'ERROR', object: status(410, 'Expired') })}\n`)
        return
    }
    const upstream = await this.#forward(request)
    if (fault?.kind === 'loseAnswer') {
      upstream.resume()
      await once(upstream, 'end')
      request.socket.destroy()
      return
    }
    response.writeHead(upstream.statusCode ?? 500, upstream.headers)
    response.flushHeaders()
    response.once('close', () => upstream.destroy())
    await this.#relay(upstream, response, fault)
  }

  async #relay(upstream: IncomingMessage, response: ServerResponse, fault: ProxyFault | undefined): Promise<void> {
    let left = fault !== undefined && 'afterBytes' in fault ? fault.afterBytes : Number.POSITIVE_INFINITY
    for await (const chunk of upstream as AsyncIterable<Buffer>) {
      const passed = chunk.subarray(0, left)
      left -= passed.length
      if (fault?.kind === 'slow') {
        for (let at = 0; at < passed.length && !response.destroyed; at += fault.bytes) {
          response.write(passed.subarray(at, at + fault.bytes))
          await new Promise(resolve => setTimeout(resolve, fault.ms))
        }
      } else if (passed.length > 0) {
        response.write(passed)
      }
      if (left > 0) continue
      switch (fault?.kind) {
        case 'cut':
          // what was written must leave first, else the client sees less than asked for
          response.write('', () => response.socket?.destroy())
          return
        case 'end':
          response.end()
          return
        case 'garbage':
          response.end('\n{"type": "MODIFIED", "object": {<html>\n')
          return
        case 'freeze':
          return
      }
    }
    response.end()
  }

  #forward(request: IncomingMessage): Promise<IncomingMessage> {
    const { server, agent } = this.#upstream
    return new Promise((resolve, reject) => {
      const upstream = httpsRequest(
        {
          agent,
          host: server.hostname,
          port: server.port,
          method: request.method,
          path: request.url,
          headers: { ...request.headers, host: server.host },
        },
        resolve,
      )
      upstream.on('error', reject)
      request.pipe(upstream)
      const end = (): void => void upstream.destroy()
      request.socket.once('close', end)
      upstream.once('close', () => request.socket.off('close', end))
    })
  }
}

function status(code: number, reason: string): object {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message: `injected ${code}` }
}

function answer(response: ServerResponse, code: number, reason = 'InternalError', retryAfter?: number): void {
  response.writeHead(code, {
    'content-type': 'application/json',
    ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
  })
  response.end(JSON.stringify(status(code, reason)))
}
