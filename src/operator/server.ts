import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface OperatorServer {
  readonly address: string
  close(): Promise<void>
}

interface Sources {
  readonly metrics: () => Promise<string>
  /** The caches are filled. */
  readonly ready: () => boolean
  readonly describe: () => Readonly<Record<string, unknown>>
}

/** `/healthz`, `/readyz`, `/metrics`, `/status` of the operator. */
export async function serveOperator(
  listen: { readonly host: string; readonly port: number },
  sources: Sources,
): Promise<OperatorServer> {
  const server = createServer({ headersTimeout: 5000, requestTimeout: 5000 }, (request, response) => {
    const send = (status: number, type: string, body: string) =>
      response.writeHead(status, { 'content-type': type }).end(body)
    switch (request.url?.split('?')[0]) {
      case '/healthz':
        return void send(200, 'text/plain', 'ok\n')
      case '/readyz':
        return void (sources.ready()
          ? send(200, 'text/plain', 'ok\n')
          : send(503, 'text/plain', 'the caches are not filled yet\n'))
      case '/status':
        return void send(200, 'application/json', `${JSON.stringify(sources.describe())}\n`)
      case '/metrics':
        sources.metrics().then(
          text => send(200, 'text/plain; version=0.0.4; charset=utf-8', text),
          (error: Error) => send(500, 'text/plain', `${error.message}\n`),
        )
        return
      default:
        return void send(404, 'text/plain', 'allowed: /healthz /readyz /metrics /status\n')
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(listen.port, listen.host, resolve)
  })
  const { port } = server.address() as AddressInfo
  return {
    address: `http://${listen.host}:${port}`,
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
