import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { constants, createZstdDecompress, zstdCompress, zstdDecompress } from 'node:zlib'
import { KvidxError } from '../../src/common/errors.ts'
import { pipelined } from '../../src/common/pipelined.ts'
import { giveBack } from '../database/packed-stream.ts'
import { damaged, ZstdFrameWalker } from './zstd-frames.ts'

const compressBlock = promisify(zstdCompress)
const decompressBlock = promisify(zstdDecompress)

/**
 * Each block becomes a zstd frame of its own: blocks are compressed in parallel, and a file of several frames is a plain zstd file to everybody. Level 1
 * looks back half a MiB, so larger blocks would save next to nothing.
 */
const BLOCK = 2 * 1024 * 1024
/** Blocks on their way at once: one more than two cores can take, so that none waits while this thread hashes and writes. */
const AHEAD = 3
const CHUNK = 1024 * 1024
/** 64 MiB: what a reader gives to a file that says it needs a large window. Ours need 4 MiB at most. */
const READ_PARAMS = { [constants.ZSTD_d_windowLogMax]: 26 }
/** What is held of a frame at most, packed and unpacked. */
const WHOLE = 2 * BLOCK

export const DEFAULT_ZSTD_LEVEL = 1

/** Compresses to zstd with checksums. Memory: four blocks, used again and again, and what comes out of three. @param level 1 … 19 */
export async function* compress(
  source: AsyncIterable<Uint8Array>,
  level = DEFAULT_ZSTD_LEVEL,
): AsyncGenerator<Uint8Array> {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 }
  const running: { block: Buffer<ArrayBuffer>; result: Promise<Buffer> }[] = []
  // buffers of this size are garbage that is collected late: they are reused instead
  const free: Buffer<ArrayBuffer>[] = []
  let block = Buffer.allocUnsafeSlow(BLOCK)
  let have = 0
  let given = false
  const start = () => {
    const result = compressBlock(block.subarray(0, have), { params, chunkSize: CHUNK })
    // a failure is met when its turn comes; until then it must not count as unhandled
    result.catch(() => undefined)
    running.push({ block, result })
    given = true
  }
  const oldest = async () => {
    const first = running.shift()
    if (!first) throw new KvidxError('internal', 'no block is being compressed')
    const compressed = await first.result
    free.push(first.block)
    return compressed
  }
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const take = Math.min(BLOCK - have, chunk.length - at)
      block.set(chunk.subarray(at, at + take), have)
      have += take
      at += take
      if (have < BLOCK) continue
      start()
      if (running.length >= AHEAD) yield await oldest()
      block = free.pop() ?? Buffer.allocUnsafeSlow(BLOCK)
      have = 0
    }
    giveBack(chunk)
  }
  if (have > 0 || !given) start()
  while (running.length > 0) yield await oldest()
}

/**
 * Decompresses a whole zstd file, of one frame or many. Frames as `compress` makes them are decompressed in parallel, while the caller works on what came before; one
 * that is larger, packed or unpacked, passes as a stream. Errors: backup_corrupt when the file is damaged, cut off or followed by something else; errors of the source as they are.
 */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pieces = pipelined(piecesOf(source), AHEAD + 1, async piece => ({
    ...piece,
    plain: piece.begins && piece.ends ? await decompressWhole(piece.bytes) : undefined,
  }))
  try {
    for (;;) {
      const next = await pieces.next()
      if (next.done) return
      if (next.value.plain) yield next.value.plain
      else yield* decompressLong(restOfFrame(next.value, pieces))
    }
  } finally {
    await pieces.return(undefined)
  }
}

/** A frame, or a part of one that has more than WHOLE bytes. */
interface Piece {
  readonly bytes: Buffer
  readonly begins: boolean
  readonly ends: boolean
}

async function* piecesOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Piece> {
  const walker = new ZstdFrameWalker()
  let held: Uint8Array[] = []
  let size = 0
  let begins = true
  const piece = (ends: boolean): Piece => {
    const made = { bytes: Buffer.concat(held), begins, ends }
    held = []
    size = 0
    begins = ends
    return made
  }
  let given = false
  for await (const chunk of source) {
    let from = 0
    for (const end of walker.push(chunk)) {
      held.push(chunk.subarray(from, end))
      from = end
      yield piece(true)
      given = true
    }
    if (from === chunk.length) continue
    held.push(chunk.subarray(from))
    size += chunk.length - from
    if (size > WHOLE) yield piece(false)
  }
  walker.end()
  if (!given) throw damaged('is damaged: there is nothing')
}

async function* restOfFrame(first: Piece, pieces: AsyncGenerator<Piece>): AsyncGenerator<Buffer> {
  yield first.bytes
  for (let { ends } = first; !ends; ) {
    const next = await pieces.next()
    if (next.done) return
    yield next.value.bytes
    ends = next.value.ends
  }
}

/** The content of a frame; undefined when it is larger than WHOLE. */
async function decompressWhole(frame: Buffer): Promise<Buffer | undefined> {
  try {
    return await decompressBlock(frame, { params: READ_PARAMS, chunkSize: BLOCK, maxOutputLength: WHOLE })
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return undefined
    throw namedDamage(thrown)
  }
}

async function* decompressLong(frame: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const engine = createZstdDecompress({ chunkSize: CHUNK, params: READ_PARAMS })
  const feeding = pipeline(Readable.from(frame, { objectMode: true, highWaterMark: 1 }), engine)
  feeding.catch(() => undefined)
  try {
    for await (const chunk of engine as AsyncIterable<Buffer>) yield chunk
    await feeding
  } catch (thrown) {
    throw namedDamage(thrown)
  } finally {
    engine.destroy()
  }
}

/** What the library says of damaged data; anything else as it is. */
function namedDamage(thrown: unknown): unknown {
  const { code, message } = thrown as NodeJS.ErrnoException
  return code?.startsWith('Z') ? damaged(`is damaged: ${message}`, thrown) : thrown
}
