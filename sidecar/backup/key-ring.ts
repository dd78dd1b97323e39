import { createHash } from 'node:crypto'
import { KvidxError } from '../../src/common/errors.ts'

export const ENCRYPTED_MAGIC = Buffer.from('KVIDXENC')

/** A key of 32 bytes and its id, which is made from the key, so that two keys never share one. */
export interface MasterKey {
  readonly bytes: Buffer
  /** First 16 hex digits of SHA-256("kvidx key id" and the 32 bytes). Not secret. */
  readonly id: string
}

/** A key from 32 raw bytes. Errors: invalid_parameter. */
export function masterKey(bytes: Uint8Array): MasterKey {
  if (bytes.length !== 32)
    throw new KvidxError('invalid_parameter', `an encryption key has ${bytes.length} bytes (allowed: 32)`, {
      field: 'key',
    })
  const id = createHash('sha256').update('kvidx key id').update(bytes).digest('hex').slice(0, 16)
  return { bytes: Buffer.from(bytes), id }
}

/** A key as a file or Secret holds it: 32 raw bytes, 64 hex digits, or base64 of 32 bytes, white space around ignored. Errors: invalid_parameter, without the value. */
export function parseMasterKey(content: Uint8Array): MasterKey {
  if (content.length === 32) return masterKey(content)
  const text = Buffer.from(content).toString('latin1').trim()
  if (/^[0-9a-f]{64}$/i.test(text)) return masterKey(Buffer.from(text, 'hex'))
  if (/^[A-Za-z0-9+/]{43}=?$/.test(text)) return masterKey(Buffer.from(text, 'base64'))
  throw new KvidxError(
    'invalid_parameter',
    `the encryption key has ${content.length} bytes that are no key (allowed: 32 raw bytes, 64 hex digits, or base64 of 32 bytes)`,
    { field: 'key' },
  )
}

/** All keys that may be needed to read; the first one encrypts what is written. Rotation: put the new key in front, keep the old ones while backups need them. */
export class KeyRing {
  readonly #keys: ReadonlyMap<string, MasterKey>
  /** Encrypts new files; undefined: they are not encrypted. */
  readonly current: MasterKey | undefined

  constructor(keys: readonly MasterKey[]) {
    this.current = keys[0]
    this.#keys = new Map(keys.map(key => [key.id, key]))
  }

  get ids(): readonly string[] {
    return [...this.#keys.keys()]
  }

  find(id: string): MasterKey | undefined {
    return this.#keys.get(id)
  }
}

/** Reads nothing that is encrypted, and encrypts nothing. */
export const NO_KEYS = new KeyRing([])
