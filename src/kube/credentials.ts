import type { ConnectionOptions } from 'node:tls'
import type { KubeConfig } from '@kubernetes/client-node'
import { environment } from '../common/environment.ts'
import { KvidxError } from '../common/errors.ts'

const TLS_OPTIONS = ['ca', 'cert', 'key', 'pfx', 'passphrase', 'rejectUnauthorized', 'servername'] as const

export type TlsOptions = Pick<ConnectionOptions, (typeof TLS_OPTIONS)[number]>

/** What a request needs, at this moment. */
export interface Access {
  /** Authorization and impersonation. */
  readonly headers: Readonly<Record<string, string>>
  readonly tls: TlsOptions
  readonly proxy?: { readonly kind: 'http' | 'socks'; readonly uri: string }
}

/** Where an API server is and how it lets us in. */
export interface Credentials {
  readonly server: URL
  /** The namespace that is meant where none is named. */
  readonly namespace: string
  /** Asked again now and then: tokens and certificates are renewed while we run. Rejects with Error when there is nothing to show. */
  ask(): Promise<Access>
}

/** As a kubeconfig says: files, tokens, client certificates, exec plugins, OIDC, proxies. */
export class KubeConfigCredentials implements Credentials {
  readonly server: URL
  readonly #config: KubeConfig

  /** Throws Error when the configuration names no usable cluster. */
  constructor(config: KubeConfig) {
    const cluster = config.getCurrentCluster()
    if (cluster === null) {
      throw new Error(`kubeconfig: the context '${config.currentContext}' names no known cluster`)
    }
    this.server = new URL(cluster.server)
    this.#config = config
  }

  /**
   * Reads a kubeconfig: the file at `path`, else $KUBECONFIG, else ~/.kube/config.
   * Errors: invalid_parameter when it cannot be read; Error when `context` is not in it.
   */
  static async load(path?: string, context?: string): Promise<KubeConfigCredentials> {
    // late: the module costs a second and 80 MB, which commands without a cluster and pods inside of one need not pay
    const { KubeConfig } = await import('@kubernetes/client-node')
    const config = new KubeConfig()
    try {
      if (path === undefined) config.loadFromDefault()
      else config.loadFromFile(path)
    } catch (error) {
      throw unusable(path, error)
    }
    if (context !== undefined) {
      if (config.getContextObject(context) === null) {
        const known = config.getContexts().map(one => one.name)
        throw new Error(`context '${context}' is not in the kubeconfig (it has: ${known.join(', ') || 'none'})`)
      }
      config.setCurrentContext(context)
    }
    return new KubeConfigCredentials(config)
  }

  get namespace(): string {
    return this.#config.getContextObject(this.#config.currentContext)?.namespace || 'default'
  }

  async ask(): Promise<Access> {
    const options: ConnectionOptions & { headers?: Record<string, unknown>; auth?: string } = {}
    await this.#config.applyToHTTPSOptions(options as Parameters<KubeConfig['applyToHTTPSOptions']>[0])
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(options.headers ?? {})) {
      // a token's file may end with a newline, which no header may
      if (value !== undefined) headers[name] = String(value).trim()
    }
    if (options.auth !== undefined) headers.Authorization = `Basic ${Buffer.from(options.auth).toString('base64')}`
    const uri = this.#config.getCurrentCluster()?.proxyUrl
    return {
      headers,
      tls: Object.fromEntries(
        TLS_OPTIONS.filter(name => options[name] !== undefined).map(name => [name, options[name]]),
      ),
      ...(uri ? { proxy: { kind: uri.startsWith('socks') ? 'socks' : 'http', uri } } : {}),
    }
  }
}

function unusable(path: string | undefined, error: unknown): KvidxError {
  const variable = environment.read('KUBECONFIG')
  const field = path !== undefined ? '--kubeconfig' : variable !== undefined ? '$KUBECONFIG' : 'kubeconfig'
  const [reason] = (error instanceof Error ? error.message : String(error)).split('\n')
  return new KvidxError(
    'invalid_parameter',
    `${field}: '${path ?? variable ?? '~/.kube/config'}' cannot be used: ${reason} (allowed: a file that this user may read, in kubectl's format)`,
    { field },
    error,
  )
}
