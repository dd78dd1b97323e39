import type { ConnectionOptions } from 'node:tls'
import type { KubeConfig } from '@kubernetes/client-node'
import { Agent, type Dispatcher, ProxyAgent, Socks5ProxyAgent } from 'undici'
import { type Clock, systemClock } from '../common/clock.ts'

/** How the API server is reached, at this moment. */
export interface Route {
  readonly dispatcher: Dispatcher
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string>>
}

export interface KubeConfigSource {
  /** Path of a kubeconfig. Without it: $KUBECONFIG, ~/.kube/config, then the pod's service account. */
  readonly kubeconfig?: string
  /** Name of the context; without it the current one. */
  readonly context?: string
}

/** Headers are asked for again after this long. Tokens live for minutes at least, and a 401 asks at once. */
const HEADERS_LIFETIME = 10_000

/** A connection no request used for this long is closed by us, before the API server does so (after 90 s) under a request of ours. */
const IDLE_CONNECTION = 30_000

/**
 * The way to one API server: credentials as the kubeconfig says (files, tokens that are renewed, exec plugins, client certificates),
 * and one pool of connections that all requests share.
 */
export class Connection {
  readonly #config: KubeConfig
  readonly #clock: Clock
  readonly #server: URL
  #route: { route: Route; fingerprint: string; expires: number } | undefined
  #pending: Promise<Route> | undefined
  #closed = false

  /** Throws Error when the configuration names no usable cluster. */
  constructor(config: KubeConfig, clock: Clock = systemClock) {
    const cluster = config.getCurrentCluster()
    if (cluster === null) {
      throw new Error(`kubeconfig: the context '${config.currentContext}' names no known cluster`)
    }
    this.#config = config
    this.#clock = clock
    this.#server = new URL(cluster.server)
  }

  /** Finds and reads the configuration. Throws Error when there is none, or when it cannot be read. */
  static async load(source: KubeConfigSource = {}, clock: Clock = systemClock): Promise<Connection> {
    // late: the module costs a second and 80 MB, which commands that need no cluster must not pay
    const { KubeConfig } = await import('@kubernetes/client-node')
    const config = new KubeConfig()
    if (source.kubeconfig === undefined) config.loadFromDefault()
    else config.loadFromFile(source.kubeconfig)
    if (source.context !== undefined) {
      if (config.getContextObject(source.context) === null) {
        const known = config.getContexts().map(context => context.name)
        throw new Error(`context '${source.context}' is not in the kubeconfig (it has: ${known.join(', ') || 'none'})`)
      }
      config.setCurrentContext(source.context)
    }
    return new Connection(config, clock)
  }

  /** Scheme, host and port. */
  get origin(): string {
    return this.#server.origin
  }

  /** What precedes every path, where the API server lies below one; no slash at its end. */
  get prefix(): string {
    return this.#server.pathname.replace(/\/+$/, '')
  }

  /** The namespace of the current context, `default` without one. */
  get namespace(): string {
    return this.#config.getContextObject(this.#config.currentContext)?.namespace || 'default'
  }

  /** The pool and today's headers. */
  route(): Promise<Route> {
    if (this.#closed) return Promise.reject(new Error('the connection to the API server is closed'))
    if (this.#route !== undefined && this.#clock.monotonic() < this.#route.expires)
      return Promise.resolve(this.#route.route)
    // one question at a time: an exec plugin may take a second
    this.#pending ??= this.#ask().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  /** Forgets the headers of `route`: the server refused them. */
  refuse(route: Route): void {
    if (this.#route?.route === route) this.#route.expires = Number.NEGATIVE_INFINITY
  }

  /** Ends every connection at once; requests under way fail. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#route?.route.dispatcher.destroy()
  }

  async #ask(): Promise<Route> {
    const options: {
      headers?: Record<string, string | readonly string[] | undefined>
      auth?: string
    } & ConnectionOptions = {}
    await this.#config.applyToHTTPSOptions(options as Parameters<KubeConfig['applyToHTTPSOptions']>[0])
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(options.headers ?? {})) {
      if (value !== undefined) headers[name] = String(value).trim()
    }
    if (options.auth !== undefined) headers.Authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`

    const tls = tlsOf(options)
    // a rotated authority or client certificate needs new connections; a new token does not
    const fingerprint = JSON.stringify(tls)
    const old = this.#route
    const same = old !== undefined && old.fingerprint === fingerprint
    const dispatcher = same ? old.route.dispatcher : this.#dispatcher(tls)
    const route = { dispatcher, headers }
    this.#route = { route, fingerprint, expires: this.#clock.monotonic() + HEADERS_LIFETIME }
    // close() waits for the watches that still run there
    if (old !== undefined && !same) void old.route.dispatcher.close().catch(() => {})
    if (this.#closed) {
      await dispatcher.destroy()
      throw new Error('the connection to the API server is closed')
    }
    return route
  }

  #dispatcher(tls: TlsOptions): Dispatcher {
    const cluster = this.#config.getCurrentCluster()
    const proxied = this.#config.createDispatcherOptions(cluster, tls)
    const shared = {
      // HTTP/1.1: each watch has a connection of its own, so a stuck one holds nothing else up
      allowH2: false,
      keepAliveTimeout: IDLE_CONNECTION,
      keepAliveMaxTimeout: IDLE_CONNECTION,
      // the client has timeouts of its own, which also end a watch on which nothing arrives
      headersTimeout: 0,
      bodyTimeout: 0,
    }
    const connect = { ...tls, timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 30_000 }
    if (proxied.type === 'proxy') return new ProxyAgent({ ...shared, uri: proxied.uri, requestTls: connect })
    if (proxied.type === 'socks') return new Socks5ProxyAgent(proxied.uri, { ...shared, requestTls: connect })
    return new Agent({ ...shared, connect })
  }
}

const TLS_OPTIONS = ['ca', 'cert', 'key', 'pfx', 'passphrase', 'rejectUnauthorized', 'servername'] as const

type TlsOptions = Pick<ConnectionOptions, (typeof TLS_OPTIONS)[number]>

function tlsOf(options: ConnectionOptions): TlsOptions {
  return Object.fromEntries(TLS_OPTIONS.filter(name => options[name] !== undefined).map(name => [name, options[name]]))
}
