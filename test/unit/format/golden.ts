import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { StreamFormat } from '../../../sidecar/database/database.ts'
import type { StoredRecord } from '../../../sidecar/engine/engine.ts'
import { createDecoder } from '../../../sidecar/format/decode.ts'
import type { DecodeOptions } from '../../../sidecar/format/decoder.ts'

export const FIXTURES = new URL('../../fixtures/kvidxkit/', import.meta.url)

export function fixture(path: string): Uint8Array {
  return readFileSync(new URL(path, FIXTURES))
}

interface Golden {
  readonly records: readonly {
    key: string
    term: string
    cmd: string
    length: number
    sha256: string
    expireAtMs: string | null
  }[]
  readonly count: number
  readonly digest: string
  readonly countBelow2p63: number
  readonly digestBelow2p63: string
  readonly orphanTtl: readonly { key: string; expireAtMs: string }[]
  readonly exports: Record<string, Record<string, { bytes: number; sha256: string }>>
}

export const golden = JSON.parse(Buffer.from(fixture('golden.json')).toString('utf8')) as Golden

/** The digest of golden.json: sha256 over one line a record, in unsigned key order. */
export function goldenDigest(records: readonly StoredRecord[]): string {
  const hash = createHash('sha256')
  for (const { key, term, cmd, data } of [...records].sort((a, b) => (a.key < b.key ? -1 : 1))) {
    hash.update(`${key} ${term} ${cmd} ${data.length} ${sha256(data)}\n`)
  }
  return hash.digest('hex')
}

export function sha256(...parts: Uint8Array[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

/** Decodes bytes that arrive in chunks of the given sizes (the last size goes on to the end). */
export function decodeAll(
  format: StreamFormat,
  bytes: Uint8Array,
  sizes: readonly number[] = [bytes.length || 1],
  options: Partial<DecodeOptions> = {},
): StoredRecord[] {
  const records: StoredRecord[] = []
  const decoder = createDecoder(format, { maxDataBytes: 64 * 1024 * 1024, ...options }, record => records.push(record))
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes[Math.min(i, sizes.length - 1)] ?? bytes.length
    decoder.push(bytes.slice(at, at + size))
    at += size
  }
  decoder.end()
  return records
}

/** Unsigned order, as every source but a foreign file gives it. */
export function byKey(records: readonly StoredRecord[]): StoredRecord[] {
  return [...records].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
}
