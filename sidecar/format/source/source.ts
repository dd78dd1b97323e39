import { createReadStream } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { KvidxError } from '../../../src/common/errors.ts'
import { decompress } from '../zstd.ts'
import { type Compression, DETECT_BYTES, detectCompression, detectDirectory, detectFile } from './detect.ts'
import { openExport } from './export-stream.ts'
import type { RecordSource, SourceKind } from './record-source.ts'
import { openSqliteFile } from './sqlite-file.ts'

const CHUNK = 256 * 1024

export interface SourceOptions {
  /** Largest data of one record in bytes. */
  readonly maxDataBytes: number
  /** What it must be; found by its content when absent, `invalid_body` when it is something else. */
  readonly expected?: SourceKind
  /** A directory for copies of databases: without it they are opened where they lie and must be the caller's own. */
  readonly scratch?: string
}

/**
 * Opens whatever holds records: an export (also compressed with gzip or zstd), a kvidxkit database, or a stream of an export. What it is shows from its
 * content. Errors: `invalid_body` when it is nothing known, `engine_io`, `engine_unavailable` (no library for this engine).
 */
export async function openSource(
  from: string | AsyncIterable<Uint8Array>,
  options: SourceOptions,
): Promise<RecordSource> {
  if (typeof from !== 'string') return openStream(from, options, 'the stream')
  try {
    if ((await stat(from)).isDirectory()) return await openDirectory(from, options)
    const start = await readStart(from)
    if (detectCompression(start) === undefined) {
      const kind = expectKind(detectFile(start), options, from)
      if (kind === 'sqlite') return await openSqliteFile(from, scratchOf(options))
    }
    const file = createReadStream(from, { highWaterMark: CHUNK })
    return await openStream(file, options, from)
  } catch (thrown) {
    if (thrown instanceof KvidxError) throw thrown
    throw new KvidxError('engine_io', `${from} cannot be read: ${String(thrown)}`, { path: from }, thrown)
  }
}

async function openDirectory(path: string, options: SourceOptions): Promise<RecordSource> {
  const kind = expectKind(detectDirectory(await readdir(path)), options, path)
  // loaded only here: RocksDB needs a library of the system
  if (kind === 'rocksdb') return (await import('./rocksdb-directory.ts')).openRocksdbDirectory(path, scratchOf(options))
  return (await import('./lmdb-directory.ts')).openLmdbDirectory(path, scratchOf(options))
}

async function openStream(
  stream: AsyncIterable<Uint8Array>,
  options: SourceOptions,
  name: string,
): Promise<RecordSource> {
  let peeked = await peek(stream)
  try {
    const compression = detectCompression(peeked.start)
    if (compression !== undefined) peeked = await peek(unpack(peeked, compression, name))
    const kind = expectKind(detectFile(peeked.start), options, name)
    if (kind === 'sqlite') {
      throw new KvidxError('invalid_body', `${name} is a SQLite database: give the path of its file, not a stream`)
    }
    return openExport(peeked.chunks(), kind, { maxDataBytes: options.maxDataBytes }, peeked.close)
  } catch (thrown) {
    await peeked.close()
    throw thrown
  }
}

function expectKind<Kind extends SourceKind>(found: Kind | undefined, options: SourceOptions, name: string): Kind {
  const known = 'a kvidxkit export (BINARY, JSON, CSV), NDJSON, or a kvidxkit database (SQLite, RocksDB, LMDB)'
  if (found === undefined)
    throw new KvidxError('invalid_body', `${name} is not of a known kind; expected ${options.expected ?? known}`)
  if (options.expected !== undefined && found !== options.expected) {
    throw new KvidxError('invalid_body', `${name} is ${found}; expected ${options.expected}`, {
      found,
      expected: options.expected,
    })
  }
  return found
}

function scratchOf(options: SourceOptions): { scratch?: string } {
  return options.scratch === undefined ? {} : { scratch: options.scratch }
}

async function readStart(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(DETECT_BYTES), 0, DETECT_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** A stream whose beginning was looked at. */
interface Peeked {
  readonly start: Uint8Array
  /** The whole stream, the start included; may be called once. */
  chunks(): AsyncGenerator<Uint8Array>
  /** Ends the stream, read or not. */
  close(): Promise<void>
}

async function peek(stream: AsyncIterable<Uint8Array>): Promise<Peeked> {
  const iterator = stream[Symbol.asyncIterator]()
  const first: Uint8Array[] = []
  let length = 0
  while (length < DETECT_BYTES) {
    const next = await iterator.next()
    if (next.done) break
    first.push(next.value)
    length += next.value.length
  }
  return {
    start: Buffer.concat(first),
    async *chunks() {
      yield* first
      for (;;) {
        const next = await iterator.next()
        if (next.done) return
        yield next.value
      }
    },
    async close() {
      await iterator.return?.()
    },
  }
}

async function* unpack(packed: Peeked, compression: Compression, name: string): AsyncGenerator<Uint8Array> {
  try {
    yield* compression === 'gzip' ? gunzip(packed.chunks()) : decompress(packed.chunks())
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    if (code !== 'backup_corrupt' && !code?.startsWith('Z_')) throw thrown
    throw new KvidxError(
      'invalid_body',
      `${name}: the ${compression} data is damaged or cut off`,
      { compression },
      thrown,
    )
  } finally {
    await packed.close()
  }
}

async function* gunzip(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const engine = createGunzip()
  // its failure comes out of the loop below
  const done = pipeline(packed, engine).catch(() => {})
  try {
    for await (const chunk of engine) yield chunk as Uint8Array
  } finally {
    engine.destroy()
    await done
  }
}
