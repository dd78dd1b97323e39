import type { Dispatcher } from 'undici'
import { type Clock, systemClock } from '../common/clock.ts'
import type { CallOptions } from './api.ts'
import { errorFromAnswer, KubeApiError } from './api-error.ts'
import type { Connection, Route } from './connection.ts'
import { LineSplitter } from './lines.ts'
import { linkedAbort } from './linked-abort.ts'
import { KubeMetrics } from './metrics.ts'
import { pathOf, type Resource } from './object.ts'

export interface TransportOptions {
  readonly connection: Connection
  readonly metrics?: KubeMetrics
  readonly clock?: Clock
  /** Bound of a call with its retries unless it says another, ms. Default 30 s. */
  readonly timeout?: number
  /** Idle bound of a watch unless it says another, ms. Default 150 s: two bookmarks in a row did not come. */
  readonly watchIdleTimeout?: number
}

/** Retries of one call that the server asked to wait for (429, 503 with Retry-After). */
const MAX_RETRIES = 10
/** The longest pause that is taken from a Retry-After; more is the caller's business. */
const MAX_RETRY_AFTER = 30_000
/** Pause before a read is sent again over a connection that broke. */
const RECONNECT_PAUSE = 250
const MAX_RECONNECTS = 3
/** Longest line of a watch and longest error text. An object has at most 3 MiB. */
const MAX_EVENT_BYTES = 16 * 1024 * 1024
/** Longest answer: a page of 500 objects has a few MiB. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024

/** One call, before it is bytes. */
export interface Call {
  readonly verb: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly resource: Resource
  readonly ref?: { namespace?: string | undefined; name?: string }
  readonly subresource?: string | undefined
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly body?: unknown
  readonly contentType?: string
  /** Instead of the path that the resource gives. */
  readonly path?: string
}

/** Calls over the connection's pool: credentials, time limits, retries, counting. */
export class Transport {
  readonly #connection: Connection
  readonly #metrics: KubeMetrics
  readonly #clock: Clock
  readonly #timeout: number
  readonly #watchIdleTimeout: number

  constructor(options: TransportOptions) {
    this.#connection = options.connection
    this.#metrics = options.metrics ?? new KubeMetrics()
    this.#clock = options.clock ?? systemClock
    this.#timeout = options.timeout ?? 30_000
    this.#watchIdleTimeout = options.watchIdleTimeout ?? 150_000
  }

  /** The answer's body. */
  async json(call: Call, options: CallOptions): Promise<unknown> {
    const text = await this.text(call, options)
    try {
      return JSON.parse(text)
    } catch (cause) {
      const message = `${describe(call)}: the answer is not JSON`
      throw new KubeApiError({ status: 0, reason: 'Unreachable', message, cause })
    }
  }

  /** The lines of an answer that goes on. An unfinished last line is no line: it comes again with the next watch. */
  async *lines(
    call: Call,
    outer: AbortSignal | undefined,
    idleTimeout = this.#watchIdleTimeout,
  ): AsyncGenerator<string> {
    using abort = linkedAbort(this.#clock, outer)
    abort.after(this.#timeout, () => timeoutError(call, this.#timeout))
    try {
      const answer = await this.#send(call, abort.signal)
      if (answer.statusCode !== 200) throw await this.#refusal(call, answer)
      const lines = new LineSplitter(MAX_EVENT_BYTES)
      const heard = (): void => abort.after(idleTimeout, () => silenceError(call, idleTimeout))
      heard()
      for await (const chunk of answer.body) {
        heard()
        yield* lines.push(chunk)
      }
    } catch (error) {
      throw failureOf(call, error, abort.signal, outer)
    }
  }

  /** Ends every connection; calls under way reject. */
  close(): Promise<void> {
    return this.#connection.close()
  }

  /** Sends the call until it succeeds, fails for good, or its time is over. */
  async text(call: Call, options: CallOptions): Promise<string> {
    const timeout = options.timeout ?? this.#timeout
    using abort = linkedAbort(this.#clock, options.signal)
    abort.after(timeout, () => timeoutError(call, timeout))
    for (let retries = 0, reconnects = 0; ; ) {
      try {
        return await this.#attempt(call, abort.signal)
      } catch (error) {
        const failure = failureOf(call, error, abort.signal, options.signal)
        if (!(failure instanceof KubeApiError) || abort.signal.aborted) throw failure
        let pause: number
        if (failure.status === 0 && call.method === 'GET' && reconnects < MAX_RECONNECTS) {
          // a read may be sent twice; a write that got no answer may have been carried out
          reconnects++
          pause = RECONNECT_PAUSE
        } else if (mayRetry(failure) && retries < MAX_RETRIES) {
          retries++
          pause = failure.retryAfter ?? 0
        } else {
          throw failure
        }
        await this.#clock.sleep(pause, abort.signal).catch(() => {
          // the last answer says more than that time was over meanwhile
          throw options.signal?.aborted ? options.signal.reason : failure
        })
      }
    }
  }

  async #attempt(call: Call, signal: AbortSignal): Promise<string> {
    const answer = await this.#send(call, signal)
    if (answer.statusCode < 200 || answer.statusCode > 299) throw await this.#refusal(call, answer)
    return await textOf(answer.body, MAX_ANSWER_BYTES)
  }

  /** One request, counted; sent a second time with fresh credentials when the server refuses those we had. */
  async #send(call: Call, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const route = await this.#connection.route()
    const answer = await this.#request(route, call, signal)
    if (answer.statusCode !== 401) return answer
    await answer.body.dump()
    this.#connection.refuse(route)
    return await this.#request(await this.#connection.route(), call, signal)
  }

  async #request(route: Route, call: Call, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    signal.throwIfAborted()
    const began = this.#clock.monotonic()
    let code = 0
    try {
      const answer = await route.dispatcher.request({
        origin: this.#connection.origin,
        path: this.#connection.prefix + (call.path ?? addressOf(call)),
        method: call.method,
        headers: {
          accept: 'application/json',
          'user-agent': 'kvidx-operator',
          ...(call.body === undefined ? {} : { 'content-type': call.contentType ?? 'application/json' }),
          ...route.headers,
        },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal,
      })
      code = answer.statusCode
      return answer
    } finally {
      this.#metrics.requests.inc({ verb: call.verb, resource: labelOf(call), code: String(code) })
      this.#metrics.requestDuration.observe({ verb: call.verb }, (this.#clock.monotonic() - began) / 1000)
    }
  }

  async #refusal(call: Call, answer: Dispatcher.ResponseData): Promise<KubeApiError> {
    const text = await textOf(answer.body, MAX_EVENT_BYTES)
    return errorFromAnswer(describe(call), answer.statusCode, text, retryAfterOf(answer, this.#clock.now()))
  }
}

/** What to tell the caller: its own reason to abort, our timeout, or that the server could not be reached. */
function failureOf(call: Call, error: unknown, signal: AbortSignal, outer: AbortSignal | undefined): unknown {
  if (outer?.aborted) return outer.reason
  if (signal.aborted) return signal.reason
  if (error instanceof KubeApiError || error instanceof RangeError) return error
  const text = error instanceof Error ? error.message : String(error)
  const message = `${describe(call)}: the API server does not answer: ${text}`
  return new KubeApiError({ status: 0, reason: 'Unreachable', message, cause: error })
}

function addressOf(call: Call): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined) query.set(name, String(value))
  }
  const path = pathOf(call.resource, call.ref ?? {}, call.subresource)
  return query.size === 0 ? path : `${path}?${query}`
}

function labelOf(call: Call): string {
  return call.subresource === undefined ? call.resource.plural : `${call.resource.plural}/${call.subresource}`
}

/** `get pods default/a`, for messages. */
export function describe(call: Call): string {
  const { namespace, name } = call.ref ?? {}
  return [call.verb, labelOf(call), [namespace, name].filter(Boolean).join('/')].filter(Boolean).join(' ')
}

function timeoutError(call: Call, ms: number): KubeApiError {
  const message = `${describe(call)}: no answer within ${ms} ms`
  return new KubeApiError({ status: 0, reason: 'Timeout', message })
}

function silenceError(call: Call, ms: number): KubeApiError {
  const message = `${describe(call)}: nothing arrived for ${ms} ms, not even a bookmark`
  return new KubeApiError({ status: 0, reason: 'Timeout', message })
}

function mayRetry(error: KubeApiError): boolean {
  // without Retry-After the server does not promise that it did nothing, nor that later is better
  return (
    (error.status === 429 || error.status >= 500) &&
    error.retryAfter !== undefined &&
    error.retryAfter <= MAX_RETRY_AFTER
  )
}

/** Retry-After in ms: seconds or a date. */
function retryAfterOf(answer: Dispatcher.ResponseData, now: number): number | undefined {
  const header = answer.headers['retry-after']
  if (typeof header !== 'string') return undefined
  if (/^\d+$/.test(header)) return Number(header) * 1000
  const date = Date.parse(header)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

async function textOf(body: Dispatcher.ResponseData['body'], limit: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > limit) throw new RangeError(`the answer is longer than ${limit} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, length).toString('utf8')
}
