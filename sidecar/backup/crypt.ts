import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { KvidxError } from '../../src/common/errors.ts'
import { ENCRYPTED_MAGIC, type KeyRing, type MasterKey } from './key-ring.ts'
import { blocks } from './store/body.ts'

/** Encrypted files: docs/formats.md, section 10. */

export const ENCRYPTION_ALGORITHM = 'AES-256-GCM'
/** Plaintext of every frame but the last. */
const FRAME = 1024 * 1024
/** Bytes that a reader accepts as frame size; each frame is held whole. */
const LARGEST_FRAME = 16 * 1024 * 1024
const TAG = 16
const HEADER = 80
const VERSION = 1
const INFO = 'kvidx backup file v1'
const CIPHER = 'aes-256-gcm'

interface FileKey {
  readonly key: Buffer
  /** Tells a wrong key from damage without touching a frame. */
  readonly check: Buffer
}

/** Encrypts a stream under a key of its own, derived from the master key and a random salt. */
export async function* encrypt(source: AsyncIterable<Uint8Array>, master: MasterKey): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(HEADER)
  ENCRYPTED_MAGIC.copy(header)
  header.writeUInt32LE(VERSION, 8)
  header.writeUInt32LE(FRAME, 12)
  randomBytes(32).copy(header, 16)
  const file = deriveKey(master, header)
  file.check.copy(header, 48)
  header.write(master.id, 64, 'ascii')
  yield header
  let index = 0
  for await (const { block, last } of withLast(blocks(source, FRAME))) {
    const cipher = createCipheriv(CIPHER, file.key, nonce(index++, last), { authTagLength: TAG })
    cipher.setAAD(header)
    const sealed = cipher.update(block)
    cipher.final()
    if (sealed.length > 0) yield sealed
    yield cipher.getAuthTag()
  }
}

/**
 * Decrypts what `encrypt` made. Nothing is given out before it is authenticated. Errors: wrong_encryption_key naming the
 * file's key and those of the ring; backup_corrupt naming the frame for damage, truncation, reordering, duplication and added bytes.
 */
export async function* decrypt(source: AsyncIterable<Uint8Array>, ring: KeyRing): AsyncGenerator<Uint8Array> {
  const reader = new HeaderReader(source)
  try {
    const header = await reader.header()
    const file = openHeader(header, ring)
    const size = header.readUInt32LE(12)
    let index = 0
    for await (const { block, last } of withLast(blocks(reader.rest(), size + TAG))) {
      const plain = openFrame(file.key, header, block, index++, last, size)
      if (plain.length > 0) yield plain
    }
  } finally {
    await reader.close()
  }
}

function openHeader(header: Buffer, ring: KeyRing): FileKey {
  if (!header.subarray(0, 8).equals(ENCRYPTED_MAGIC))
    throw damaged('is not an encrypted file of kvidx (it does not begin with KVIDXENC)')
  if (header.readUInt32LE(8) !== VERSION)
    throw damaged(`has format version ${header.readUInt32LE(8)} (known: ${VERSION})`)
  const size = header.readUInt32LE(12)
  if (size < 1 || size > LARGEST_FRAME) throw damaged(`has frames of ${size} bytes (allowed: 1 to ${LARGEST_FRAME})`)
  const id = header.toString('latin1', 64, 80)
  if (!/^[0-9a-f]{16}$/.test(id)) throw damaged('names a key whose id is not 16 hex digits')
  const master = ring.find(id)
  if (!master)
    throw new KvidxError(
      'wrong_encryption_key',
      `the file is encrypted with key ${id}; ${ring.ids.length === 0 ? 'no key was given' : `the given ones are ${ring.ids.join(', ')}`}`,
      { fileKeyId: id, givenKeyIds: ring.ids },
    )
  const file = deriveKey(master, header)
  // the id is made from the key, so this is damage of the header and not another key
  if (!file.check.equals(header.subarray(48, 64))) throw damaged(`has a damaged header (its check of key ${id} fails)`)
  return file
}

function openFrame(key: Buffer, header: Buffer, block: Buffer, index: number, last: boolean, size: number): Buffer {
  if (block.length < TAG) throw damaged(`ends inside frame ${index}`)
  const plain = tryFrame(key, header, block, index, last)
  if (plain) return plain
  // why it failed is worth one more try: the frame itself may be sound and stand where it should not
  const sound = tryFrame(key, header, block, index, !last) !== undefined
  if (sound && last) throw damaged(`is cut off behind frame ${index}`)
  if (sound) throw damaged(`goes on behind its last frame ${index}`)
  throw damaged(`is damaged, cut off or out of order in frame ${index} (bytes ${HEADER + index * (size + TAG)} and on)`)
}

/** The plaintext, or undefined when the frame is not authentic. */
function tryFrame(key: Buffer, header: Buffer, block: Buffer, index: number, last: boolean): Buffer | undefined {
  const decipher = createDecipheriv(CIPHER, key, nonce(index, last), { authTagLength: TAG })
  decipher.setAAD(header)
  decipher.setAuthTag(block.subarray(block.length - TAG))
  const plain = decipher.update(block.subarray(0, block.length - TAG))
  try {
    decipher.final()
    return plain
  } catch {
    return undefined
  }
}

/** Counter and last-flag are in the nonce, the header is authenticated with every frame: no frame fits anywhere else. */
function nonce(index: number, last: boolean): Buffer {
  const iv = Buffer.alloc(12)
  iv.writeBigUInt64LE(BigInt(index), 0)
  iv.writeUInt32LE(last ? 1 : 0, 8)
  return iv
}

function deriveKey(master: MasterKey, header: Buffer): FileKey {
  const derived = Buffer.from(hkdfSync('sha256', master.bytes, header.subarray(16, 48), INFO, 48))
  return { key: derived.subarray(0, 32), check: derived.subarray(32) }
}

/** Tells of each block whether it is the last: one is held back. */
async function* withLast(source: AsyncIterable<Buffer>): AsyncGenerator<{ block: Buffer; last: boolean }> {
  let held: Buffer | undefined
  for await (const block of source) {
    if (held) yield { block: held, last: false }
    held = block
  }
  if (held) yield { block: held, last: true }
}

/** Takes the header from the front of a stream and gives the rest. */
class HeaderReader {
  readonly #iterator: AsyncIterator<Uint8Array>
  #left = Buffer.alloc(0)

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]()
  }

  async header(): Promise<Buffer> {
    while (this.#left.length < HEADER) {
      const next = await this.#iterator.next()
      if (next.done) throw damaged(`has ${this.#left.length} bytes, fewer than the ${HEADER} of its header`)
      this.#left = Buffer.concat([this.#left, next.value])
    }
    const header = Buffer.from(this.#left.subarray(0, HEADER))
    this.#left = this.#left.subarray(HEADER)
    return header
  }

  async *rest(): AsyncGenerator<Uint8Array> {
    if (this.#left.length > 0) yield this.#left
    for (;;) {
      const next = await this.#iterator.next()
      if (next.done) return
      yield next.value
    }
  }

  /** Lets the source go, whether it was read to its end or not. */
  async close(): Promise<void> {
    await this.#iterator.return?.()
  }
}

function damaged(what: string): KvidxError {
  return new KvidxError('backup_corrupt', `the encrypted file ${what}`)
}
