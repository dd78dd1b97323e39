import { createHash } from 'node:crypto'
import { KvidxError } from '../../src/common/errors.ts'
import { compress, decompress } from '../format/zstd.ts'
import { decrypt, encrypt } from './crypt.ts'
import type { KeyRing } from './key-ring.ts'
import { ENCRYPTED_SUFFIX } from './layout.ts'
import type { Manifest, ManifestFile } from './manifest.ts'
import type { BackupStore } from './store/store.ts'
import type { Bandwidth } from './store/throttle.ts'

/** How files are written and read. */
export interface FileContext {
  readonly store: BackupStore
  readonly keys: KeyRing
  /** 1 … 19, default 1 */
  readonly level?: number
  readonly bandwidth?: Bandwidth
  readonly signal?: AbortSignal
}

/**
 * Compresses, encrypts (when the ring has a key), hashes and uploads a stream.
 * @param path where it goes, ends in `/` @param name without `.enc` @param plainAtMost upper bound of the stream's bytes, if known
 */
export async function storeFile(
  context: FileContext,
  path: string,
  name: string,
  content: ManifestFile['content'],
  source: AsyncIterable<Uint8Array>,
  plainAtMost?: number,
): Promise<ManifestFile> {
  const { store, keys, signal, bandwidth } = context
  let plainSize = 0
  let size = 0
  const hash = createHash('sha256')
  const counted = tap(source, chunk => {
    plainSize += chunk.length
  })
  const stored = tap(sealed(counted, keys, context.level), chunk => {
    size += chunk.length
    hash.update(chunk)
  })
  const full = keys.current ? name + ENCRYPTED_SUFFIX : name
  const atMost = plainAtMost === undefined ? undefined : largestStored(plainAtMost)
  await store.put(path + full, bandwidth ? bandwidth.limit(stored, signal) : stored, {
    ...(atMost !== undefined && { atMost }),
    ...(signal && { signal }),
  })
  return { name: full, content, size, sha256: hash.digest('hex'), plainSize }
}

/** The bytes of a file as they are stored. */
export function sealed(source: AsyncIterable<Uint8Array>, keys: KeyRing, level?: number): AsyncIterable<Uint8Array> {
  const compressed = compress(source, level)
  return keys.current ? encrypt(compressed, keys.current) : compressed
}

/** zstd adds at most 1/256 and a frame header a block, encryption 16 bytes a MiB. */
function largestStored(plain: number): number {
  return plain + Math.ceil(plain / 128) + 64 * 1024
}

/**
 * The plaintext of a backup's file. Size and SHA-256 of what is stored are compared with the manifest at the end of the stream, so nothing read from it
 * counts before it has ended. Errors: backup_corrupt naming the file; wrong_encryption_key when the ring lacks the manifest's key; the store's own.
 */
export async function* readFile(
  context: FileContext,
  path: string,
  file: ManifestFile,
  encryption: Manifest['encryption'],
): AsyncGenerator<Uint8Array> {
  const key = path + file.name
  if (encryption && !context.keys.find(encryption.keyId))
    throw new KvidxError(
      'wrong_encryption_key',
      `${key} is encrypted with key ${encryption.keyId}; ${givenKeys(context.keys)}`,
      { fileKeyId: encryption.keyId, givenKeyIds: context.keys.ids },
    )
  let size = 0
  let plainSize = 0
  const hash = createHash('sha256')
  const damaged = (what: string, cause?: unknown) =>
    new KvidxError('backup_corrupt', `${key}: ${what}`, { file: key }, cause)
  try {
    const object = await context.store.get(key, context.signal && { signal: context.signal })
    const stored = tap(object.chunks, chunk => {
      size += chunk.length
      hash.update(chunk)
    })
    for await (const chunk of opened(limited(context, stored), encryption !== undefined, context.keys)) {
      plainSize += chunk.length
      // a small file may claim to be endless
      if (plainSize > file.plainSize)
        throw damaged(`holds more than the ${file.plainSize} bytes that its manifest says`)
      yield chunk
    }
  } catch (thrown) {
    if (!(thrown instanceof KvidxError)) throw thrown
    if (thrown.code === 'backup_not_found') throw damaged('the file is missing', thrown)
    // the ring has the manifest's key, so a file that names another is not the one of the manifest
    if (thrown.code === 'wrong_encryption_key')
      throw damaged(`is not the file of its manifest: ${thrown.message}`, thrown)
    if (thrown.code === 'backup_corrupt' && thrown.details.file !== key) throw damaged(thrown.message, thrown)
    throw thrown
  }
  if (size !== file.size) throw damaged(`has ${size} bytes, its manifest says ${file.size}`)
  if (plainSize !== file.plainSize) throw damaged(`holds ${plainSize} bytes, its manifest says ${file.plainSize}`)
  const sha256 = hash.digest('hex')
  if (sha256 !== file.sha256) throw damaged(`has SHA-256 ${sha256}, its manifest says ${file.sha256}`)
}

/** Undoes `sealed`. */
export function opened(
  stored: AsyncIterable<Uint8Array>,
  encrypted: boolean,
  keys: KeyRing,
): AsyncIterable<Uint8Array> {
  return decompress(encrypted ? decrypt(stored, keys) : stored)
}

export function givenKeys(keys: KeyRing): string {
  return keys.ids.length === 0 ? 'no key was given' : `the given ones are ${keys.ids.join(', ')}`
}

function limited(context: FileContext, source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  return context.bandwidth ? context.bandwidth.limit(source, context.signal) : source
}

async function* tap(source: AsyncIterable<Uint8Array>, look: (chunk: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    look(chunk)
    yield chunk
  }
}
