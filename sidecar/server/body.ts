import { KvidxError } from '../../src/common/errors.ts'
import { ClientGone, type Exchange } from './exchange.ts'

/**
 * Reads a body that is held in memory, up to `limit` bytes. Its announced length is judged, and memory set aside, before a byte of
 * it is read. Errors: too_large, overloaded, request_timeout, unsupported_media_type; ClientGone when the client went away.
 */
export function readBody(exchange: Exchange, limit: number, hint = ''): Promise<Buffer> {
  const { req } = exchange
  refuseCoding(exchange)
  if (!exchange.hasBody) return Promise.resolve(NOTHING)
  const announced = Number(req.headers['content-length'] ?? Number.NaN)
  if (announced > limit) throw tooLarge(announced, limit, hint)
  if (announced <= SMALL && !exchange.awaitsContinue) return readSmall(exchange, limit)
  return collect(exchange, limit, hint)
}

/** Such a body mostly comes with its head, and what the kernel and the parser hold already needs no place in the budget. Bytes. */
const SMALL = 16 * 1024

/** On the next tick the parser has gone through all that the socket had; mostly the body is there, and needs no listeners. */
function readSmall(exchange: Exchange, limit: number): Promise<Buffer> {
  const { req } = exchange
  return new Promise((resolve, reject) => {
    process.nextTick(() => {
      if (!req.complete) {
        collect(exchange, limit, '').then(resolve, reject)
        return
      }
      const body: Buffer = req.read() ?? NOTHING
      exchange.received = body.length
      resolve(body)
    })
  })
}

/**
 * Sets memory aside for a body that is held: what is announced, else as it grows. What it returns is called after each piece, and judges
 * length and pace. Errors, now and then: too_large, overloaded, request_timeout.
 */
export function holdBody(exchange: Exchange, limit: number, hint = ''): () => void {
  const { req, res, context } = exchange
  const { idleTimeout, minimumRate } = context.limits
  const started = performance.now()
  const announced = Number(req.headers['content-length'] ?? Number.NaN)
  if (announced > limit) throw tooLarge(announced, limit, hint)
  let reserved = 0
  const reserve = (bytes: number): void => {
    context.bodies.take(bytes - reserved)
    reserved = bytes
  }
  if (announced > SMALL) reserve(announced)
  // the answer has gone, or nobody waits for it: then the body is no longer needed either
  res.once('close', () => context.bodies.give(reserved))
  return () => {
    const { received } = exchange
    if (received > limit) throw tooLarge(received, limit, hint)
    if (received > Math.max(SMALL, reserved)) reserve(Math.min(limit, Math.max(received, reserved * 2)))
    const elapsed = performance.now() - started
    if (elapsed > idleTimeout && received < ((elapsed - idleTimeout) / 1000) * minimumRate)
      throw timedOut(`the body came slower than ${minimumRate} bytes a second`)
  }
}

async function collect(exchange: Exchange, limit: number, hint: string): Promise<Buffer> {
  const { req, res, context } = exchange
  if (req.destroyed) throw new ClientGone('the client went away inside its body')
  const judge = holdBody(exchange, limit, hint)
  if (exchange.awaitsContinue) {
    exchange.awaitsContinue = false
    res.writeContinue()
  }
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    const { idleTimeout } = context.limits
    const watch = context.watchdog.watch(() => stop(timedOut(`no byte of the body came for ${idleTimeout} ms`)))
    const onData = (chunk: Buffer): undefined => {
      exchange.received += chunk.length
      try {
        judge()
      } catch (error) {
        return stop(error)
      }
      watch.progress()
      pieces.push(chunk)
    }
    const onEnd = (): void => {
      cleanUp()
      resolve(pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces))
    }
    const onClose = (): void => stop(new ClientGone('the client went away inside its body'))
    const cleanUp = (): void => {
      watch.end()
      req.off('data', onData)
      req.off('end', onEnd)
      req.off('close', onClose)
    }
    const stop = (error: unknown): undefined => {
      cleanUp()
      reject(error)
    }
    req.on('data', onData)
    req.on('end', onEnd)
    req.on('close', onClose)
  })
}

/**
 * The body piece by piece, at the pace of whoever takes them. Errors: request_timeout when the client stops sending, not_ready when the process stops before the end,
 * ClientGone when it goes away, so that half a file is never taken for a whole one.
 */
export async function* streamBody(exchange: Exchange): AsyncGenerator<Buffer> {
  const { req, res, context } = exchange
  refuseCoding(exchange)
  if (!exchange.hasBody) return
  if (exchange.awaitsContinue) {
    exchange.awaitsContinue = false
    res.writeContinue()
  }
  const { limits, ending } = context
  const { idleTimeout } = limits
  // destroyOnReturn would close the connection before a refusal is answered
  const iterator = req.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]()
  let late = Promise.withResolvers<never>()
  const stop = (): void => late.reject(stopped())
  ending.addEventListener('abort', stop)
  try {
    for (;;) {
      // one for each piece: a promise that is raced again and again keeps all that waited for it
      late = Promise.withResolvers<never>()
      late.promise.catch(() => {})
      const watch = context.watchdog.watch(() =>
        late.reject(timedOut(`no byte of the body came for ${idleTimeout} ms`)),
      )
      let step: IteratorResult<Buffer>
      try {
        // one that sends and sends is ended, too
        if (ending.aborted) throw stopped()
        step = await Promise.race([iterator.next(), late.promise])
      } catch (error) {
        if (error instanceof KvidxError) throw error
        throw new ClientGone('the client went away inside its body', { cause: error })
      } finally {
        watch.end()
      }
      if (step.done) break
      exchange.received += step.value.length
      yield step.value
    }
  } finally {
    ending.removeEventListener('abort', stop)
    // gives the stream back, so that the rest can be thrown away; not awaited, because it waits for a read under way
    iterator.return?.()?.catch(() => {})
  }
  if (!req.complete) throw new ClientGone('the client went away inside its body')
}

/** For calls without a body. Errors: invalid_body when one is announced. */
export function refuseBody(exchange: Exchange): void {
  if (exchange.hasBody) throw new KvidxError('invalid_body', 'this call takes no body')
}

const NOTHING = Buffer.alloc(0)

function refuseCoding(exchange: Exchange): void {
  const coding = exchange.header('content-encoding')
  if (coding !== undefined && coding !== 'identity')
    throw new KvidxError(
      'unsupported_media_type',
      `content-encoding: '${coding}' is not supported (allowed: identity)`,
      {
        field: 'content-encoding',
      },
    )
}

function tooLarge(bytes: number, limit: number, hint: string): KvidxError {
  return new KvidxError('too_large', `the body has at least ${bytes} bytes (limit: ${limit})${hint}`, { limit })
}

function stopped(): KvidxError {
  return new KvidxError('not_ready', 'the database is stopping; the file had not ended')
}

function timedOut(message: string): KvidxError {
  return new KvidxError('request_timeout', message)
}
