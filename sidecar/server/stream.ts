import type { Position } from '../database/operation.ts'
import { giveBack } from '../database/packed-stream.ts'
import { formatPosition } from '../database/position.ts'
import { ClientGone, type Exchange } from './exchange.ts'

/** Aborted when the client goes away. */
export function clientSignal(exchange: Exchange): AbortSignal {
  const controller = new AbortController()
  exchange.res.once('close', () => {
    if (!exchange.res.writableFinished) controller.abort(new ClientGone('the client went away'))
  })
  return controller.signal
}

/**
 * Sends chunks as they come, at the pace of the client: the next one is asked for when the last one has found room. The head is sent
 * with the first chunk, so that what fails before it is still a problem document. A failure in the middle ends the connection
 * without the final chunk; a client that does not read for `idleTimeout` is let go.
 */
export async function sendStream(
  exchange: Exchange,
  position: Position,
  headers: string[],
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { res } = exchange
  const iterator = chunks[Symbol.asyncIterator]()
  try {
    let step = await iterator.next()
    if (res.destroyed) throw new ClientGone('the client went away')
    writeHead(exchange, position, headers)
    for (; !step.done; step = await iterator.next()) {
      if (res.destroyed) throw new ClientGone('the client went away')
      if (step.value.byteLength === 0) continue
      const chunk = step.value
      if (!res.write(chunk, () => giveBack(chunk))) await drained(exchange)
    }
  } finally {
    await iterator.return?.()
  }
  res.end()
  exchange.done('ok')
}

/** Sends the head of a stream now, before its first chunk is there. */
export function writeHead(exchange: Exchange, position: Position, headers: string[]): void {
  const { res } = exchange
  if (res.headersSent) return
  headers.push('kvidx-position', formatPosition(position))
  res.writeHead(200, headers)
}

/** Resolves when the client has read enough. Errors: ClientGone, also when it took too long. */
function drained(exchange: Exchange): Promise<void> {
  const { res, context } = exchange
  return new Promise((resolve, reject) => {
    const watch = context.watchdog.watch(() => {
      context.log.info({ operation: exchange.route.name }, 'a client did not read its answer; connection closed')
      res.destroy()
    })
    const onDrain = (): void => {
      cleanUp()
      resolve()
    }
    const onClose = (): void => {
      cleanUp()
      reject(new ClientGone('the client went away'))
    }
    const cleanUp = (): void => {
      watch.end()
      res.off('drain', onDrain)
      res.off('close', onClose)
    }
    res.on('drain', onDrain)
    res.on('close', onClose)
    if (res.destroyed) onClose()
  })
}
