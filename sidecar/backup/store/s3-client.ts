import { AwsV4Signer } from 'aws4fetch'
import { Agent, type Dispatcher, request } from 'undici'
import type { Clock } from '../../../src/common/clock.ts'
import { KvidxError } from '../../../src/common/errors.ts'
import { cancelled, throwIfAborted } from './body.ts'
import { type Attempt, type Failure, parseRetryAfter, retrying } from './retry.ts'
import { text } from './s3-xml.ts'

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface S3Endpoint {
  readonly bucket: string
  /** e.g. `https://minio.example:9000`; undefined: Amazon's of the region */
  readonly endpoint?: string
  readonly region: string
  /** true: `endpoint/bucket/key`; false: `bucket.endpoint/key` */
  readonly pathStyle: boolean
  /** PEM of the authorities that are trusted instead of the system's. */
  readonly ca?: string
  /** Asked before every request, so that rotated credentials are used at once; cache them if that is dear. */
  readonly credentials: () => S3Credentials | Promise<S3Credentials>
}

export interface S3ClientOptions extends S3Endpoint {
  readonly clock: Clock
  /** 0 … 1, for the jitter of retries; default Math.random */
  readonly random?: () => number
  /** Attempts of a request, default 6 */
  readonly attempts?: number
  /** Milliseconds without an answer or a byte, default 60,000 */
  readonly timeoutMs?: number
}

export interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** Key in the bucket; undefined: the bucket itself. */
  readonly key?: string
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
  readonly signal?: AbortSignal
  /** Statuses besides 2xx that are an answer and not an error. */
  readonly accept?: readonly number[]
}

export interface S3Response {
  readonly status: number
  readonly headers: Dispatcher.ResponseData['headers']
  readonly body: Dispatcher.ResponseData['body']
  /** An earlier attempt of this request may have reached the store without its answer reaching us. */
  readonly repeated: boolean
}

/** S3 error codes that mean "later", whatever their status. */
const RETRYABLE_CODES = new Set([
  'InternalError',
  'RequestTimeout',
  'ServiceUnavailable',
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'TooManyRequests',
  'OperationAborted',
  'ConditionalRequestConflict',
  'IncompleteBody',
])
const RETRYABLE_STATUSES = new Set([408, 429, 500, 502, 503, 504])
const LARGEST_ERROR_BODY = 64 * 1024

/** Signed requests (AWS Signature 4, payload signed, so the store checks every byte it gets) with retries. */
export class S3Client {
  readonly #options: S3ClientOptions
  readonly #agent: Agent
  readonly #signingKeys = new Map<string, ArrayBuffer>()
  readonly #base: URL

  constructor(options: S3ClientOptions) {
    this.#options = options
    this.#base = baseUrl(options)
    const timeout = options.timeoutMs ?? 60_000
    this.#agent = new Agent({
      connections: 8,
      headersTimeout: timeout,
      bodyTimeout: timeout,
      connect: { timeout: 10_000, ...(options.ca !== undefined && { ca: options.ca }) },
    })
  }

  /**
   * Sends the request until it is answered. The caller reads or destroys the body. Errors: store_unreachable, store_denied,
   * cancelled; backup_not_found for a missing key.
   */
  async send(call: S3Request): Promise<S3Response> {
    let repeated = false
    const policy = {
      clock: this.#options.clock,
      random: this.#options.random ?? Math.random,
      attempts: this.#options.attempts ?? 6,
    }
    try {
      return await retrying(policy, call.signal, async () => {
        const outcome = await this.#attempt(call, repeated)
        if (!('value' in outcome)) repeated = true
        return outcome
      })
    } catch (thrown) {
      if (call.signal?.aborted) throw cancelled(call.signal)
      throw thrown
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy()
  }

  async #attempt(call: S3Request, repeated: boolean): Promise<Attempt<S3Response>> {
    throwIfAborted(call.signal)
    const url = this.#url(call)
    const headers = await this.#sign(call, url)
    let response: Dispatcher.ResponseData
    try {
      response = await request(url, {
        method: call.method,
        headers,
        dispatcher: this.#agent,
        ...(call.body && { body: call.body }),
        ...(call.signal && { signal: call.signal }),
      })
    } catch (thrown) {
      throwIfAborted(call.signal)
      return { error: unreachable(this.#base, thrown), retry: true }
    }
    const { statusCode: status } = response
    if ((status >= 200 && status < 300) || call.accept?.includes(status))
      return { value: { status, headers: response.headers, body: response.body, repeated } }
    return this.#failure(call, response)
  }

  async #failure(call: S3Request, response: Dispatcher.ResponseData): Promise<Failure> {
    const { statusCode: status, headers } = response
    const xml = await limitedText(response.body)
    const code = text(xml, 'Code') ?? ''
    const after = parseRetryAfter(single(headers['retry-after']), this.#options.clock.now())
    const retry = RETRYABLE_STATUSES.has(status) || RETRYABLE_CODES.has(code)
    const what =
      `${call.method} ${call.key ?? this.#options.bucket}: the store answered ${status} ${code} ${text(xml, 'Message') ?? ''}`.trim()
    const details = {
      status,
      ...(code !== '' && { storeCode: code }),
      ...(call.key !== undefined && { key: call.key }),
    }
    return { error: errorOf(status, code, what, details, this.#options), retry, ...(after !== undefined && { after }) }
  }

  #url(call: S3Request): URL {
    const url = new URL(this.#base)
    if (call.key !== undefined) url.pathname = `${url.pathname.replace(/\/$/, '')}/${encodePath(call.key)}`
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value)
    return url
  }

  async #sign(call: S3Request, url: URL): Promise<Record<string, string>> {
    // in a thread of the pool: a part may have 64 MiB
    const digest = await crypto.subtle.digest('SHA-256', (call.body ?? new Uint8Array()) as Uint8Array<ArrayBuffer>)
    const signer = new AwsV4Signer({
      method: call.method,
      url: url.href,
      headers: { ...call.headers, 'x-amz-content-sha256': Buffer.from(digest).toString('hex') },
      service: 's3',
      region: this.#options.region,
      cache: this.#signingKeys,
      // a cached key would outlive a rotation only under its own secret: the cache's key holds it
      ...(await this.#options.credentials()),
    })
    const signed = await signer.sign()
    return Object.fromEntries(signed.headers)
  }
}

function baseUrl(options: S3Endpoint): URL {
  const url = new URL(options.endpoint ?? `https://s3.${options.region}.amazonaws.com`)
  if (options.pathStyle) url.pathname = `${url.pathname.replace(/\/$/, '')}/${options.bucket}`
  else url.hostname = `${options.bucket}.${url.hostname}`
  return url
}

function encodePath(key: string): string {
  const encode = (segment: string) =>
    encodeURIComponent(segment).replace(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  return key.split('/').map(encode).join('/')
}

export function single(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header
}

async function limitedText(body: Dispatcher.ResponseData['body']): Promise<string> {
  const pieces: Buffer[] = []
  let have = 0
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      have += chunk.length
      pieces.push(chunk)
      if (have > LARGEST_ERROR_BODY) break
    }
  } catch {
    // the status alone says enough
  }
  return Buffer.concat(pieces).toString('utf8')
}

function unreachable(base: URL, thrown: unknown): KvidxError {
  const { code, message } = thrown as NodeJS.ErrnoException
  const certificate =
    /CERT|SIGNATURE/.test(code ?? '') && !code?.includes('ALTNAME')
      ? '; give the authority of its certificate as `ca`'
      : ''
  return new KvidxError('store_unreachable', `${base.origin}: ${message || code}${certificate}`, {}, thrown)
}

function errorOf(
  status: number,
  code: string,
  what: string,
  details: Readonly<Record<string, unknown>>,
  options: S3Endpoint,
): KvidxError {
  if (code === 'NoSuchBucket')
    return new KvidxError('store_unreachable', `${what} (there is no bucket '${options.bucket}')`, details)
  if (status === 404) return new KvidxError('backup_not_found', what, details)
  if (status === 401 || status === 403) {
    const hint =
      code === 'RequestTimeTooSkewed'
        ? ' (the clock of this machine differs from the store)'
        : code === '' || code === 'AccessDenied'
          ? ' (without the right to list, S3 gives this for a missing object too)'
          : ''
    return new KvidxError('store_denied', what + hint, details)
  }
  if (status >= 300 && status < 400)
    return new KvidxError(
      'store_unreachable',
      `${what} (is region '${options.region}' right, and the endpoint?)`,
      details,
    )
  return new KvidxError('store_unreachable', what, details)
}
