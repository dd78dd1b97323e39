import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { constants, createZstdDecompress, zstdCompress } from 'node:zlib'
import { KvidxError } from '../../src/common/errors.ts'
import { giveBack } from '../database/packed-stream.ts'
import { ZstdFrameWalker } from './zstd-frames.ts'

const compressBlock = promisify(zstdCompress)

/**
 * Each block becomes a zstd frame of its own: blocks are compressed in parallel, and a file of several frames is a plain zstd file to everybody. Level 1
 * looks back half a MiB, so larger blocks would save next to nothing.
 */
const BLOCK = 2 * 1024 * 1024
const THREADS = 2
const CHUNK = 1024 * 1024
/** 64 MiB: what a reader gives to a file that says it needs a large window. Ours need 4 MiB at most. */
const LARGEST_WINDOW_LOG = 26

export const DEFAULT_ZSTD_LEVEL = 1

/** Compresses to zstd with checksums. Memory: three blocks, used again and again, and what comes out of two. @param level 1 … 19 */
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
      if (running.length >= THREADS) yield await oldest()
      block = free.pop() ?? Buffer.allocUnsafeSlow(BLOCK)
      have = 0
    }
    giveBack(chunk)
  }
  if (have > 0 || !given) start()
  while (running.length > 0) yield await oldest()
}

/** Decompresses a whole zstd file. Errors: backup_corrupt when it is damaged, cut off or followed by something else; errors of the source as they are. */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const engine = createZstdDecompress({
    chunkSize: CHUNK,
    params: { [constants.ZSTD_d_windowLogMax]: LARGEST_WINDOW_LOG },
  })
  let broken: unknown
  let failed: true | undefined = true
  const guarded = async function* () {
    const walker = new ZstdFrameWalker()
    const iterator = source[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await iterator.next()
        if (next.done) break
        walker.push(next.value)
        // an error that the engine throws in here is its own, not the source's
        failed = undefined
        yield next.value
        failed = true
      }
      walker.end()
    } catch (thrown) {
      if (failed) broken = thrown
      throw thrown
    } finally {
      await iterator.return?.()
    }
  }
  const feeding = pipeline(Readable.from(guarded(), { objectMode: true, highWaterMark: 1 }), engine)
  feeding.catch(() => undefined)
  try {
    for await (const chunk of engine as AsyncIterable<Buffer>) yield chunk
    await feeding
  } catch (thrown) {
    if (broken !== undefined) throw broken
    const { code, message } = thrown as NodeJS.ErrnoException
    if (code?.startsWith('Z'))
      throw new KvidxError('backup_corrupt', `the compressed data is damaged: ${message}`, {}, thrown)
    throw thrown
  } finally {
    engine.destroy()
  }
}
