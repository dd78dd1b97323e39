import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import type { Access, Credentials } from './credentials.ts'

/** Where the kubelet puts a pod's token. */
export const SERVICE_ACCOUNT_DIRECTORY = '/var/run/secrets/kubernetes.io/serviceaccount'

/** A pod's own service account. The kubelet renews the token's file; it is read anew each time. */
export class ServiceAccountCredentials implements Credentials {
  readonly server: URL
  readonly namespace: string
  readonly #directory: string

  /**
   * @param host address of the API server, as in KUBERNETES_SERVICE_HOST
   * Throws Error when the directory cannot be read.
   */
  constructor(host: string, port: number, directory = SERVICE_ACCOUNT_DIRECTORY) {
    this.server = new URL(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`)
    this.namespace = readFileSync(join(directory, 'namespace'), 'utf8').trim()
    this.#directory = directory
  }

  async ask(): Promise<Access> {
    const [token, ca] = await Promise.all([
      readFile(join(this.#directory, 'token'), 'utf8'),
      readFile(join(this.#directory, 'ca.crt')),
    ])
    return { headers: { Authorization: `Bearer ${token.trim()}` }, tls: { ca } }
  }
}
