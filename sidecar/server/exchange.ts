import type { IncomingMessage, ServerResponse } from 'node:http'
import { asKvidxError, KvidxError } from '../../src/common/errors.ts'
import type { Database } from '../database/database.ts'
import type { Operation, Position, WriteResult } from '../database/operation.ts'
import { formatPosition } from '../database/position.ts'
import type { Access } from './access.ts'
import type { Budget } from './budget.ts'
import type { ServerLimits } from './config.ts'
import type { Endpoint } from './endpoint.ts'
import type { Log } from './log.ts'
import { isAudited, keysOf, type LogPolicy } from './log-policy.ts'
import type { Outcome, ServerMetrics } from './metrics.ts'
import { PROBLEM_TYPE, problemDocument, retryAfter, stringify } from './problem.ts'
import type { AdminServices } from './services.ts'
import { type Moments, slowest, stagesOf } from './stages.ts'
import type { Watchdog } from './watchdog.ts'

/** What the exchanges of one listener share. */
export interface ListenerContext {
  readonly database: Database
  readonly limits: ServerLimits
  readonly access: Access
  readonly metrics: ServerMetrics
  readonly log: Log
  readonly policy: LogPolicy
  readonly watchdog: Watchdog
  readonly bodies: Budget
  readonly streams: Budget
  readonly followers: Budget
  /** Aborted when the server stops: followers end, the rest finishes. */
  readonly stopping: AbortSignal
  /** Aborted when the rest had its time: what still waits for its client ends, with an answer where there is one to give. */
  readonly ending: AbortSignal
  /** Backup and restore; absent where there is no volume. */
  readonly services?: AdminServices
}

/** Bytes below which copying is cheaper than a write of two pieces. */
const SMALL = 16 * 1024

/** Answers above this are sent piece by piece, and count against the memory that requests may hold. Bytes. */
const LARGE = 256 * 1024

/** Thrown inside a handler when nobody is there any more to answer to. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

/** One request and its answer. A handler answers exactly once, or throws. */
export class Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly context: ListenerContext
  readonly route: Endpoint
  /** The key in the path, as it was written. */
  readonly keyText: string
  /** What stands behind `?`. */
  readonly query: string
  /** Who calls, once that was checked. */
  caller: string | undefined
  /** Bytes of the body that have been read. */
  received = 0
  /** The client waits for 100 Continue before it sends its body. */
  awaitsContinue: boolean
  readonly #moments: Moments = { started: performance.now() }
  /** Memory set aside for the answer, bytes. */
  #reserved = 0
  /** Something was written: whatever comes, it must be answered so. */
  #written = false
  #done = false

  constructor(
    context: ListenerContext,
    route: Endpoint,
    req: IncomingMessage,
    res: ServerResponse,
    keyText: string,
    query: string,
  ) {
    this.context = context
    this.route = route
    this.req = req
    this.res = res
    this.keyText = keyText
    this.query = query
    this.awaitsContinue = req.headers.expect !== undefined
  }

  get database(): Database {
    return this.context.database
  }

  header(name: string): string | undefined {
    const value = this.req.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /** Whether the client announced a body. */
  get hasBody(): boolean {
    const headers = this.req.headers
    const length = headers['content-length']
    return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
  }

  /** Changes the database; the slow-operation log says how long that waited and how long it took. */
  async write(operations: readonly Operation[]): Promise<WriteResult> {
    const write = { at: performance.now(), ended: 0, commit: 0 }
    this.#moments.write = write
    try {
      const result = await this.database.write({ operations, timing: write })
      this.#written = true
      return result
    } finally {
      write.ended = performance.now()
    }
  }

  /** Sets memory aside for a large answer, while it can still be refused. Errors: overloaded. */
  reserve(bytes: number): void {
    if (bytes <= LARGE || this.res.destroyed) return
    this.context.bodies.take(bytes)
    this.#reserved = bytes
    this.res.once('close', () => this.context.bodies.give(bytes))
  }

  /** Sends a whole answer. `headers` is a flat list of names and values. */
  answer(status: number, position: Position | undefined, headers: string[], body?: Uint8Array | string): void {
    const { res } = this
    this.#moments.answered = performance.now()
    if (res.headersSent || res.destroyed) {
      this.done('aborted')
      return
    }
    if (position) headers.push('kvidx-position', formatPosition(position))
    const length = body === undefined ? 0 : Buffer.byteLength(body)
    if (status !== 204 && status !== 304) headers.push('content-length', String(length))
    if (body !== undefined && length > LARGE) {
      this.#answerLarge(status, headers, typeof body === 'string' ? Buffer.from(body) : body)
      return
    }
    if (this.hasBody && !this.req.complete) this.#answerBeforeBody(status, headers, body)
    else {
      res.writeHead(status, headers)
      // one string goes out with the head in one piece, bytes would be a second one
      if (typeof body === 'object' && body.byteLength <= SMALL) res.end(latin1(body), 'latin1')
      else res.end(body)
    }
    this.done(outcomeOf(status))
  }

  /** Sends a JSON document; every bigint in it becomes a decimal string. */
  json(status: number, position: Position | undefined, document: unknown, headers: string[] = []): void {
    headers.push('content-type', 'application/json')
    this.answer(status, position, headers, stringify(document))
  }

  /** Answers with a problem document; when the answer has begun already, ends the connection so that it is seen to be cut. */
  fail(thrown: unknown): void {
    const { res, context } = this
    if (thrown instanceof ClientGone || res.destroyed) {
      this.done('aborted')
      return
    }
    const error = asKvidxError(thrown)
    context.metrics.error(error.code)
    if (error.status === 500) context.log.error({ err: error, operation: this.route.name }, 'a request failed')
    if (res.headersSent) {
      context.log.warn({ code: error.code, operation: this.route.name }, 'an answer was cut: %s', error.message)
      this.#cut()
      this.done('failed')
      return
    }
    const headers = ['content-type', PROBLEM_TYPE]
    const after = retryAfter(error)
    if (after !== undefined) headers.push('retry-after', String(after))
    if (error.code === 'unauthorized') headers.push('www-authenticate', 'Bearer realm="kvidx"')
    for (const [name, value] of Object.entries(error instanceof Refusal ? error.headers : {})) headers.push(name, value)
    this.answer(error.status, this.#positionOf(error), headers, problemDocument(error))
  }

  /** What was written still goes out, but the final chunk does not. */
  #cut(): void {
    const { socket } = this.req
    const watch = this.context.watchdog.watch(() => socket.destroy())
    socket.once('close', () => watch.end())
    socket.destroySoon()
  }

  /** Counts and times the exchange, once. */
  done(outcome: Outcome): void {
    if (this.#done) return
    this.#done = true
    const elapsed = performance.now() - this.#moments.started
    this.context.metrics.operation(this.route.name, outcome, elapsed)
    const { policy } = this.context
    if (elapsed > policy.slowOperation && !this.route.long) {
      const stages = stagesOf(this.#moments, this.#moments.started + elapsed)
      this.#log('warn', 'slow operation', outcome, elapsed, { stage: slowest(stages), stagesMs: stages })
    }
    if (policy.audit !== 'None' && isAudited(policy, this.route.rights)) this.#log('info', 'audit', outcome, elapsed)
  }

  #log(level: 'info' | 'warn', message: string, outcome: Outcome, elapsed: number, more: object = {}): void {
    const { context, route, caller, res } = this
    context.log[level](
      {
        operation: route.name,
        ...keysOf(this.keyText, this.query),
        durationMs: Math.round(elapsed),
        ...more,
        outcome,
        ...(res.headersSent && { status: res.statusCode }),
        caller: caller ?? 'nobody known',
        ...(this.req.socket.remoteAddress !== undefined && { address: this.req.socket.remoteAddress }),
      },
      message,
    )
  }

  /** What stood when the request was judged; nothing where it is unknown or not this client's to see. */
  #positionOf(error: KvidxError): Position | undefined {
    if (this.route.rights === 'none' || error.code === 'unauthorized' || error.code === 'forbidden') return undefined
    if (error.code === 'unknown_outcome') return undefined
    // no engine, no state: what stands in its place is no position of this database
    if (this.database.engineVersion === '') return undefined
    return error instanceof Refusal && error.position ? error.position : this.database.state.position
  }

  /** Errors: overloaded, unless something was written or the answer is itself an error. */
  #answerLarge(status: number, headers: string[], body: Uint8Array): void {
    const { res, context } = this
    const more = Math.max(0, body.byteLength - this.#reserved)
    if (this.#written || status >= 400) context.bodies.takeAnyway(more)
    else context.bodies.take(more)
    res.once('close', () => context.bodies.give(more))
    res.writeHead(status, headers)
    let sent = 0
    // behind an earlier answer on its connection it waits for that one's reader, who has a watch already
    const expire = (): void => {
      if (res.socket) res.destroy()
      else watch = context.watchdog.watch(expire)
    }
    let watch = context.watchdog.watch(expire)
    const send = (): void => {
      watch.progress()
      while (sent < body.byteLength) {
        const piece = body.subarray(sent, sent + LARGE)
        sent += piece.byteLength
        if (!res.write(piece)) return
      }
      res.end()
      this.done(outcomeOf(status))
    }
    res.on('drain', send)
    res.once('close', () => {
      watch.end()
      this.done('aborted')
    })
    send()
  }

  /**
   * The client may still be sending. A small rest is read and thrown away, so that the connection lives on. Otherwise the whole
   * answer goes out at once, but the connection is closed only after a while of reading: closing with unread input makes
   * the kernel send a reset, which can reach the client before the answer does.
   */
  #answerBeforeBody(status: number, headers: string[], body: Uint8Array | string | undefined): void {
    const { req, res } = this
    const { discardBytes } = this.context.limits
    const announced = Number(req.headers['content-length'] ?? Number.NaN)
    const keep = !this.awaitsContinue && !(announced - this.received > discardBytes)
    let discarded = 0
    const watch = this.context.watchdog.watch(() => req.socket.destroy())
    const finish = (): void => {
      watch.end()
      if (!res.writableEnded) res.end()
    }
    req.on('data', (chunk: Buffer) => {
      watch.progress()
      discarded += chunk.length
      if (discarded > discardBytes * 2) {
        finish()
        req.socket.destroySoon()
      }
    })
    req.once('end', finish)
    req.once('close', finish)
    if (!keep) headers.push('connection', 'close')
    res.writeHead(status, headers)
    if (keep || this.awaitsContinue) res.end(body)
    else if (body !== undefined) res.write(body)
    if (keep || !this.awaitsContinue) req.resume()
  }
}

/** A KvidxError whose answer carries headers, or another position than the newest. */
export class Refusal extends KvidxError {
  readonly headers: Readonly<Record<string, string>>
  readonly position: Position | undefined

  constructor(
    error: KvidxError,
    also: { readonly headers?: Readonly<Record<string, string>>; readonly position?: Position },
  ) {
    super(error.code, error.message, error.details, error.cause)
    this.headers = also.headers ?? {}
    this.position = also.position
  }
}

function outcomeOf(status: number): Outcome {
  return status < 400 ? 'ok' : status < 500 ? 'rejected' : 'failed'
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
