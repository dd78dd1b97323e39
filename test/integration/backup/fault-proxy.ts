import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'

/** What the proxy does with a request instead of passing it on; undefined: pass it on. */
export type Fault =
  | {
      readonly kind: 'answer'
      readonly status: number
      readonly headers?: Record<string, string>
      readonly body?: string
    }
  /** Closes the connection without an answer; `after`: only once the server has done its work. */
  | { readonly kind: 'drop'; readonly after?: true }
  /** Passes so many bytes of the answer's body on, then closes the connection. */
  | { readonly kind: 'cut'; readonly bytes: number }
  /** Leaves the last `without` bytes of the answer's body out, and announces a length that is off by `announced`; then closes the connection. */
  | { readonly kind: 'lie'; readonly without: number; readonly announced: number }

export interface FaultProxy {
  readonly endpoint: string
  /** `METHOD path?query` of everything that came. */
  readonly seen: string[]
  /** Called for each request. */
  decide: (request: IncomingMessage) => Fault | undefined
  stop(): Promise<void>
}

/** An HTTP proxy before a real server, which breaks what a test wants broken. The Host header stays, so signatures hold. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port } = new URL(target)
  const server = createServer((incoming, outgoing) => {
    proxy.seen.push(`${incoming.method} ${incoming.url}`)
    handle(proxy.decide(incoming), incoming, outgoing, hostname, Number(port))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const proxy: FaultProxy = {
    endpoint: `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`,
    seen: [],
    decide: () => undefined,
    stop: () => {
      server.closeAllConnections()
      return new Promise(resolve => server.close(() => resolve()))
    },
  }
  return proxy
}

function handle(
  fault: Fault | undefined,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  hostname: string,
  port: number,
): void {
  if (fault?.kind === 'answer') {
    incoming.resume().on('end', () => outgoing.writeHead(fault.status, fault.headers).end(fault.body ?? ''))
    return
  }
  if (fault?.kind === 'drop' && !fault.after) {
    incoming.socket.destroy()
    return
  }
  const { headers } = incoming
  const upstream = request({ hostname, port, method: incoming.method, path: incoming.url, headers }, response => {
    if (fault?.kind === 'drop') {
      response.resume().on('end', () => incoming.socket.destroy())
      return
    }
    if (fault?.kind === 'lie') {
      void lie(fault, response, outgoing)
      return
    }
    outgoing.writeHead(response.statusCode ?? 502, response.headers)
    if (fault?.kind !== 'cut') {
      response.pipe(outgoing)
      return
    }
    let left = fault.bytes
    if (left === 0) {
      outgoing.flushHeaders()
      setTimeout(() => incoming.socket.destroy(), 10)
    }
    response.on('data', (chunk: Buffer) => {
      if (left <= 0) return
      outgoing.write(chunk.subarray(0, left), () => left <= 0 && incoming.socket.destroy())
      left -= chunk.length
    })
  })
  upstream.on('error', () => incoming.socket.destroy())
  incoming.pipe(upstream)
}

async function lie(
  { without, announced }: Fault & { kind: 'lie' },
  response: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks)
  const { 'transfer-encoding': _chunked, ...headers } = response.headers
  const length = String(body.length + announced)
  outgoing.writeHead(response.statusCode ?? 502, { ...headers, 'content-length': length, connection: 'close' })
  outgoing.write(body.subarray(0, body.length - without), () => outgoing.socket?.end())
}
