import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { constants, createZstdDecompress, zstdCompress } from 'node:zlib'
import { KvidxError } from '../../src/common/errors.ts'
import { pipelined } from './pipelined.ts'
import { blocks } from './store/body.ts'
import { ZstdFrameWalker } from './zstd-frames.ts'

const compressBlock = promisify(zstdCompress)

/** Each block becomes a zstd frame of its own: blocks are compressed in parallel, and a file of several frames is a plain zstd file to everybody. */
const BLOCK = 4 * 1024 * 1024
const THREADS = 2
const CHUNK = 1024 * 1024
/** 64 MiB: what a reader gives to a file that says it needs a large window. Ours need 4 MiB at most. */
const LARGEST_WINDOW_LOG = 26

export const DEFAULT_ZSTD_LEVEL = 1

/** Compresses to zstd with checksums. Memory: about five blocks of 4 MiB. @param level 1 … 19 */
export function compress(source: AsyncIterable<Uint8Array>, level = DEFAULT_ZSTD_LEVEL): AsyncGenerator<Uint8Array> {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 }
  return pipelined(blocks(source, BLOCK), THREADS, block => compressBlock(block, { params }))
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
