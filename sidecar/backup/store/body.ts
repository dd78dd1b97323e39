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

/** A stream as blocks of exactly `size` bytes, the last one shorter; at least one block, so an empty stream gives an empty one. Each block is a copy of its own. */
export async function* blocks(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Buffer> {
  let block = Buffer.alloc(0)
  let have = 0
  let given = false
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const take = Math.min(size - have, chunk.length - at)
      if (block.length < have + take) block = grown(block, have, Math.min(size, Math.max(have + take, 2 * have)))
      block.set(chunk.subarray(at, at + take), have)
      have += take
      at += take
      if (have === size) {
        yield block
        given = true
        block = Buffer.alloc(0)
        have = 0
      }
    }
  }
  if (have > 0 || !given) yield block.subarray(0, have)
}

function grown(block: Buffer, have: number, length: number): Buffer<ArrayBuffer> {
  const larger = Buffer.allocUnsafeSlow(length)
  block.copy(larger, 0, 0, have)
  return larger
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
