import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { KvidxError } from '../../src/common/errors.ts'
import type { Database } from '../database/database.ts'
import { Figures } from './figures.ts'
import type { Log } from './log.ts'
import { ServerMetrics } from './metrics.ts'
import { PROBLEM_TYPE, problemDocument, rawProblem, stringify } from './problem.ts'
import { statusDocument } from './status.ts'

export interface OperationsOptions {
  readonly host: string
  /** 0: any free one */
  readonly port: number
  /** Further members of `/status`: backup, replication, storage of the volume. Must be quick. */
  readonly status?: () => Readonly<Record<string, unknown>>
  /** Why clients cannot be served, whatever the database itself says: it is opening, or its data port cannot listen. Undefined: they can. */
  readonly unserved?: () => string | undefined
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/**
 * Port 8080: health, readiness, metrics, status. It starts before the database is open, says so, and answers from what is in memory, so
 * that it is quick whatever the engine does.
 */
export class OperationsServer {
  readonly metrics = new ServerMetrics()
  readonly #server: Server
  readonly #options: OperationsOptions
  readonly #figures: Figures
  readonly #started = Date.now()
  #database: Database | undefined

  private constructor(options: OperationsOptions, log: Log) {
    this.#options = options
    this.#figures = new Figures(log)
    this.metrics.observe(() => this.#database, this.#figures, options.unserved)
    this.#server = createServer(
      { headersTimeout: 5000, requestTimeout: 5000, keepAliveTimeout: 65_000 },
      (req, res) => {
        this.#answer(req)
          .then(answer => send(req, res, answer))
          .catch((error: unknown) => {
            log.error({ err: error }, 'the operations port could not answer')
            res.destroy()
          })
      },
    )
    this.#server.maxConnections = 256
    this.#server.on('clientError', (error, socket) => {
      if (!socket.writable) socket.destroy()
      else socket.end(rawProblem(new KvidxError('malformed_request', `the request is not HTTP/1.1: ${error.message}`)))
    })
  }

  /** Errors: the system's own, when it cannot listen. */
  static async start(options: OperationsOptions, log: Log): Promise<OperationsServer> {
    const operations = new OperationsServer(options, log)
    const server = operations.#server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: options.host, port: options.port }, () => resolve())
    })
    return operations
  }

  /** `http://host:port` */
  get address(): string {
    const { address, port, family } = this.#server.address() as AddressInfo
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
  }

  /** From now on the answers tell of this database. */
  attach(database: Database): void {
    this.#database = database
    this.#figures.attach(database)
  }

  async close(): Promise<void> {
    this.#figures.stop()
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }

  async #answer(req: IncomingMessage): Promise<Answer> {
    const [path = '', query] = (req.url ?? '').split('?', 2)
    if (req.method !== 'GET' && req.method !== 'HEAD')
      return problem(new KvidxError('method_not_allowed', `${req.method} is not allowed here (allowed: GET, HEAD)`))
    if (query) return problem(new KvidxError('unknown_parameter', 'the calls of this port have no parameters'))
    const json = req.headers.accept?.includes('application/json') ?? false
    switch (path) {
      case '/health':
        return this.#health(json)
      case '/ready':
        return this.#ready(json)
      case '/metrics':
        return { status: 200, type: this.metrics.registry.contentType, body: await this.metrics.registry.metrics() }
      case '/status':
        return { status: 200, type: 'application/json', body: stringify(this.#status()) }
      default:
        return problem(
          new KvidxError(
            'no_such_route',
            `there is nothing at ${path.slice(0, 200)} (there are /health, /ready, /metrics, /status)`,
          ),
        )
    }
  }

  /** Liveness. A database that is not open yet is no reason to restart. */
  #health(json: boolean): Answer {
    const { state, causes } = this.#database?.health ?? { state: 'OK', causes: [] }
    const status = state === 'UNHEALTHY' ? 503 : 200
    if (json) return { status, type: 'application/json', body: stringify({ state, causes }) }
    const lines = [state, ...causes.map(cause => `${cause.reason}: ${cause.message}`)]
    return { status, type: 'text/plain; charset=utf-8', body: `${lines.join('\n')}\n` }
  }

  #ready(json: boolean): Answer {
    const why = this.#unready
    const ready = why === undefined
    const status = ready ? 200 : 503
    if (json) return { status, type: 'application/json', body: stringify({ ready, why }) }
    return { status, type: 'text/plain; charset=utf-8', body: ready ? 'READY\n' : `NOT READY\n${why}\n` }
  }

  get #unready(): string | undefined {
    const open = this.#database
    return this.#options.unserved?.() ?? (open?.ready ? undefined : open ? 'not serving' : 'starting')
  }

  #status(): Record<string, unknown> {
    return statusDocument({
      database: this.#database,
      figures: this.#figures.figures,
      started: this.#started,
      unready: this.#unready,
      certificate: this.metrics.certificate,
      further: this.#options.status?.() ?? {},
    })
  }
}

function problem(error: KvidxError): Answer {
  return { status: error.status, type: PROBLEM_TYPE, body: problemDocument(error) }
}

function send(req: IncomingMessage, res: ServerResponse, answer: Answer): void {
  res.writeHead(answer.status, {
    'content-type': answer.type,
    'content-length': Buffer.byteLength(answer.body),
    'cache-control': 'no-store',
  })
  res.end(req.method === 'HEAD' ? undefined : answer.body)
}
