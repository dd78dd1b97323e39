import { existsSync } from 'node:fs'
import { Agent, type Dispatcher, ProxyAgent, Socks5ProxyAgent } from 'undici'
import { type Clock, systemClock } from '../common/clock.ts'
import { environment } from '../common/environment.ts'
import { type Access, type Credentials, KubeConfigCredentials } from './credentials.ts'
import { SERVICE_ACCOUNT_DIRECTORY, ServiceAccountCredentials } from './service-account.ts'

/** How the API server is reached, at this moment. */
export interface Route {
  readonly dispatcher: Dispatcher
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string>>
}

export interface ClusterSource {
  /** Path of a kubeconfig. Without it: $KUBECONFIG, then the pod's service account, then ~/.kube/config. */
  readonly kubeconfig?: string
  /** Name of the context; without it the current one. */
  readonly context?: string
}

/** Credentials are asked for again after this long, ms. Tokens live for minutes at least, and a 401 asks at once. */
const ACCESS_LIFETIME = 10_000

/** A connection that no request used for this long is closed by us, before the API server does so (after 90 s) under a request of ours, ms. */
const IDLE_CONNECTION = 30_000

const CONNECT_TIMEOUT = 10_000

/** The way to one API server: one pool of connections that all requests share, and credentials that are renewed. */
export class Connection {
  readonly #credentials: Credentials
  readonly #clock: Clock
  #current: { readonly route: Route; readonly fingerprint: string; expires: number } | undefined
  #pending: Promise<Route> | undefined
  #closed = false

  constructor(credentials: Credentials, clock: Clock = systemClock) {
    this.#credentials = credentials
    this.#clock = clock
  }

  /** Finds out how the cluster is reached. Throws Error when no configuration is there, or when it cannot be read. */
  static async load(source: ClusterSource = {}, clock: Clock = systemClock): Promise<Connection> {
    return new Connection(await credentialsOf(source), clock)
  }

  /** Scheme, host and port. */
  get origin(): string {
    return this.#credentials.server.origin
  }

  /** What precedes every path, where the API server lies below one; no slash at its end. */
  get prefix(): string {
    return this.#credentials.server.pathname.replace(/\/+$/, '')
  }

  /** The namespace that is meant where none is named. */
  get namespace(): string {
    return this.#credentials.namespace
  }

  /** The pool and the headers of this moment. */
  route(): Promise<Route> {
    if (this.#closed) return Promise.reject(new Error('the connection to the API server is closed'))
    const current = this.#current
    if (current !== undefined && this.#clock.monotonic() < current.expires) return Promise.resolve(current.route)
    // one question at a time: an exec plugin may take a second
    this.#pending ??= this.#renew().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  /** Forgets the headers of `route`: the server refused them. */
  refuse(route: Route): void {
    if (this.#current?.route === route) this.#current.expires = Number.NEGATIVE_INFINITY
  }

  /** Ends every connection at once; requests under way fail. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#current?.route.dispatcher.destroy()
  }

  async #renew(): Promise<Route> {
    const access = await this.#credentials.ask()
    // a rotated authority or client certificate needs new connections; a new token does not
    const fingerprint = JSON.stringify([access.tls, access.proxy])
    const old = this.#current
    const same = old !== undefined && old.fingerprint === fingerprint
    const dispatcher = same ? old.route.dispatcher : poolFor(access)
    const route = { dispatcher, headers: access.headers }
    this.#current = { route, fingerprint, expires: this.#clock.monotonic() + ACCESS_LIFETIME }
    // close() waits for what still runs there
    if (old !== undefined && !same) void old.route.dispatcher.close().catch(() => {})
    if (this.#closed) {
      await dispatcher.destroy()
      throw new Error('the connection to the API server is closed')
    }
    return route
  }
}

async function credentialsOf({ kubeconfig, context }: ClusterSource): Promise<Credentials> {
  const host = environment.read('KUBERNETES_SERVICE_HOST')
  const outside = kubeconfig !== undefined || context !== undefined || environment.read('KUBECONFIG') !== undefined
  if (!outside && host !== undefined && existsSync(SERVICE_ACCOUNT_DIRECTORY)) {
    return new ServiceAccountCredentials(host, environment.read('KUBERNETES_SERVICE_PORT') ?? 443)
  }
  return await KubeConfigCredentials.load(kubeconfig, context)
}

function poolFor({ tls, proxy }: Access): Dispatcher {
  const connect = { ...tls, timeout: CONNECT_TIMEOUT, keepAlive: true, keepAliveInitialDelay: 30_000 }
  const options = {
    // HTTP/1.1: each watch has a connection of its own, so a stuck one holds nothing else up
    allowH2: false,
    keepAliveTimeout: IDLE_CONNECTION,
    keepAliveMaxTimeout: IDLE_CONNECTION,
    // the client has limits of its own, which also end a watch on which nothing arrives
    headersTimeout: 0,
    bodyTimeout: 0,
  }
  switch (proxy?.kind) {
    case 'http':
      return new ProxyAgent({ ...options, uri: proxy.uri, requestTls: connect })
    case 'socks':
      return new Socks5ProxyAgent(proxy.uri, { ...options, requestTls: connect })
    case undefined:
      return new Agent({ ...options, connect })
  }
}
