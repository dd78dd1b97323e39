import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { ListenOptions } from 'node:net'
import type { Duplex } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import { KvidxError } from '../../src/common/errors.ts'
import type { Method } from './endpoint.ts'
import { Exchange, type ListenerContext, Refusal } from './exchange.ts'
import { rawProblem } from './problem.ts'
import type { Route } from './route.ts'
import { ROUTES } from './routes.ts'
import type { ServerCertificate } from './tls.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    kvidxRoute?: Route
  }
}

const RECORDS = '/v1/records/'
/** For answers that say that there was no more time, ms. */
const LAST_ANSWERS = 1000
/** Calls on one record are most of the load: they go to their handler without the router's objects. */
const FAST = new Map<string | undefined, Route>(
  ROUTES.filter(route => route.path === '/v1/records/{key}').map(route => [route.method, route]),
)

const UNKNOWN: Route = {
  method: 'GET',
  path: '',
  name: 'unknown',
  rights: 'none',
  summary: '',
  query: {},
  answers: {},
  handle(exchange) {
    const path = (exchange.req.url ?? '').split('?', 1)[0] as string
    const methods = methodsOf(path)
    // the router gave up before it came to a method: a path that cannot be decoded
    if (methods.some(method => method === exchange.req.method))
      throw new KvidxError('malformed_request', `the path ${path.slice(0, 200)} has a malformed percent sign`)
    if (methods.length === 0)
      throw new KvidxError('no_such_route', `there is nothing at ${path.slice(0, 200)}; see /v1/openapi.json`)
    throw new Refusal(
      new KvidxError(
        'method_not_allowed',
        `${exchange.req.method} is not allowed at ${path} (allowed: ${methods.join(', ')})`,
      ),
      { headers: { allow: methods.join(', ') } },
    )
  },
}

/** One listener of the data API: a TCP port or a Unix socket. */
export class DataListener {
  readonly #server: Server
  readonly #context: ListenerContext
  readonly #router: FastifyInstance

  private constructor(server: Server, context: ListenerContext, router: FastifyInstance) {
    this.#server = server
    this.#context = context
    this.#router = router
  }

  /** Errors: the system's own, when it cannot listen. */
  static async start(
    context: ListenerContext,
    where: ListenOptions,
    options: { readonly certificate?: ServerCertificate; readonly fastPath: boolean },
  ): Promise<DataListener> {
    const router = await createRouter(context)
    const onRequest = (req: IncomingMessage, res: ServerResponse): void => {
      if (!(options.fastPath && runFast(context, req, res))) router.routing(req, res)
    }
    const { limits } = context
    const settings = {
      headersTimeout: limits.headersTimeout,
      // a body may be long; its pauses and its rate are watched instead
      requestTimeout: 0,
      keepAliveTimeout: limits.keepAliveTimeout,
      connectionsCheckingInterval: Math.max(100, limits.headersTimeout / 4),
      keepAlive: true,
      noDelay: true,
    }
    const server = options.certificate
      ? createTlsServer(
          { ...settings, ...options.certificate.options, handshakeTimeout: limits.headersTimeout },
          onRequest,
        )
      : createServer(settings, onRequest)
    options.certificate?.onChange(secure => {
      if ('setSecureContext' in server) server.setSecureContext(secure)
    })
    server.maxConnections = limits.connections
    server.on('checkContinue', onRequest)
    server.on('clientError', (error, socket) => answerMalformed(context, error, socket))
    server.on('drop', () => context.metrics.error('overloaded'))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ ...where, backlog: 1024 }, () => {
        server.off('error', reject)
        resolve()
      })
    })
    server.on('error', error => context.log.error({ err: error }, 'a listener failed'))
    return new DataListener(server, context, router)
  }

  /** The port, or undefined for a Unix socket. */
  get port(): number | undefined {
    const address = this.#server.address()
    return typeof address === 'object' ? address?.port : undefined
  }

  /** Accepts nothing new, waits for requests under way up to drainTimeout and for the answers of those that end then, and closes what is left. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    this.#server.closeIdleConnections()
    // a connection becomes idle when its request ends
    const idle = setInterval(() => this.#server.closeIdleConnections(), 20)
    const late = setTimeout(() => this.#server.closeAllConnections(), this.#context.limits.drainTimeout + LAST_ANSWERS)
    await closed
    clearInterval(idle)
    clearTimeout(late)
    await this.#router.close()
  }
}

async function createRouter(context: ListenerContext): Promise<FastifyInstance> {
  const router = Fastify({
    logger: false,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: (_error, request, reply) => {
      reply.hijack()
      run(context, UNKNOWN, request.raw, reply.raw, '', '')
    },
  })
  // the whole answer is ours: bodies are read where a route wants them, under its own limits
  router.addHook('onRequest', (request, reply) => {
    reply.hijack()
    const route = request.routeOptions.config.kvidxRoute ?? UNKNOWN
    const url = request.raw.url ?? ''
    const mark = url.indexOf('?')
    const { key = '' } = request.params as { key?: string }
    run(context, route, request.raw, reply.raw, key, mark === -1 ? '' : url.slice(mark + 1))
  })
  router.setNotFoundHandler(() => {})
  for (const route of ROUTES)
    router.route({
      method: route.method,
      url: route.path.replace('{key}', ':key'),
      config: { kvidxRoute: route },
      handler: () => {},
    })
  await router.ready()
  return router
}

function runFast(context: ListenerContext, req: IncomingMessage, res: ServerResponse): boolean {
  const url = req.url as string
  if (!url.startsWith(RECORDS)) return false
  const route = FAST.get(req.method)
  const mark = url.indexOf('?', RECORDS.length)
  const key = mark === -1 ? url.slice(RECORDS.length) : url.slice(RECORDS.length, mark)
  if (!route || key === '' || key.includes('/') || key.includes('%')) return false
  run(context, route, req, res, key, mark === -1 ? '' : url.slice(mark + 1))
  return true
}

function run(
  context: ListenerContext,
  route: Route,
  req: IncomingMessage,
  res: ServerResponse,
  key: string,
  query: string,
): void {
  const exchange = new Exchange(context, route, req, res, key, query)
  try {
    exchange.caller = context.access.check(req, route.rights)
    route.handle(exchange)?.catch((error: unknown) => exchange.fail(error))
  } catch (error) {
    exchange.fail(error)
  }
}

const PATTERNS = [...Map.groupBy(ROUTES, route => route.path)].map(([path, routes]) => ({
  pattern: new RegExp(`^${path.replace('{key}', '[^/]+')}$`),
  methods: routes.map(route => route.method),
}))

function methodsOf(path: string): readonly Method[] {
  return PATTERNS.find(({ pattern }) => pattern.test(path))?.methods ?? []
}

/** What is no HTTP, or comes too slowly: answered where an answer can still be understood, and the connection ends. */
function answerMalformed(context: ListenerContext, error: NodeJS.ErrnoException, socket: Duplex): void {
  const begun = (socket as { _httpMessage?: ServerResponse })._httpMessage?.headersSent
  if (error.code === 'ECONNRESET' || !socket.writable || begun) {
    socket.destroy()
    return
  }
  const refusal =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new KvidxError('headers_too_large', 'the headers of the request are longer than 16384 bytes')
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new KvidxError('request_timeout', `the headers did not arrive within ${context.limits.headersTimeout} ms`)
        : new KvidxError('malformed_request', `the request is not HTTP/1.1: ${error.message}`)
  context.metrics.error(refusal.code)
  socket.end(rawProblem(refusal))
}
