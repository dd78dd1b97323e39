import { KvidxError } from '../../../src/common/errors.ts'
import type { ObjectBody } from './store.ts'

/** Throws `cancelled`, with the signal's reason as cause, once the signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(signal)
}

export function cancelled(signal: AbortSignal): KvidxError {
  const reason: unknown = signal.reason
  if (reason instanceof KvidxError) return reason
  return new KvidxError('cancelled', 'the work was cancelled', {}, reason)
}

/** A body as a stream. */
export function chunksOf(body: ObjectBody): AsyncIterable<Uint8Array> {
  return body instanceof Uint8Array ? single(body) : body
}

async function* single(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes
}

/** A stream as blocks of exactly `size` bytes, the last one shorter; at least one block, so an empty stream gives an empty one. Each block is a copy. */
export async function* blocks(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Buffer> {
  let pieces: Uint8Array[] = []
  let have = 0
  let given = false
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const take = Math.min(size - have, chunk.length - at)
      pieces.push(chunk.subarray(at, at + take))
      have += take
      at += take
      if (have === size) {
        yield Buffer.concat(pieces, size)
        given = true
        pieces = []
        have = 0
      }
    }
    // the chunk belongs to its source again once the next one is asked for
    if (pieces.length > 0) pieces = [Buffer.concat(pieces, have)]
  }
  if (have > 0 || !given) yield Buffer.concat(pieces, have)
}

/** All of a stream in memory. Errors: too_large above `limit` bytes, before they are taken. */
export async function readAll(source: AsyncIterable<Uint8Array>, limit: number, what: string): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let have = 0
  for await (const chunk of source) {
    have += chunk.length
    if (have > limit) throw new KvidxError('too_large', `${what} has more than ${limit} bytes`, { limit })
    pieces.push(Buffer.from(chunk))
  }
  return Buffer.concat(pieces, have)
}
