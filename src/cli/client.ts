import { readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import type { Client, Dispatcher } from 'undici'
import { ERRORS, type ErrorCode, KvidxError } from '../common/errors.ts'
import { Unreachable } from './exit-code.ts'
import type { ServerAddress } from './server-address.ts'

export interface CallOptions {
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | Readable
  /** The caller looks at the status itself. */
  readonly expectAnyStatus?: true
  /** Streams and tasks: the answer may take as long as it takes. */
  readonly long?: true
}

export interface Answer {
  readonly status: number
  readonly body: AsyncIterable<Uint8Array>
  header(name: string): string | undefined
  bytes(): Promise<Buffer>
  json(): Promise<Record<string, unknown>>
}

const CONNECT_TIMEOUT = 10_000
const ANSWER_TIMEOUT = 60_000

/** The HTTP side of a command: one connection to one server. */
export class ServerClient {
  readonly #client: Client
  readonly #request: (options: Dispatcher.RequestOptions) => Promise<Dispatcher.ResponseData>
  readonly #address: ServerAddress
  readonly #token: string | undefined

  private constructor(
    client: Client,
    request: (options: Dispatcher.RequestOptions) => Promise<Dispatcher.ResponseData>,
    address: ServerAddress,
    token: string | undefined,
  ) {
    this.#client = client
    this.#request = request
    this.#address = address
    this.#token = token
  }

  /** @param caFile certificates (PEM) to trust beside the system's */
  static async open(address: ServerAddress, token?: string, caFile?: string): Promise<ServerClient> {
    const [{ default: ClientClass }, { default: request }] = await Promise.all([
      import('undici/lib/dispatcher/client.js'),
      import('undici/lib/api/api-request.js'),
    ])
    const client = new ClientClass(address.origin, {
      connect: {
        timeout: CONNECT_TIMEOUT,
        ...(address.socketPath !== undefined && { socketPath: address.socketPath }),
        ...(caFile !== undefined && { ca: await readFile(caFile) }),
      },
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    return new ServerClient(client, options => request.call(client, options), address, token)
  }

  /** Errors: the KvidxError of a problem document; Unreachable. */
  async call(method: Dispatcher.HttpMethod, path: string, options: CallOptions = {}): Promise<Answer> {
    const query = new URLSearchParams()
    for (const [name, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) query.set(name, String(value))
    const search = query.size > 0 ? `?${query}` : ''
    const response = await this.#reach(
      this.#request({
        method,
        path: `${path}${search}`,
        headers: { ...(this.#token !== undefined && { authorization: `Bearer ${this.#token}` }), ...options.headers },
        body: options.body ?? null,
        headersTimeout: options.long ? 0 : ANSWER_TIMEOUT,
      }),
    )
    const bytes = async (): Promise<Buffer> => Buffer.from(await this.#reach(response.body.arrayBuffer()))
    if (response.statusCode >= 400 && !options.expectAnyStatus) throw problemOf(response.statusCode, await bytes())
    return {
      status: response.statusCode,
      body: this.#chunks(response.body),
      header: name => {
        const value = response.headers[name]
        return Array.isArray(value) ? value.join(', ') : value
      },
      bytes,
      json: async () => JSON.parse((await bytes()).toString()) as Record<string, unknown>,
    }
  }

  async close(): Promise<void> {
    await this.#client.destroy()
  }

  async *#chunks(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      yield* body
    } catch (error) {
      throw this.#unreachable(error)
    }
  }

  async #reach<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (error) {
      throw this.#unreachable(error)
    }
  }

  #unreachable(error: unknown): Error {
    // a body that could not be read from its file is not the server's doing
    if (error instanceof KvidxError) return error
    const { code = '', message } = error as NodeJS.ErrnoException
    const at = this.#address.socketPath ?? this.#address.origin
    return new Unreachable(`${at} does not answer: ${message || code}`, { cause: error })
  }
}

/** The server's problem document as the error that it describes. */
export function problemOf(status: number, body: Buffer): KvidxError {
  let document: Record<string, unknown> = {}
  try {
    document = JSON.parse(body.toString()) as Record<string, unknown>
  } catch {
    // something else than our server answered; its status is all that is known
  }
  const { type: _type, title, status: _status, detail, code, retryable: _retryable, ...details } = document
  const known = typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : byStatus(status)
  return new KvidxError(known, String(detail ?? title ?? `the server answered ${status}`), details)
}

function byStatus(status: number): ErrorCode {
  if (status === 401) return 'unauthorized'
  if (status === 403) return 'forbidden'
  if (status === 404) return 'no_such_route'
  return status === 429 || status === 503 ? 'overloaded' : 'internal'
}
